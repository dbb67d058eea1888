"""Nights with a provider that sends agents away: no experiment is lost, no failure counted, no budget passed."""

from dataclasses import replace
from datetime import datetime, timedelta

from ralph.adapters.scripted.lab import Lab, Plan
from ralph.adapters.scripted.papers import ScriptedPapers
from ralph.core.asking import Cap, Mix
from ralph.errors import ExitStatus
from ralph.events import AgentEnded, Briefed, Judged
from ralph.model import AgentOutcome, Verdict
from ralph.ports import AgentOrder
from tests.supervisor.labs import Bench, bench

CLAUDE = Mix(shares={"claude": 1.0}, paid=frozenset({"claude"}))


def away(order: AgentOrder, outcome: AgentOutcome, resume_at: datetime | None = None) -> AgentEnded:
    return AgentEnded(
        id=order.id, attempt=order.attempt, outcome=outcome, reason="the limit", seconds=2.0, resume_at=resume_at
    )


class Windows:
    """A provider whose limit is reached twice a night, for an hour each, and that says so."""

    def __init__(self, start: datetime) -> None:
        self.hours = [(start + timedelta(hours=h), start + timedelta(hours=h + 1)) for h in (1, 4)]
        self.refused = 0

    def __call__(self, order: AgentOrder, now: datetime) -> AgentEnded | None:
        for begin, end in self.hours:
            if order.agent == "claude" and begin <= now < end:
                self.refused += 1
                return away(order, AgentOutcome.LIMITED, end)
        return None


class Pages(ScriptedPapers):
    """Remembers the first line of every page."""

    def __init__(self) -> None:
        super().__init__()
        self.first_lines: list[str] = []

    def progress(self, text: str) -> None:
        self.first_lines.append(text.splitlines()[0])


def judged(made: Bench) -> list[Verdict]:
    return [e.event.verdict for e in made.ledger.log if isinstance(e.event, Judged) and e.event.id]


def test_two_hours_of_limits_cost_two_hours_and_no_experiment() -> None:
    lab = Lab(plan=lambda n: Plan(hypothesis=f"idea {n}", effect=0.004))
    lab.provider = windows = Windows(lab.clock.utc())
    made = bench(lab, mix=CLAUDE)
    assert made.run(60).status is ExitStatus.DONE
    state = made.supervisor.state
    assert judged(made).count(Verdict.DISCARD) == 60
    assert windows.refused == 2, "nobody asks before the stated reset"
    assert 6400 < state.limited_s < 7300, "two hours, less what was left of an experiment when each window began"
    assert state.failures_in_row == 0


def test_meanwhile_another_agent_of_the_mix_goes_on() -> None:
    lab = Lab(plan=lambda n: Plan(hypothesis=f"idea {n}", effect=0.004))
    lab.provider = Windows(lab.clock.utc())
    mix = Mix(shares={"claude": 0.5, "tuner": 0.5}, paid=frozenset({"claude"}))
    made = bench(lab, mix=mix)
    made.run(60)
    assert made.supervisor.state.limited_s == 0
    ends = {e.event.id: e.event.agent for e in made.ledger.log if isinstance(e.event, Briefed)}
    assert list(ends.values()).count("claude") == 30, "it catches up on its share"
    assert "claude waits: the limit" in {e.why for e in made.supervisor.state.experiments.values()}


def test_the_page_says_on_its_first_line_until_when_it_waits() -> None:
    lab = Lab(plan=lambda n: Plan())
    lab.provider = Windows(lab.clock.utc())
    made, pages = bench(lab, mix=CLAUDE), Pages()
    made.world = replace(made.world, papers=pages, report_every_s=600.0)
    made.run(15)
    waiting = [line for line in pages.first_lines if "waiting until" in line]
    until = (lab.clock.start + timedelta(hours=2, seconds=2)).astimezone()
    assert len(waiting) > 3
    assert {line.split(" · ")[1] for line in waiting} == {
        f"waiting until {until:%H:%M}: claude: the limit, then experiment 5"
    }


def test_an_outage_without_a_word_is_asked_about_less_and_less() -> None:
    lab, asked = Lab(plan=lambda n: Plan()), list[datetime]()

    def down_for_an_hour(order: AgentOrder, now: datetime) -> AgentEnded | None:
        if now >= asked_until:
            return None
        asked.append(now)
        return away(order, AgentOutcome.LIMITED)

    asked_until = lab.clock.utc() + timedelta(hours=2)
    lab.provider = down_for_an_hour
    made = bench(lab, mix=CLAUDE)
    assert made.run(3).status is ExitStatus.DONE
    assert len(judged(made)) == 3
    assert 6 <= len(asked) <= 14


def test_the_loop_stops_at_its_budget_and_never_passes_it() -> None:
    lab = Lab(plan=lambda n: Plan(hypothesis=f"idea {n}"), usd=0.3, tokens=1000)
    left = list[float | None]()

    def gateway(order: AgentOrder, now: datetime) -> AgentEnded | None:
        left.append(order.usd_left)
        return away(order, AgentOutcome.BUDGET) if (order.usd_left or 0) < 0.3 else None

    lab.provider = gateway
    made = bench(lab, mix=Mix(shares={"claude": 1.0}, paid=frozenset({"claude"}), together=Cap(usd=1.0)))
    end = made.run(None)
    assert (end.status, end.reason) == (ExitStatus.DONE, "the limit")
    assert made.supervisor.state.usd <= 1.0
    assert [round(x or 0, 6) for x in left] == [1.0, 0.7, 0.4, 0.1]
    assert len(judged(made)) == 3
