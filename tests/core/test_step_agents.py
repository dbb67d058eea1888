"""What to do next about agents that cannot be asked, and about drafts that can be mended."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ralph.core.actions import Action, Brief, End, Record, Wait
from ralph.core.asking import Cap, Mix
from ralph.core.decision import KeepRule
from ralph.core.step import Limits, Rules, next_actions
from ralph.errors import ExitStatus
from ralph.events import AgentEnded, Briefed, Committed, Judged, Refused, Resumed, RunEnded, RunStarted
from ralph.model import AgentOutcome, CrashKind, Draft, Outcome, Verdict
from tests.core.states import Story

RULES = Rules(keep=KeepRule(max_runs=3))
DONE = ExitStatus.DONE


def actions(story: Story, rules: Rules = RULES) -> list[Action]:
    return next_actions(story.state, story.at, rules)


def only(story: Story, rules: Rules = RULES) -> Action:
    (action,) = actions(story, rules)
    return action


def with_baseline() -> Story:
    return Story().start().baseline(0.9979, 0.9971, 0.9975)


CLAUDE = Mix(shares={"claude": 1.0}, paid=frozenset({"claude"}), menders=frozenset({"claude"}))


def sent_away(story: Story, outcome: AgentOutcome = AgentOutcome.LIMITED, **more: object) -> int:
    id_ = story.brief("claude")
    story.tell(AgentEnded(id=id_, attempt=1, outcome=outcome, reason="the limit", seconds=1, **more))  # type: ignore[arg-type]
    return id_


def test_an_agent_that_met_a_usage_limit_is_asked_again_and_no_failure_is_counted() -> None:
    story, rules = with_baseline(), replace(RULES, mix=CLAUDE, repairs=0)
    id_ = sent_away(story)
    wait = only(story, rules)
    assert isinstance(wait, Wait)
    story.at = wait.until
    brief = only(story, rules)
    assert isinstance(brief, Brief)
    assert (brief.id, brief.agent, brief.attempt) == (id_, "claude", 2)
    assert story.state.experiments[id_].refusals == ()
    assert story.state.failures_in_row == 0


def test_meanwhile_another_agent_takes_the_experiment_over() -> None:
    story = with_baseline()
    id_ = sent_away(story)
    mix = Mix(shares={"claude": 0.9, "tuner": 0.1}, paid=frozenset({"claude"}))
    brief = only(story, replace(RULES, mix=mix))
    assert isinstance(brief, Brief)
    assert (brief.id, brief.agent, brief.why) == (id_, "tuner", "claude waits: the limit")
    story.tell(Briefed(id=id_, base=brief.base, agent="tuner", attempt=2))
    assert story.state.agent_counts == {"claude": 0, "tuner": 1}


@pytest.mark.parametrize("outcome", [AgentOutcome.LIMITED, AgentOutcome.BUDGET])
def test_a_loop_that_waits_for_a_provider_stops_when_told(outcome: AgentOutcome) -> None:
    story = with_baseline()
    sent_away(story, outcome)
    story.ask_to_stop()
    end = only(story, replace(RULES, mix=CLAUDE))
    assert isinstance(end, End)
    assert end.status is DONE


def test_a_loop_that_waits_for_a_provider_pauses_and_goes_on() -> None:
    story, rules = with_baseline(), replace(RULES, mix=CLAUDE)
    sent_away(story)
    story.pause()
    assert actions(story, rules) == []
    story.tell(Resumed(by="ralph resume"))
    assert isinstance(only(story, rules), Wait)


def test_an_hour_that_was_set_ends_the_wait_for_a_provider() -> None:
    story = with_baseline()
    sent_away(story, resume_at=story.at + timedelta(hours=5))
    rules = replace(RULES, mix=CLAUDE, limits=Limits(until=story.at + timedelta(hours=1)))
    assert isinstance(only(story, rules), Wait)
    story.at += timedelta(hours=1)
    assert isinstance(only(story, rules), End)


def test_an_experiment_whose_agent_ran_out_of_money_goes_on_under_a_larger_budget() -> None:
    story, rules = with_baseline(), replace(RULES, mix=replace(CLAUDE, together=Cap(usd=1.0)))
    id_ = sent_away(story, AgentOutcome.BUDGET)
    end = only(story, rules)
    assert (end, story.state.open_ids) == (End(status=DONE, reason="the limit"), [id_])
    story.stop("the limit").start()
    brief = only(story, rules)
    assert isinstance(brief, Brief)
    assert (brief.id, brief.attempt) == (id_, 2)


def crashed(story: Story, agent: str, train_s: float = 0.0, kind: CrashKind = CrashKind.EXCEPTION) -> int:
    id_ = story.propose("a wider model", agent=agent)
    number = story.begin_run(id_)
    story.tell(
        RunEnded(
            id=id_,
            run=number,
            outcome=Outcome.CRASH,
            crash=kind,
            reason="NameError: width",
            tail="Traceback\nNameError: width",
            train_s=train_s,
            seconds=9,
        )
    )
    return id_


def test_a_run_that_crashed_in_its_set_up_goes_to_a_fresh_agent_within_the_same_experiment() -> None:
    story, rules = with_baseline(), replace(RULES, mix=CLAUDE, gated=True)
    id_ = crashed(story, "claude")
    refused = only(story, rules)
    reason = "its run crashed in the set-up: NameError: width"
    assert refused == Record(event=Refused(id=id_, attempt=1, reason=reason))
    story.tell(Refused(id=id_, attempt=1, reason=reason))
    e = story.state.experiments[id_]
    assert e.drafts == (
        Draft(attempt=1, reason=reason, hypothesis="a wider model", commit=f"{id_:07x}{'c' * 33}", tail=e.runs[0].tail),
    )
    brief = only(story, rules)
    assert isinstance(brief, Brief)
    assert (brief.id, brief.attempt) == (id_, 2)
    story.tell(Briefed(id=id_, base=brief.base, agent="claude", attempt=2))
    story.tell(AgentEnded(id=id_, attempt=2, outcome=AgentOutcome.PROPOSED, reason="", seconds=1))
    story.tell(Committed(id=id_, commit="d" * 40, hypothesis="a wider model, with its width defined"))
    again = only(story, rules)
    assert isinstance(again, Record)
    assert isinstance(again.event, RunStarted), "the run of the draft says nothing about what came instead"
    assert (again.event.run, story.folded().experiments[id_]) == (2, story.state.experiments[id_])


@pytest.mark.parametrize(
    ("agent", "train_s", "kind", "gated", "repairs"),
    [
        ("tuner", 0.0, CrashKind.EXCEPTION, True, 2),  # cannot mend a program; the crash is for its memory
        ("claude", 3.0, CrashKind.EXCEPTION, True, 2),  # it trained
        ("claude", 0.0, CrashKind.OUT_OF_MEMORY, True, 2),  # no plain mistake
        ("claude", 0.0, CrashKind.EXCEPTION, False, 2),  # nobody knows what was set-up
        ("claude", 0.0, CrashKind.EXCEPTION, True, 0),
    ],
)
def test_any_other_crash_is_a_verdict(agent: str, train_s: float, kind: CrashKind, gated: bool, repairs: int) -> None:
    story = with_baseline()
    crashed(story, agent, train_s, kind)
    action = only(story, replace(RULES, mix=CLAUDE, gated=gated, repairs=repairs))
    assert isinstance(action, Record)
    assert isinstance(action.event, Judged)
    assert action.event.verdict is Verdict.CRASH
