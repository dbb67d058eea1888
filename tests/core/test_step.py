"""What to do next, as a pure function: every phase, every limit, and how a drain ends."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ralph.core.actions import Action, Brief, Commit, End, Measure, Propose, Record, Score, Settle, Wait
from ralph.core.decision import KeepRule
from ralph.core.patience import Patience
from ralph.core.step import Limits, Rules, next_actions
from ralph.errors import ExitStatus
from ralph.events import (
    AgentEnded,
    Briefed,
    Judged,
    Paused,
    Refused,
    Resumed,
    RunEnded,
    RunStarted,
    Scored,
    Settled,
    StopRequested,
)
from ralph.model import AgentOutcome, CrashKind, Outcome, Verdict
from tests.core.states import Story, small

RULES = Rules(keep=KeepRule(max_runs=3))
DONE, CONFIG, PARKED = ExitStatus.DONE, ExitStatus.CONFIG, ExitStatus.PARKED


def actions(story: Story, rules: Rules = RULES) -> list[Action]:
    return next_actions(story.state, story.at, rules)


def only(story: Story, rules: Rules = RULES) -> Action:
    (action,) = actions(story, rules)
    return action


def started() -> Story:
    return Story().start()


def with_baseline(*scores: float) -> Story:
    return Story().start().baseline(*(scores or (0.9979, 0.9971, 0.9975)))


def briefed(story: Story) -> int:
    """Carry out what step wants until an agent is to run; the id."""
    action = only(story)
    assert isinstance(action, Brief)
    story.tell(Briefed(id=action.id, base=action.base, agent=action.agent, attempt=action.attempt))
    return action.id


def proposed(story: Story) -> int:
    id_ = briefed(story)
    story.tell(AgentEnded(id=id_, attempt=1, outcome=AgentOutcome.PROPOSED, reason="", seconds=1))
    return id_


def test_before_the_campaign_is_opened_there_is_nothing_to_do() -> None:
    assert next_actions(Story().state, Story().at, RULES) == []


def test_the_baseline_is_run_under_several_seeds_before_anything_else() -> None:
    story, seeds = started(), []
    for _ in range(3):
        action = only(story)
        assert isinstance(action, Record)
        assert isinstance(action.event, RunStarted)
        seeds.append(action.event.seed)
        story.tell(action.event)
        assert only(story) == Measure(id=0, run=len(seeds))
        story.tell(RunEnded(id=0, run=len(seeds), outcome=Outcome.OK, seconds=1))
        assert only(story) == Score(id=0, run=len(seeds))
        story.tell(Scored(id=0, run=len(seeds), outcome=Outcome.OK, score=1.0 + len(seeds) / 1000))
    assert seeds == [1, 2, 3]
    assert only(story) == Record(event=Judged(id=0, verdict=Verdict.KEEP, reason="baseline"))


def test_a_baseline_that_crashes_ends_the_loop_as_a_configuration_error() -> None:
    story = started()
    story.tell(RunStarted(id=0, run=1, seed=1, for_id=0))
    story.tell(RunEnded(id=0, run=1, outcome=Outcome.CRASH, crash=CrashKind.EXCEPTION, reason="no module named x"))
    action = only(story)
    assert isinstance(action, Record)
    story.tell(action.event)
    assert only(story) == Settle(id=0)
    story.tell(Settled(id=0))
    end = only(story)
    assert isinstance(end, End)
    assert (end.status, "no module named x" in end.reason) == (CONFIG, True)


def test_the_journey_goes_from_brief_to_agent_to_commit() -> None:
    story = with_baseline()
    id_ = briefed(story)
    assert only(story) == Propose(id=id_, attempt=1)
    story.tell(AgentEnded(id=id_, attempt=1, outcome=AgentOutcome.PROPOSED, reason="", seconds=1))
    assert only(story) == Commit(id=id_)


def test_a_refused_proposal_goes_to_a_fresh_agent_so_often_and_then_is_invalid() -> None:
    story = with_baseline()
    id_ = proposed(story)
    for attempt in (1, 2):
        story.tell(Refused(id=id_, attempt=attempt, reason=f"reason {attempt}"))
        again = only(story)
        assert again == Brief(id=id_, agent="tuner", attempt=attempt + 1, base=story.state.experiments[id_].base)
        story.tell(Briefed(id=id_, base=again.base, agent="tuner", attempt=attempt + 1))
        story.tell(AgentEnded(id=id_, attempt=attempt + 1, outcome=AgentOutcome.PROPOSED, reason="", seconds=1))
    story.tell(Refused(id=id_, attempt=3, reason="reason 3"))
    assert only(story) == Record(event=Judged(id=id_, verdict=Verdict.INVALID, reason="reason 3"))


def test_an_agent_that_writes_no_proposal_is_asked_again_and_then_the_experiment_is_invalid() -> None:
    story = with_baseline()
    id_ = briefed(story)
    story.tell(AgentEnded(id=id_, attempt=1, outcome=AgentOutcome.NOTHING, reason="wrote no proposal", seconds=1))
    assert isinstance(only(story), Brief)
    assert only(story, replace(RULES, repairs=0)) == Record(
        event=Judged(id=id_, verdict=Verdict.INVALID, reason="wrote no proposal")
    )


@pytest.mark.parametrize(("outcome", "verdict"), [(Outcome.CRASH, Verdict.CRASH), (Outcome.INVALID, Verdict.INVALID)])
def test_a_failed_scoring_is_a_verdict_on_the_experiment(outcome: Outcome, verdict: Verdict) -> None:
    story = with_baseline()
    id_ = story.propose("x")
    story.begin_run(id_)
    story.tell(RunEnded(id=id_, run=1, outcome=Outcome.OK, seconds=1))
    story.tell(Scored(id=id_, run=1, outcome=outcome, reason="looks ahead", crash=None))
    action = only(story)
    assert isinstance(action, Record)
    assert isinstance(action.event, Judged)
    assert (action.event.verdict, action.event.reason) == (verdict, "looks ahead")


def test_void_runs_are_repeated_twice_and_then_the_experiment_is_void() -> None:
    story = with_baseline()
    id_ = story.propose("x")
    for run in (1, 2, 3):
        action = only(story)
        assert isinstance(action, Record)
        assert action.event == RunStarted(id=id_, run=run, seed=1000 * id_ + run, for_id=id_)
        story.tell(action.event)
        story.tell(RunEnded(id=id_, run=run, outcome=Outcome.VOID, reason="device lost", seconds=1))
    assert only(story) == Record(event=Judged(id=id_, verdict=Verdict.VOID, reason="device lost"))


def test_the_incumbent_is_run_again_for_the_candidates_sake_and_the_lane_is_the_candidates() -> None:
    """A candidate a little better than three scattered baseline runs cannot be told apart without another run."""
    story = with_baseline(0.9970, 0.9980, 0.9990)
    id_ = story.propose("x")
    story.run(id_, 0.9965)
    action = only(story)
    assert isinstance(action, Record)
    assert isinstance(action.event, RunStarted)
    assert (action.event.id, action.event.for_id, action.event.run) == (0, id_, 4)
    story.tell(action.event)
    assert only(story) == Measure(id=0, run=4)
    story.tell(RunEnded(id=0, run=4, outcome=Outcome.OK, seconds=1))
    assert only(story) == Score(id=0, run=4)
    story.tell(Scored(id=0, run=4, outcome=Outcome.OK, score=0.998))
    assert story.state.baseline is not None
    assert len(story.state.baseline.scores) == 4


def test_an_incumbent_that_cannot_be_measured_again_makes_the_experiment_void_not_endless() -> None:
    story = with_baseline(0.9970, 0.9980, 0.9990)
    id_ = story.propose("x")
    story.run(id_, 0.9965)
    for _ in range(3):
        action = only(story)
        assert isinstance(action, Record)
        assert isinstance(action.event, RunStarted)
        story.tell(action.event)
        story.tell(RunEnded(id=0, run=action.event.run, outcome=Outcome.VOID, reason="device lost", seconds=1))
    action = only(story)
    assert isinstance(action, Record)
    assert isinstance(action.event, Judged)
    assert action.event.verdict is Verdict.VOID


def test_a_clear_gain_is_a_keep_and_a_clear_loss_a_discard_without_another_run() -> None:
    for score, verdict in ((0.9700, Verdict.KEEP), (1.0200, Verdict.DISCARD)):
        story = with_baseline(0.9979, 0.9971, 0.9975, 0.9973, 0.9977)
        story.run(story.propose("x"), score)
        action = only(story)
        assert isinstance(action, Record)
        assert isinstance(action.event, Judged)
        assert action.event.verdict is verdict


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(experiments=6), "6 experiments are done"),
        (Limits(hours=0.001), "hours are over"),
        (Limits(device_hours=0.0001), "device hours are spent"),
    ],
)
def test_a_limit_ends_the_loop_with_status_0_once_nothing_is_in_flight(limits: Limits, reason: str) -> None:
    end = only(small(), replace(RULES, limits=limits))
    assert isinstance(end, End)
    assert (end.status, reason in end.reason) == (DONE, True)


def test_until_is_an_hour_of_the_clock() -> None:
    story = small()
    assert isinstance(only(story, replace(RULES, limits=Limits(until=story.at + timedelta(hours=1)))), Brief)
    assert isinstance(only(story, replace(RULES, limits=Limits(until=story.at))), End)


def test_an_experiment_in_flight_is_finished_before_a_limit_ends_the_loop() -> None:
    story = small()
    id_ = story.propose("one more")
    rules = replace(RULES, limits=Limits(experiments=7))
    assert isinstance(only(story, rules), Record)
    story.run(id_, 1.5)
    assert isinstance(only(story, rules), Record)


def test_void_experiments_do_not_count_towards_the_limit() -> None:
    story = with_baseline()
    story.void("x")
    assert isinstance(only(story, replace(RULES, limits=Limits(experiments=1))), Brief)


def test_a_stop_finishes_the_run_in_hand_and_its_score_and_begins_nothing() -> None:
    story = with_baseline()
    id_ = story.propose("x")
    story.begin_run(id_)
    story.tell(StopRequested(now=False, by="ralph stop"))
    assert only(story) == Measure(id=id_, run=1)
    story.tell(RunEnded(id=id_, run=1, outcome=Outcome.OK, seconds=1))
    assert only(story) == Score(id=id_, run=1)
    story.tell(Scored(id=id_, run=1, outcome=Outcome.OK, score=0.9969))
    end = only(story)
    assert isinstance(end, End)
    assert (end.status, end.reason) == (DONE, "stopped by ralph stop")


def test_a_stop_now_ends_whatever_is_in_flight() -> None:
    story = with_baseline()
    story.begin_run(story.propose("x"))
    story.tell(StopRequested(now=True, by="SIGINT"))
    assert isinstance(only(story), End)


def test_a_pause_begins_nothing_and_ends_with_resume() -> None:
    story = with_baseline()
    story.tell(Paused(by="x"))
    assert actions(story) == []
    story.tell(Resumed(by="x"))
    assert isinstance(only(story), Brief)


def test_failures_in_a_row_wait_longer_and_then_park() -> None:
    story = with_baseline()
    rules = replace(RULES, patience=Patience(free=1, first_s=600, give_up=3))
    story.crash("a")
    assert isinstance(only(story, rules), Brief)
    story.crash("b")
    wait = only(story, rules)
    assert isinstance(wait, Wait)
    assert wait.until > story.at
    story.at = wait.until
    assert isinstance(only(story, rules), Brief)
    story.crash("c")
    end = only(story, rules)
    assert isinstance(end, End)
    assert end.status is PARKED
    assert "3 experiments in a row" in end.reason


def test_a_measured_verdict_ends_a_row_of_failures() -> None:
    story = with_baseline()
    rules = replace(RULES, patience=Patience(free=1, first_s=600, give_up=3))
    story.crash("a")
    story.crash("b")
    story.discard("c", 1.5)
    story.crash("d")
    assert isinstance(only(story, rules), Brief)


def test_several_experiments_may_be_in_flight_but_the_lane_takes_one_run() -> None:
    """The shape for pipelines: an agent may think while a run trains."""
    story = with_baseline()
    rules = replace(RULES, in_flight=2)
    first = story.propose("first")
    story.begin_run(first)
    measure, brief = actions(story, rules)
    assert measure == Measure(id=first, run=1)
    assert isinstance(brief, Brief)
    second = story.propose("second")
    assert actions(story, rules) == [Measure(id=first, run=1)]
    assert second == brief.id
