"""What the machine does meanwhile: it sleeps, its wall clock jumps, its disk fills up."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from ralph.adapters.scripted.lab import Lab, LabControl, LabRunner, Plan
from ralph.core.actions import End
from ralph.errors import ExitStatus
from ralph.events import AgentEnded, Briefed, Judged, RunEnded, RunStarted, Scored
from ralph.model import AgentOutcome, Outcome, Verdict
from ralph.ports import AgentOrder, Job, RunOrder
from tests.supervisor.labs import Bench, bench

SHORT = "the disk is nearly full: 0.1 GiB free. Make room"


def better(number: int) -> Plan:
    return Plan(effect=-0.01, hypothesis=f"idea {number}")


def events(made: Bench, kind: type) -> list[object]:
    return [e.event for e in made.ledger.log if isinstance(e.event, kind)]


def meddling(made: Bench, when: str, what: object) -> None:
    """Call `what` once, right after that run has begun."""
    runner, lab = LabRunner(made.lab), made.lab

    class Meddler:
        remains = staticmethod(runner.remains)
        prepared = staticmethod(runner.prepared)
        drop = staticmethod(runner.drop)

        @staticmethod
        def start(order: RunOrder) -> Job[RunEnded]:
            job = runner.start(order)
            if lab.started[-1] == when and lab.started.count(when) == 1:
                what()  # type: ignore[operator]
            return job

    object.__setattr__(made.world, "runner", Meddler())


def test_a_machine_that_sleeps_voids_the_run_in_flight_which_is_repeated() -> None:
    made = bench(Lab(plan=better))
    meddling(made, "run 1.1", lambda: setattr(made.lab.clock, "asleep_s", 3600.0))
    assert made.run(2).status is ExitStatus.DONE
    runs = [e for e in events(made, RunEnded) if isinstance(e, RunEnded) and e.id == 1]
    assert [e.outcome for e in runs[:2]] == [Outcome.VOID, Outcome.OK]
    assert all(e.outcome is Outcome.OK for e in runs[1:])
    assert runs[0].reason == "the machine slept for 1 h 0 min during the run"
    assert all(e.outcome is Outcome.OK for e in events(made, RunEnded) if isinstance(e, RunEnded) and e.id != 1)
    assert [e.verdict for e in events(made, Judged) if isinstance(e, Judged)] == [Verdict.KEEP] * 3


def test_sleep_between_runs_voids_nothing() -> None:
    made = bench(Lab(plan=better))
    made.run(1)
    made.lab.clock.asleep_s += 9_999.0
    made.run(2)
    assert {e.outcome for e in events(made, RunEnded) if isinstance(e, RunEnded)} == {Outcome.OK}


def test_a_jump_of_the_wall_clock_voids_nothing_and_changes_no_duration() -> None:
    for jump in (timedelta(days=400), -timedelta(days=400)):
        made = bench(Lab(plan=better))
        clock = made.lab.clock
        meddling(made, "run 1.1", lambda clock=clock, jump=jump: setattr(clock, "start", clock.start + jump))
        assert made.run(2).status is ExitStatus.DONE
        assert {e.outcome for e in events(made, RunEnded) if isinstance(e, RunEnded)} == {Outcome.OK}
        assert {e.seconds for e in events(made, RunEnded) if isinstance(e, RunEnded)} == {made.lab.run_s}
        assert made.run(3).status is ExitStatus.DONE


def test_a_clock_set_back_does_not_make_the_loop_wait_until_the_old_hour() -> None:
    """After failures the loop waits; not for a moment that a wrong clock had named."""
    made = bench(Lab(plan=lambda n: Plan(refuse="changed 'prepare.py'") if 0 < n < 5 else better(n)), repairs=0)
    clock = made.lab.clock
    jumps: list[str] = []

    class SetBack(LabControl):
        def wait(self, jobs: Iterable[Job[object]], timeout_s: float) -> None:
            at_work = list(jobs)
            if not at_work and not jumps:
                clock.start -= timedelta(days=30)
                jumps.append(made.lab.started[-1])
            super().wait(at_work, timeout_s)

    object.__setattr__(made.world, "control", SetBack(made.lab))
    assert made.run(6).status is ExitStatus.DONE
    assert jumps == ["agent 3.1 tuner"], "while it waited after three failures"
    assert clock.seconds < 86_400


def test_on_a_full_disk_nothing_begins_and_the_reason_is_on_the_first_line() -> None:
    made = bench(Lab(plan=better))
    made.run(1)
    begun = len(events(made, Briefed)), len(events(made, RunStarted))
    made.disk.short = SHORT
    assert made.run(3) == End(status=ExitStatus.PARKED, reason=SHORT)
    assert (len(events(made, Briefed)), len(events(made, RunStarted))) == begun
    assert made.papers.page.splitlines()[0].startswith("**parked**")
    assert "the disk is nearly full: 0.1 GiB free" in made.papers.page.splitlines()[0]
    assert made.disk.relieved == 1
    made.disk.short = ""
    assert made.run(3).status is ExitStatus.DONE


def test_the_baseline_does_not_begin_on_a_full_disk() -> None:
    made = bench(Lab(plan=better))
    made.disk.short = SHORT
    assert made.run(1).status is ExitStatus.PARKED
    assert made.lab.started == []


def test_a_run_in_flight_is_finished_scored_and_judged_before_the_loop_parks() -> None:
    made = bench(Lab(plan=better))
    meddling(made, "run 1.1", lambda: setattr(made.disk, "short", SHORT))
    assert made.run(3).status is ExitStatus.PARKED
    assert [e.id for e in events(made, Scored) if isinstance(e, Scored)][-1] == 1
    assert made.lab.started[-2:] == ["run 1.1", "score 1.1"]
    made.disk.short = ""
    assert made.run(3).status is ExitStatus.DONE
    assert made.lab.started.count("run 1.1") == 1
    assert [e.verdict for e in events(made, Judged) if isinstance(e, Judged)] == [Verdict.KEEP] * 4


def test_what_fails_on_a_full_disk_is_repeated_once_there_is_room() -> None:
    full = True
    made = bench(Lab(plan=lambda n: Plan(outcome=Outcome.CRASH) if n == 1 and full else better(n)))
    meddling(made, "run 1.1", lambda: setattr(made.disk, "short", SHORT))
    assert made.run(2).status is ExitStatus.PARKED
    assert [e.outcome for e in events(made, RunEnded) if isinstance(e, RunEnded) and e.id == 1] == [Outcome.VOID]
    full, made.disk.short = False, ""
    assert made.run(2).status is ExitStatus.DONE
    assert [e.verdict for e in events(made, Judged) if isinstance(e, Judged)] == [Verdict.KEEP] * 3


def test_an_agent_that_fails_on_a_full_disk_is_asked_again_and_costs_no_experiment() -> None:
    made = bench(Lab(plan=better))
    made.run(0)
    made.lab.plan = lambda n: Plan(agent=AgentOutcome.NOTHING)

    def fill(order: AgentOrder, now: datetime) -> None:
        made.disk.short = SHORT

    made.lab.provider = fill
    assert made.run(1).status is ExitStatus.PARKED
    assert [e.outcome for e in events(made, AgentEnded) if isinstance(e, AgentEnded)] == [AgentOutcome.LIMITED]
    made.lab.plan, made.lab.provider, made.disk.short = better, None, ""
    assert made.run(1).status is ExitStatus.DONE
    assert [e.verdict for e in events(made, Judged) if isinstance(e, Judged)] == [Verdict.KEEP] * 2
