"""A device that others disturb: repeats, waits that grow, a human at last; no proposal is lost, no verdict forged."""

from dataclasses import replace
from datetime import datetime, timedelta

from ralph.adapters.device.watched import Care, DeviceRunner
from ralph.adapters.scripted.device import ScriptedDevice
from ralph.adapters.scripted.lab import Lab, LabRunner, Plan, TimedJob
from ralph.adapters.scripted.papers import ScriptedPapers
from ralph.core.report import Live, render_progress
from ralph.core.views import status_view
from ralph.errors import ExitStatus
from ralph.events import Judged, RunEnded
from ralph.model import EarlyStop, Outcome, Verdict
from ralph.ports import RunOrder
from tests.supervisor.labs import Bench, bench

BUSY = "others took 38.0 CPU seconds from it"


class Pages(ScriptedPapers):
    """Papers that keep every page."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[str] = []

    def progress(self, text: str) -> None:
        self.pages.append(text)


def voids(done: Bench) -> list[RunEnded]:
    ended = [entry.event for entry in done.ledger.log if isinstance(entry.event, RunEnded)]
    return [event for event in ended if event.outcome is Outcome.VOID]


def test_a_disturbed_run_is_repeated_and_costs_the_experiment_nothing() -> None:
    lab = Lab(plan=lambda _: Plan(effect=-0.1), busy=lambda order, _: BUSY if (order.id, order.run) == (1, 1) else "")
    done = bench(lab)
    assert done.run(1).status is ExitStatus.DONE
    first = done.supervisor.state.experiments[1]
    assert first.verdict is Verdict.KEEP
    assert [run.disturbed for run in first.runs][:2] == [BUSY, ""]
    assert len(first.scores) == len(first.runs) - 1


def test_a_busy_hour_is_waited_out_with_the_proposal_kept() -> None:
    lab = Lab(plan=lambda _: Plan(effect=-0.1))
    calm_at = lab.clock.utc() + timedelta(minutes=80)
    lab.busy = lambda order, now: BUSY if order.id == 1 and now < calm_at else ""
    done = bench(lab)
    assert done.run(1).status is ExitStatus.DONE
    state = done.supervisor.state
    assert state.experiments[1].verdict is Verdict.KEEP
    assert sum(line.startswith("agent ") for line in lab.started) == 1
    assert 4 <= len(voids(done)) < 10
    assert state.failures_in_row == 0


def test_a_machine_that_is_always_busy_parks_the_loop_and_says_what_to_do() -> None:
    lab = Lab(plan=lambda _: Plan(), busy=lambda order, _: BUSY if order.id == 1 else "")
    done = bench(lab)
    end = done.run(1)
    assert end.status is ExitStatus.PARKED
    assert "10 runs in a row were disturbed" in end.reason
    assert BUSY in end.reason
    assert "device.disturbed_share" in end.reason
    assert done.supervisor.state.experiments[1].verdict is None
    assert len(voids(done)) == 10


def test_after_the_parking_a_new_start_runs_the_same_candidate_at_once() -> None:
    lab = Lab(plan=lambda _: Plan(effect=-0.1), busy=lambda order, _: BUSY if order.id == 1 else "")
    done = bench(lab)
    assert done.run(1).status is ExitStatus.PARKED
    lab.busy = None
    lab.clock.seconds += 60  # somebody came and looked
    assert done.run(1).status is ExitStatus.DONE
    assert done.supervisor.state.experiments[1].verdict is Verdict.KEEP
    assert sum(line.startswith("agent ") for line in lab.started) == 1


def test_a_baseline_on_a_busy_machine_parks_too_and_is_measured_later() -> None:
    lab = Lab(plan=lambda _: Plan(), busy=lambda order, _: BUSY)
    done = bench(lab)
    assert done.run(0).status is ExitStatus.PARKED
    assert not [entry for entry in done.ledger.log if isinstance(entry.event, Judged)]
    lab.busy = None
    lab.clock.seconds += 60
    assert done.run(0).status is ExitStatus.DONE
    assert done.supervisor.state.baseline is not None
    assert done.supervisor.state.baseline.verdict is Verdict.KEEP


def test_the_incumbent_measured_again_waits_for_calm_as_well() -> None:
    """A disturbed incumbent would look worse than it is, and what is compared with it better."""
    disturbed: list[int] = []

    def busy(order: RunOrder, _: datetime) -> str:
        if order.id == 0 and order.run > 3 and len(disturbed) < 4:
            disturbed.append(order.run)
            return BUSY
        return ""

    lab = Lab(plan=lambda _: Plan(effect=-0.0009), busy=busy, sigma=0.0008)
    done = bench(lab)
    assert done.run(12).status is ExitStatus.DONE
    assert len(disturbed) == 4, "no candidate was close enough for a second look at the incumbent"
    assert done.supervisor.state.counts[Verdict.VOID] == 0


class NumberedJob(TimedJob[RunEnded]):
    """A run of the laboratory, with a number for its process."""

    pid = 1


class LabRuns(LabRunner):
    """Runs of the laboratory that all end well; none is prepared."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._lab = lab

    def waiting(self) -> dict[RunOrder, int]:
        return {}

    def forfeit(self, order: RunOrder, reason: str) -> None:
        raise AssertionError(f"{order} was not prepared: {reason}")

    def start(self, order: RunOrder) -> NumberedJob:
        self._lab.started.append(f"run {order.id}.{order.run}")
        ended = RunEnded(id=order.id, run=order.run, outcome=Outcome.OK, seconds=self._lab.run_s)
        return NumberedJob(self._lab.clock, self._lab.run_s, ended)

    def curve(self, order: RunOrder) -> tuple[float | None, ...]:
        return ()

    def mark(self, order: RunOrder, early: EarlyStop) -> None:
        raise AssertionError(f"run {order.id}.{order.run} logs nothing, yet it is to be stopped")


def on_device(lab: Lab, device: ScriptedDevice) -> Bench:
    done = bench(lab)
    done.world = replace(done.world, runner=DeviceRunner(LabRuns(lab), device, Care(wait_free_s=0)))
    return done


def test_a_lost_device_parks_the_loop_and_the_run_is_carried_out_by_the_next() -> None:
    lab = Lab(plan=lambda _: Plan())
    done = on_device(lab, ScriptedDevice(samples=["XID 79, fallen off the bus"]))
    end = done.run(0)
    assert (end.status, "XID 79" in end.reason) == (ExitStatus.PARKED, True)
    assert not [entry for entry in done.ledger.log if isinstance(entry.event, RunEnded)]
    done.world = replace(done.world, runner=LabRunner(lab))
    assert done.run(0).status is ExitStatus.DONE


def test_memory_that_somebody_holds_quarantines_the_lane_with_their_name() -> None:
    lab = Lab(plan=lambda _: Plan())
    done = on_device(lab, ScriptedDevice(occupants=["pid 7 (python, 12.0 GiB)"]))
    end = done.run(0)
    assert (end.status, "pid 7 (python, 12.0 GiB)" in end.reason) == (ExitStatus.PARKED, True)
    assert "**parked**" in done.papers.page.splitlines()[0]
    assert "pid 7" in done.papers.page.splitlines()[0]
    assert lab.started == []


def test_the_page_tells_of_disturbed_runs_in_one_line_and_status_counts_them() -> None:
    lab = Lab(plan=lambda _: Plan(), busy=lambda order, _: BUSY if order.run == 1 else "")
    done = bench(lab)
    done.run(1)
    page = render_progress(done.supervisor.state, lab.clock.utc(), Live())
    assert f"Void for the device's sake, and repeated: 2 runs; the last because {BUSY}." in page
    assert status_view(done.supervisor.state, lab.clock.utc(), alive=False)["disturbed_runs"] == 2


def test_while_it_waits_for_calm_the_first_line_says_so_and_why() -> None:
    lab = Lab(plan=lambda _: Plan(), busy=lambda order, _: BUSY if order.id == 1 else "")
    done, papers = bench(lab), Pages()
    done.world = replace(done.world, papers=papers)
    done.run(1)
    waits = [page for page in papers.pages if "waiting until" in page.splitlines()[0]]
    assert waits
    assert "3 disturbed runs in a row" in waits[0].splitlines()[0]
    assert "then experiment 1" in waits[0].splitlines()[0]
