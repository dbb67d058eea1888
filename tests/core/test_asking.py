"""Whom to ask: shares, providers that send agents away, budgets that are spent."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ralph.core.actions import End, Wait
from ralph.core.asking import Cap, Chosen, Mix, allowance, ask, spent_up
from ralph.core.mix import Policy
from ralph.errors import ExitStatus
from ralph.events import AgentEnded, SupervisorStarted
from ralph.model import AgentOutcome, Cost
from tests.core.states import Story

MIX = Mix(shares={"claude": 0.5, "tuner": 0.5}, paid=frozenset({"claude"}))
ALONE = replace(MIX, shares={"claude": 1.0})


def story() -> Story:
    return Story().start().baseline(0.9979, 0.9971, 0.9975)


def send_away(s: Story, outcome: AgentOutcome = AgentOutcome.LIMITED, resume_s: float | None = 3600.0) -> None:
    id_ = s.brief("claude")
    resume = None if resume_s is None else s.at + timedelta(seconds=resume_s)
    s.tell(AgentEnded(id=id_, attempt=1, outcome=outcome, reason="the limit", seconds=2.0, resume_at=resume))


def test_an_agent_that_was_sent_away_is_replaced_by_another_of_the_mix() -> None:
    s = story()
    send_away(s)
    assert ask(s.state, s.at, MIX) == Chosen(agent="tuner", why="claude waits: the limit")


def test_with_nobody_else_the_loop_waits_until_the_provider_goes_on() -> None:
    s = story()
    send_away(s)
    wait = ask(s.state, s.at, ALONE)
    assert isinstance(wait, Wait)
    assert wait.reason == "claude: the limit"
    assert ask(s.state, wait.until, ALONE) == Chosen(agent="claude")


def test_a_crash_of_the_supervisor_does_not_shorten_the_wait_but_a_human_who_starts_again_does() -> None:
    s = story()
    send_away(s)
    again = SupervisorStarted(pid=1, host="box", version="0", sandbox="none")
    s.tell(again, after_s=1.0)
    assert isinstance(ask(s.state, s.at, ALONE), Wait)
    s.stop("stopped by SIGINT")
    s.tell(again, after_s=1.0)
    assert ask(s.state, s.at, ALONE) == Chosen(agent="claude")


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        (replace(ALONE, together=Cap(usd=0.04)), "the campaign's $0.0400 are spent"),
        (replace(ALONE, together=Cap(tokens=22_000)), "the campaign's 22,000 tokens are spent"),
        (replace(ALONE, each={"claude": Cap(usd=0.05)}), "claude's $0.0500 are spent"),
    ],
)
def test_a_spent_budget_ends_the_loop_when_nobody_works_for_nothing(mix: Mix, words: str) -> None:
    s = story()
    s.propose("x", usd=0.05, tokens=22_000)
    assert ask(s.state, s.at, mix) == End(status=ExitStatus.DONE, reason=words)


def test_a_spent_budget_leaves_the_agents_that_cost_nothing() -> None:
    s = story()
    s.propose("x", usd=0.05)
    mix = replace(MIX, together=Cap(usd=0.05))
    assert ask(s.state, s.at, mix) == Chosen(agent="tuner", why="the campaign's $0.0500 are spent")


def test_an_agent_that_the_gateway_refused_is_out_until_the_loop_is_started_again() -> None:
    s = story()
    send_away(s, AgentOutcome.BUDGET)
    assert spent_up(s.state, ALONE, "claude") == "the limit"
    s.tell(SupervisorStarted(pid=1, host="box", version="0", sandbox="none"), after_s=1.0)
    assert spent_up(s.state, ALONE, "claude") == ""


def test_the_allowance_is_the_smaller_of_what_is_left_of_the_campaigns_and_the_agents_budget() -> None:
    s = story()
    s.propose("x", usd=0.25, tokens=20_000)
    s.propose("y", agent="other", usd=0.5, tokens=10_000)
    mix = replace(MIX, together=Cap(usd=2.0, tokens=50_000), each={"claude": Cap(usd=1.0)})
    assert allowance(s.state, mix, "claude") == Cap(usd=0.75, tokens=20_000)
    assert allowance(s.state, mix, "tuner") == Cap()


def test_the_spending_of_each_agent_is_told_apart_and_survives_a_restart() -> None:
    s = story()
    s.propose("x", usd=0.25, tokens=20_000)
    s.propose("y", agent="other", usd=0.5, tokens=10_000)
    assert s.folded().spent == {"claude": Cost(usd=0.25, tokens=20_000), "other": Cost(usd=0.5, tokens=10_000)}


def test_the_bandit_chooses_among_those_that_are_free_and_says_why() -> None:
    s = story()
    for n in range(3):
        s.keep("x", 0.98 - 0.01 * n, agent="claude")
        s.discard("y", 1.5, agent="tuner")
    mix = Mix(shares={"claude": 1.0, "tuner": 1.0, "other": 1.0}, policy=Policy.BANDIT, paid=frozenset({"other"}))
    s.state.exhausted["other"] = "other's money is spent"
    chosen = ask(s.state, s.at, mix)
    assert isinstance(chosen, Chosen)
    assert chosen.agent in ("claude", "tuner")
    assert chosen.why.startswith("bandit")
    assert "tried" in chosen.why
    assert chosen.why.endswith("; other's money is spent")
