"""What verdicts teach, on campaigns where the answer is known."""

import pytest

from ralph.core import findings
from ralph.core.findings import Move
from ralph.core.wording import plain
from ralph.events import Judged, Settled
from ralph.model import CrashKind, Direction, Verdict
from tests.core.states import Story, night


def test_near_misses_are_discards_that_measured_better_most_promising_first() -> None:
    assert [e.id for e in findings.near_misses(night().state)] == [16, 10]
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


def test_a_keep_within_noise_is_likely_false_and_a_clear_one_is_not() -> None:
    s = Story().start().baseline(0.9980, 0.9981, 0.9979)
    assert findings.expected_false_keeps(s.state) == 0.0
    for n in range(30):
        s.discard(f"idea {plain('x' * n)}", 0.9990)
    s.keep("a clear gain", 0.9900)
    clear = findings.expected_false_keeps(s.state)
    s.keep("a gain of one standard error", 0.9893)
    both = findings.expected_false_keeps(s.state)
    assert clear is not None
    assert both is not None
    assert clear < 0.001
    assert 0.5 < both - clear < 1.0


def test_a_keep_for_simplicity_claims_no_gain() -> None:
    s = Story().start().baseline(0.9980, 0.9981, 0.9979)
    s.keep("fewer lines, same score", 0.9980, lines_delta=-20)
    assert findings.expected_false_keeps(s.state) == 0.0


def test_without_noise_known_the_number_of_false_keeps_is_unknown() -> None:
    s = Story().start().baseline(0.998)
    id_ = s.propose("an idea")
    s.run(id_, 0.99)
    s.tell(Judged(id=id_, verdict=Verdict.KEEP, reason="lower", delta=-0.008, against=0))
    s.tell(Settled(id=id_))
    assert findings.expected_false_keeps(s.state) is None


def test_without_any_noise_a_keep_is_certain() -> None:
    s = Story().start()
    s.sigma = 0.0
    s.baseline(0.998, 0.998).keep("an idea", 0.997)
    assert findings.expected_false_keeps(s.state) == 0.0


def test_constants_nobody_changed_are_named() -> None:
    assert findings.untried(night().state) == ["train.py:EMBEDDING_LR"]


def test_totals_of_failures_outlive_the_look_back() -> None:
    s = Story().start().baseline(0.998, 0.999)
    for n in range(findings.LOOK_BACK + 5):
        s.crash("again", CrashKind.NAN, f"nan at step {n}")
    [failure] = findings.failures(s.state)
    assert (failure.total, len(failure.ids)) == (findings.LOOK_BACK + 5, findings.LOOK_BACK)
    assert failure.same == findings.LOOK_BACK
