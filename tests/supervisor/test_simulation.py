"""Whole campaigns in a laboratory with its own clock: nights that take seconds."""

import math
import random
from dataclasses import replace

import pytest

from ralph.adapters.scripted.lab import Lab, Plan
from ralph.errors import ExitStatus
from ralph.events import Judged, StopRequested, SupervisorStopped
from ralph.model import AgentOutcome, CrashKind, Learning, Outcome, Verdict
from ralph.ports import Signals
from tests.supervisor.labs import BRIEF_TOKENS, Bench, bench


def plan(number: int) -> Plan:
    """Ideas of every kind, the same for the same number."""
    rng = random.Random(number)
    draw = rng.random()
    hypothesis = f"idea {number}: {rng.choice(('wider', 'deeper', 'longer', 'simpler'))}, because of reason {number}"
    if draw < 0.05:
        return Plan(hypothesis=hypothesis, crash=rng.choice(list(CrashKind)), tail="Error: x\n" * 40)
    if draw < 0.08:
        return Plan(hypothesis=hypothesis, refuse="changed 'prepare.py', but only train.py may be edited")
    if draw < 0.10:
        return Plan(hypothesis=hypothesis, agent=AgentOutcome.NOTHING)
    learnings = (Learning(text=f"{hypothesis} taught {number}", evidence=(max(0, number - 1),)),) if draw < 0.5 else ()
    effect = rng.choice((-0.004, 0.0, 0.0, 0.002, 0.006)) / (1 + number / 100)
    return Plan(hypothesis=hypothesis, effect=effect, learnings=learnings, constants={"train.py:LEARNING_RATE": draw})


def verdicts(made: Bench) -> list[Verdict]:
    return [e.event.verdict for e in made.ledger.log if isinstance(e.event, Judged)]


def longest_brief(made: Bench) -> int:
    return max(len(text) for text in list(made.papers.briefs.values())[-50:])


def seasoned(number: int) -> Plan:
    """As `plan`, with every kind of failure among the first hundred, so that no table of them grows later."""
    kinds = list(CrashKind) * 2
    if number % 7 == 0 and number // 7 <= len(kinds):
        kind = kinds[number // 7 - 1]
        return Plan(hypothesis=f"idea {number}: crash, because of reason {number}", crash=kind, tail="Error: x\n" * 40)
    return plan(number)


def lengths(made: Bench, age: int) -> tuple[float, float]:
    """Mean length of page and brief over the twenty experiments before `age`: what the last ones were makes more of a
    difference than how many there were.
    """
    pages = []
    for experiments in range(age - 20, age + 1, 2):
        assert made.run(experiments).status is ExitStatus.DONE
        pages.append(len(made.papers.page))
    briefs = [len(text) for text in list(made.papers.briefs.values())[-50:]]
    return sum(pages) / len(pages), sum(briefs) / len(briefs)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_overnight_campaign_leaves_a_page_and_a_brief_no_longer_than_a_short_one() -> None:
    """2,000 experiments against 200, but for wider numbers; the clock of the laboratory runs for weeks."""
    made = bench(Lab(plan=seasoned))
    page, brief = lengths(made, 200)
    later_page, later_brief = lengths(made, 2000)
    assert len(verdicts(made)) > 2000
    assert later_page <= 1.05 * page
    assert later_brief <= 1.05 * brief


@pytest.mark.parametrize(("every_s", "drawn"), [(60.0, True), (math.inf, False)])
def test_the_picture_is_drawn_after_a_verdict_unless_it_is_never_to_be(every_s: float, drawn: bool) -> None:
    made = bench(Lab(plan=plan))
    made.world = replace(made.world, picture_every_s=every_s)
    made.run(2)
    assert bool(made.papers.data) is drawn


def test_a_campaign_of_every_kind_of_idea_stays_within_its_limits() -> None:
    made = bench(Lab(plan=plan))
    assert made.run(120).status is ExitStatus.DONE
    assert set(verdicts(made)) == {Verdict.KEEP, Verdict.DISCARD, Verdict.CRASH, Verdict.INVALID}
    assert len(made.papers.page) < 10_000
    assert longest_brief(made) < 3 * BRIEF_TOKENS, "three bytes a token is what a brief reckons with"


def test_the_incumbent_gets_better_in_truth_and_its_claim_is_honest() -> None:
    lab = Lab(plan=plan)
    made = bench(lab)
    made.run(150)
    state = made.supervisor.state
    incumbent = state.incumbent
    assert incumbent is not None
    assert incumbent.score is not None
    assert lab.truth(incumbent.commit) < lab.baseline - 0.02
    assert abs(incumbent.score - lab.truth(incumbent.commit)) < 4 * lab.sigma
    assert made.repo.branches["lab"] == incumbent.commit


def test_two_laboratories_with_the_same_plan_keep_the_same_ledger() -> None:
    first, second = bench(Lab(plan=plan)), bench(Lab(plan=plan))
    first.run(40)
    second.run(40)
    assert first.ledger.log == second.ledger.log


def test_every_process_is_started_once_for_each_intent() -> None:
    made = bench(Lab(plan=plan))
    made.run(60)
    assert len(made.lab.started) == len(set(made.lab.started))


def test_a_loop_of_failures_backs_off_and_parks_where_the_human_looks() -> None:
    lab = Lab(plan=lambda n: Plan(refuse="broken rule"))
    made = bench(lab)
    ending = made.run(1000)
    assert ending.status is ExitStatus.PARKED
    assert "12 experiments in a row" in ending.reason
    assert made.papers.page.startswith("**parked**")
    assert "broken rule" in made.papers.page.splitlines()[0]
    assert lab.clock.seconds > 1000, "it waited longer each time"


def test_void_runs_say_nothing_about_the_idea() -> None:
    made = bench(Lab(plan=lambda n: Plan(outcome=Outcome.VOID) if n == 1 else Plan(effect=0.1)))
    made.run(3)
    assert verdicts(made)[1] is Verdict.VOID
    assert len(verdicts(made)) == 5, "a void experiment does not count towards the limit"


def test_a_wish_to_stop_is_written_down_and_obeyed() -> None:
    lab = Lab(plan=plan)
    made = bench(lab)
    made.run(2)
    lab.signals = Signals(stop=True, by="ralph stop")
    ending = made.run(100)
    kinds = [type(e.event) for e in made.ledger.log[-2:]]
    assert (ending.status, kinds) == (ExitStatus.DONE, [StopRequested, SupervisorStopped])
    lab.signals = Signals()
    assert made.run(4).status is ExitStatus.DONE
    assert len(verdicts(made)) == 5
