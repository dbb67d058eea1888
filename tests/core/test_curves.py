"""Curves: what is logged becomes a few numbers, whatever was logged; the past keeps a bounded number of them."""

import math
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ralph.core.curves import (
    INCUMBENT_RUNS,
    KEPT,
    LOOKS,
    POINTS,
    Past,
    after_rebase,
    after_run,
    after_verdict,
    at_looks,
    resample,
)
from ralph.events import RunEnded
from ralph.model import ArenaRecord, Direction, EarlyStop, Experiment, Outcome, ScoreMode, Verdict

ARENA = ArenaRecord(
    name="a", metric="m", direction=Direction.MIN, mode=ScoreMode.SEALED, hash="", device="cpu", budget_s=300.0
)
EARLY = EarlyStop(share=0.5, behind=2.0, allowed=1.0, expected=0.1)


def experiment(id_: int, *scores: float, verdict: Verdict = Verdict.DISCARD) -> Experiment:
    started = datetime(2026, 3, 8, tzinfo=UTC)
    return Experiment(id=id_, base="", started=started, agent="a", scores=scores, verdict=verdict)


def ended(id_: int, loss: float, run: int = 1, early: EarlyStop | None = None) -> RunEnded:
    return RunEnded(id=id_, run=run, outcome=Outcome.OK, curve=(loss,) * POINTS, early=early, train_s=300.0)


def after(past: Past, id_: int, loss: float, *scores: float, verdict: Verdict = Verdict.DISCARD) -> Past:
    best = experiment(0, 1.0, verdict=Verdict.KEEP)
    past = after_run(past, ended(id_, loss), 0)
    return after_verdict(past, experiment(id_, *scores, verdict=verdict), best, ARENA)


def with_baseline(loss: float = 4.0) -> Past:
    past = after_run(Past(), ended(0, loss), None)
    return after_verdict(past, experiment(0, 1.0, verdict=Verdict.KEEP), None, ARENA)


def test_a_point_is_the_mean_of_what_was_logged_in_a_tenth_of_the_budget_before_it() -> None:
    curve = resample([(0.4, 8.0), (0.9, 6.0), (1.0, 4.0), (9.99, 2.0)], 10.0)
    assert curve[:4] == (8.0, 6.0, 5.0, None)
    assert curve[-1] == 2.0
    assert len(curve) == POINTS


def test_silence_is_no_loss_so_that_a_run_which_stops_logging_is_not_held_to_its_beginning() -> None:
    curve = resample([(0.1, 9.0)], 10.0)
    assert at_looks(curve) == (None,) * len(LOOKS)


@given(st.lists(st.tuples(st.floats(), st.floats())))
def test_whatever_is_logged_a_curve_is_finite_numbers_and_gaps(logged: list[tuple[float, float]]) -> None:
    curve = resample(logged, 300.0)
    assert len(curve) == POINTS
    assert all(loss is None or math.isfinite(loss) for loss in curve)


def test_a_curve_of_another_number_of_points_says_nothing() -> None:
    assert at_looks((1.0, 2.0)) == (None,) * len(LOOKS)


def test_the_incumbents_curves_are_those_of_its_runs_and_change_with_a_keep() -> None:
    past = with_baseline(4.0)
    past = after_run(past, ended(0, 5.0, run=2), None)
    assert [curve[0] for curve in past.kept[0]] == [4.0, 5.0]
    past = after(past, 1, 3.0, 0.9, verdict=Verdict.KEEP)
    assert [curve[0] for curve in past.kept[1]] == [3.0]


def test_a_keep_that_logs_nothing_leaves_nothing_to_be_held_against() -> None:
    past = after_verdict(with_baseline(), experiment(1, 0.9, verdict=Verdict.KEEP), experiment(0, 1.0), ARENA)
    assert past.kept[1] == ()
    assert past.gaps((4.0,) * len(LOOKS), 1) == (None,) * len(LOOKS)
    assert past.gaps((4.0,) * len(LOOKS), None) == (None,) * len(LOOKS)


def test_what_is_remembered_is_the_difference_to_the_incumbent_of_the_time() -> None:
    (one,) = after(with_baseline(4.0), 1, 4.5, 1.2).finished
    assert one.gaps == (0.5,) * len(LOOKS)
    assert round(one.behind, 9) == 0.2
    assert not one.contender
    (other,) = after(with_baseline(4.0), 1, 4.5, 0.99, 1.01).finished
    assert other.contender


def test_where_higher_is_better_a_lower_score_is_behind() -> None:
    past = after_run(with_baseline(), ended(1, 4.5), 0)
    past = after_verdict(past, experiment(1, 0.8), experiment(0, 1.0), replace(ARENA, direction=Direction.MAX))
    assert round(past.finished[0].behind, 9) == 0.2


def test_an_incumbent_that_logs_less_than_its_loss_is_no_bar_to_others() -> None:
    past = with_baseline(4.0)
    for id_ in range(1, 6):
        past = after(past, id_, 4.1, 1.0, 1.0)
    liar = after(past, 6, 0.0, 0.9, verdict=Verdict.KEEP)
    assert liar.kept[6][0][0] == 0.0
    assert round(liar.gaps((4.1,) * len(LOOKS), 6)[0] or 0.0, 9) == 0.0


def test_crashed_void_and_invalid_experiments_are_not_remembered() -> None:
    for verdict in (Verdict.CRASH, Verdict.VOID, Verdict.INVALID):
        past = after_verdict(with_baseline(), experiment(1, verdict=verdict), experiment(0, 1.0), ARENA)
        assert (past.finished, past.begun) == ((), {})


def test_a_stopped_run_counts_with_the_time_it_saved_and_is_no_experience() -> None:
    stopped = RunEnded(id=1, run=1, outcome=Outcome.STOPPED, early=EARLY, train_s=150.0, curve=(9.0,) * POINTS)
    past = after_run(with_baseline(), stopped, 0)
    past = after_verdict(past, experiment(1), experiment(0, 1.0), ARENA)
    assert (past.stopped, past.saved_s, past.finished) == (1, 150.0, ())


def test_spot_checks_are_counted_with_those_that_turned_out_to_be_contenders() -> None:
    past = with_baseline()
    for id_, scores in ((1, (1.3,)), (2, (0.99, 1.0))):
        past = after_run(past, ended(id_, 9.0, early=replace(EARLY, spared=True)), 0)
        past = after_verdict(past, experiment(id_, *scores), experiment(0, 1.0), ARENA)
    assert (past.spared, past.mistaken) == (2, 1)
    assert [f.spared for f in past.finished] == [True, True]


def test_the_past_is_bounded_at_any_age() -> None:
    past = with_baseline()
    for id_ in range(1, KEPT + 50):
        past = after(past, id_, 4.0, 1.1)
    for run in range(2, 50):
        past = after_run(past, ended(0, 4.0, run=run), None)
    assert (len(past.finished), len(past.kept[0]), past.begun) == (KEPT, INCUMBENT_RUNS, {})
    for id_ in range(1, 20):
        past = after(past, id_, 4.0, 0.9, verdict=Verdict.KEEP)
    assert list(past.kept) == [16, 17, 18, 19]


def test_a_candidate_on_an_incumbent_that_was_beaten_meanwhile_is_held_against_the_one_it_was_made_on() -> None:
    past = after(with_baseline(4.0), 1, 3.0, 0.9, verdict=Verdict.KEEP)
    assert past.gaps((4.5,) * len(LOOKS), 0) == (0.5,) * len(LOOKS)
    assert past.gaps((4.5,) * len(LOOKS), 1) == (1.5,) * len(LOOKS)


def test_what_ran_before_it_was_carried_over_is_forgotten_since_it_is_another_program_now() -> None:
    past = after_run(with_baseline(4.0), ended(1, 9.0), 0)
    past = after_run(after_rebase(past, 1), ended(1, 4.5, run=2), 0)
    (one,) = after_verdict(past, experiment(1, 1.2), experiment(0, 1.0), ARENA).finished
    assert one.gaps == (0.5,) * len(LOOKS)
