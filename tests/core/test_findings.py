"""What verdicts teach, on campaigns where the answer is known."""

import random

import pytest

from ralph.core import findings
from ralph.core.gist import Move
from ralph.core.shelf import LOOK_BACK
from ralph.core.wording import plain
from ralph.events import Judged, Settled
from ralph.model import CrashKind, Direction, Verdict
from tests.core.states import Story, night


def test_near_misses_are_discards_that_measured_better_most_promising_first() -> None:
    assert [e.id for e in findings.near_misses(night().state)] == [16], "#10 was better by a tenth of its error only"
    assert [e.id for e in findings.near_misses(night().state, limit=1)] == [16]


def test_where_higher_is_better_a_near_miss_measured_higher() -> None:
    s = Story(direction=Direction.MAX, metric="accuracy").start().baseline(0.70, 0.71)
    s.discard("a little more", 0.7052)
    s.discard("a little less", 0.7048)
    assert [e.id for e in findings.near_misses(s.state)] == [1]


def test_a_constant_moved_the_same_way_three_times_in_vain_is_a_dead_end() -> None:
    ends = findings.dead_ends(night().state)
    assert [(end.move, end.ids) for end in ends] == [(Move(name="train.py:WARMUP_RATIO", way="higher"), (3, 5, 9))]
    assert str(ends[0].move) == "WARMUP_RATIO higher"


def test_an_idea_in_words_is_the_same_with_other_numbers() -> None:
    s = Story().start().baseline(0.998, 0.9985)
    for percent in (5, 10):
        s.discard(f"dropout {percent}% because it overfits", 1.01)
    assert [(e.idea, e.ids) for e in findings.dead_ends(s.state)] == [("dropout 10% because it overfits", (1, 2))]


@pytest.mark.parametrize("score", [0.9978, 0.998252])
def test_one_try_that_came_close_keeps_a_way_open(score: float) -> None:
    s = Story().start().baseline(0.998, 0.9985)
    for each in (1.01, 1.02, score):
        s.discard("more depth", each, constants={"train.py:DEPTH": 9})
    assert bool(findings.dead_ends(s.state)) is (score > 0.99825)


def test_a_keep_opens_a_way_again() -> None:
    s = Story().start().baseline(0.998, 0.9985)
    deeper = {"train.py:DEPTH": 9}
    for _ in range(3):
        s.discard("deeper", 1.01, constants=deeper)
    s.keep("deeper, with a smaller batch", 0.99, constants=deeper)
    assert findings.dead_ends(s.state) == []


def test_ways_are_judged_against_the_incumbent_of_their_time() -> None:
    s = Story().start().baseline(0.998, 0.9985)
    s.keep("much deeper", 0.99, constants={"train.py:DEPTH": 16})
    for _ in range(3):
        s.discard("in between", 1.01, constants={"train.py:DEPTH": 12})
    assert [str(end.move) for end in findings.dead_ends(s.state)] == ["DEPTH lower"]


def test_failures_of_a_kind_show_what_they_have_in_common() -> None:
    first, *rest = findings.failures(night().state)
    assert (first.kind, first.total, first.ids, first.same) == ("out of memory", 3, (4, 11, 18), 3)
    assert (first.shared, first.shared_by) == (Move(name="train.py:DEVICE_BATCH_SIZE", way="higher"), 2 + 1)
    assert [(f.kind, f.total, f.shared) for f in rest] == [("invalid", 1, None), ("nan", 1, None), ("void", 1, None)]


def test_a_clear_keep_counts_for_nothing_and_one_within_the_noise_as_one() -> None:
    s = Story().start().baseline(0.9980, 0.9981, 0.9979)
    assert findings.false_keeps(s.state) == 0.0
    for n in range(30):
        s.discard(f"idea {plain('x' * n)}", 0.9990, 0.99901)
    s.keep("a clear gain", 0.9900)
    assert findings.false_keeps(s.state) < 0.001
    s.keep("a gain of one standard error", 0.9893)
    assert findings.false_keeps(s.state) == pytest.approx(1.0, abs=0.01)


def test_the_bound_on_false_keeps_holds_when_nothing_is_ever_a_gain() -> None:
    """Two thousand ideas without effect, kept at one-sided 1%: about twenty false keeps, and the bound says no less."""
    rng = random.Random(7)
    s = Story().start().baseline(*(0.998 + rng.gauss(0, s_) for s_ in [0.0005] * 12))
    baseline = s.state.experiments[0].score
    assert baseline is not None
    se = s.sigma * (1 + 1 / 12) ** 0.5
    for n in range(2000):
        delta = rng.gauss(0, se)
        id_ = s.propose(f"idea {n}")
        s.run(id_, baseline + delta)
        verdict = Verdict.KEEP if delta / se < -2.326 else Verdict.DISCARD
        s.tell(Judged(id=id_, verdict=verdict, reason="", delta=delta, delta_se=se, against=0))
        s.tell(Settled(id=id_))
    bound = findings.false_keeps(s.state)
    assert 10 < len(s.state.keeps) < 32
    assert bound == pytest.approx(len(s.state.keeps), rel=0.35)


def test_a_keep_for_simplicity_claims_no_gain() -> None:
    s = Story().start().baseline(0.9980, 0.9981, 0.9979)
    s.keep("fewer lines, same score", 0.9980, lines_delta=-20)
    assert findings.false_keeps(s.state) == 0.0


def test_a_keep_of_unknown_noise_is_written_off() -> None:
    s = Story().start().baseline(0.998)
    id_ = s.propose("an idea")
    s.run(id_, 0.99)
    s.tell(Judged(id=id_, verdict=Verdict.KEEP, reason="lower", delta=-0.008, against=0))
    s.tell(Settled(id=id_))
    assert findings.false_keeps(s.state) == 1.0


def test_without_any_noise_a_keep_is_certain() -> None:
    s = Story().start()
    s.sigma = 0.0
    s.baseline(0.998, 0.998).keep("an idea", 0.997)
    assert findings.false_keeps(s.state) == 0.0


def test_constants_nobody_changed_are_named() -> None:
    assert findings.untried(night().state) == ["train.py:EMBEDDING_LR"]


def test_totals_of_failures_outlive_the_look_back() -> None:
    s = Story().start().baseline(0.998, 0.999)
    for n in range(LOOK_BACK + 5):
        s.crash("again", CrashKind.NAN, f"nan at step {n}")
    [failure] = findings.failures(s.state)
    assert (failure.total, len(failure.ids)) == (LOOK_BACK + 5, LOOK_BACK)
    assert failure.same == LOOK_BACK
