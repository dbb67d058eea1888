"""Results that the machine spoilt."""

import pytest

from ralph.core.excuses import slept, starved
from ralph.events import AgentEnded, RunEnded, Scored
from ralph.model import AgentOutcome, CrashKind, Outcome

OK = RunEnded(id=1, run=1, outcome=Outcome.OK, seconds=300.0, train_s=290.0, record={"load_1m": 0.5})
CRASHED = RunEnded(id=1, run=1, outcome=Outcome.CRASH, crash=CrashKind.EXCEPTION, reason="OSError: no space")
LATE = RunEnded(id=1, run=1, outcome=Outcome.CRASH, crash=CrashKind.DEADLINE, reason="late")
AWAY = AgentEnded(id=1, attempt=1, outcome=AgentOutcome.NOTHING, reason="wrote no proposal", seconds=2.0, tokens=7)
SHORT = "the disk is nearly full"


@pytest.mark.parametrize("run", [OK, CRASHED, LATE])
def test_a_run_during_which_the_machine_slept_is_void_whatever_came_of_it(run: RunEnded) -> None:
    void = slept(run, 200.4)
    assert isinstance(void, RunEnded)
    assert (void.outcome, void.crash, void.seconds) == (Outcome.VOID, None, run.seconds)
    assert void.reason == "the machine slept for 3 min during the run"
    assert void.record == {**run.record, "slept_s": 200.4}


def test_what_two_clocks_differ_by_when_read_is_no_sleep() -> None:
    assert slept(OK, 0.4) is OK
    assert slept(OK, -5.0) is OK


def test_an_agent_and_a_scorer_may_sleep() -> None:
    scored = Scored(id=1, run=1, outcome=Outcome.OK, score=1.0)
    assert slept(AWAY, 99.0) is AWAY
    assert slept(scored, 99.0) is scored


def test_what_failed_on_a_full_disk_says_nothing_about_the_idea() -> None:
    run, agent = starved(CRASHED, SHORT), starved(AWAY, SHORT)
    assert isinstance(run, RunEnded)
    assert (run.outcome, run.crash, run.reason) == (Outcome.VOID, None, f"{SHORT} (OSError: no space)")
    assert isinstance(agent, AgentEnded)
    assert (agent.outcome, agent.tokens) == (AgentOutcome.LIMITED, 7), "asked again, and what it cost is on record"
    assert starved(Scored(id=1, run=1, outcome=Outcome.VOID, reason="the scorer itself failed"), SHORT) is None


def test_what_came_out_all_the_same_counts() -> None:
    good = (OK, LATE, Scored(id=1, run=1, outcome=Outcome.OK, score=1.0), Scored(id=1, run=1, outcome=Outcome.INVALID))
    assert [starved(result, SHORT) for result in good] == list(good)
