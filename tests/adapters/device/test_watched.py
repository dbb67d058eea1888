"""A run has its device for itself: it waits for it, is watched on it, is void when it was not alone, gives it back."""

import os
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from ralph.adapters.device.watched import Care, DeviceRunner, DeviceScorer
from ralph.adapters.scripted.device import ScriptedDevice
from ralph.adapters.scripted.lab import Lab, LabScorer, Plan
from ralph.errors import DeviceError
from ralph.events import RunEnded
from ralph.model import CrashKind, EarlyStop, Outcome
from ralph.ports import Job, News, RunOrder, Sample, ScoreOrder

ORDER = RunOrder(id=3, run=1, seed=3001, commit="c3", tree="3-run")
FOREIGN = Sample(at_s=0, others=("pid 7 (python)",), temperature_c=70)
QUIET = Sample(at_s=0, temperature_c=60)
NEXT = RunOrder(id=4, run=1, seed=4001, commit="c4", tree="4-run")
GATED = ("set-up", "training", "training", "export")
WITHIN_S = 20.0


class StagedRun:
    """A run that goes one stage further at each poll; None is a run that never says where it is."""

    pid = 4711

    def __init__(self, stages: Sequence[str | None], ended: RunEnded) -> None:
        self._stages, self._ended = list(stages), ended
        self.stopped = ""
        self._fd = os.eventfd(1)  # there is always news

    def fileno(self) -> int:
        return self._fd

    def news(self) -> News | None:
        stage = self._stages[0]
        return News(stage=stage, stage_s=1.0) if stage else None

    def poll(self) -> RunEnded | None:
        if self.stopped or len(self._stages) == 1:
            os.close(self._fd)
            return self._ended
        self._stages.pop(0)
        return None

    def stop(self, reason: str) -> None:
        self.stopped = reason


class StagedRuns:
    """Starts staged runs."""

    def __init__(self, stages: Sequence[str | None] = GATED, **ended: object) -> None:
        fields: dict[str, object] = {"outcome": Outcome.OK, "record": {"tokens": 5}} | ended
        self._stages, self._ended = stages, RunEnded(id=3, run=1, **fields)  # type: ignore[arg-type]
        self.started: list[StagedRun] = []
        self.marked: list[EarlyStop] = []
        self.early: dict[RunOrder, str] = {}  # those prepared, and why one of them may not run

    def curve(self, order: RunOrder) -> tuple[float | None, ...]:
        return (4.0, 3.0)

    def mark(self, order: RunOrder, early: EarlyStop) -> None:
        self.marked.append(early)

    def remains(self, order: RunOrder) -> RunEnded | None:
        return None

    def prepare(self, order: RunOrder) -> None:
        self.early.setdefault(order, "")

    def prepared(self, order: RunOrder) -> bool:
        return order in self.early

    def drop(self, order: RunOrder | None = None) -> None:
        self.early = {each: why for each, why in self.early.items() if order not in (None, each)}

    def waiting(self) -> Mapping[RunOrder, int]:
        return {each: 100 + each.id for each, why in self.early.items() if not why}

    def forfeit(self, order: RunOrder, reason: str) -> None:
        self.early[order] = reason

    def start(self, order: RunOrder) -> StagedRun:
        self.started.append(StagedRun(("", *self._stages, "export"), self._ended))
        return self.started[-1]


def finish(job: Job[RunEnded]) -> RunEnded:
    """Poll it as the loop does: whenever its descriptor says so."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        if (ended := job.poll()) is not None:
            return ended
        if (fd := job.fileno()) is not None:
            select.select([fd], [], [], WITHIN_S)
    raise AssertionError("the job does not end")


def test_a_run_on_a_free_device_begins_at_once_and_keeps_what_was_seen() -> None:
    device, runs = ScriptedDevice(samples=[QUIET]), StagedRuns()
    job = DeviceRunner(runs, device, Care()).start(ORDER)
    assert len(runs.started) == 1
    assert device.leased
    ended = finish(job)
    assert (ended.outcome, ended.disturbed) == (Outcome.OK, "")
    assert ended.record["tokens"] == 5
    assert ended.record["device_temperature_c"] == 60
    assert set(device.roots) == {4711}
    assert not device.leased


def test_a_run_waits_for_its_device_says_for_whom_and_starts_when_it_is_free() -> None:
    device, runs = ScriptedDevice(holders=["the supervisor with pid 9 in /x has"]), StagedRuns()
    job = DeviceRunner(runs, device, Care()).start(ORDER)
    assert runs.started == []
    news = job.news()
    assert news is not None
    assert news.waits_for == "cuda:0, which the supervisor with pid 9 in /x has"
    assert job.poll() is None
    assert runs.started == [], "it asks again after a second, not at every turn of the loop"
    assert finish(job).outcome is Outcome.OK


def test_a_run_waits_until_the_memory_of_the_one_before_is_free() -> None:
    held = "pid 7 (python, 12.0 GiB) (12.0 GiB are in use, 1 GiB are allowed for)"
    device, runs = ScriptedDevice(occupants=[held, held, ""]), StagedRuns()
    job = DeviceRunner(runs, device, Care()).start(ORDER)
    assert runs.started == []
    news = job.news()
    assert news is not None
    assert news.waits_for == "the memory of cuda:0, which pid 7 has"
    assert finish(job).outcome is Outcome.OK


def test_memory_that_does_not_get_free_parks_with_the_name_of_who_holds_it_and_gives_the_lease_back() -> None:
    device, runs = ScriptedDevice(occupants=["pid 7 (python, 12.0 GiB)"]), StagedRuns()
    job = DeviceRunner(runs, device, Care(wait_free_s=0.3)).start(ORDER)
    with pytest.raises(DeviceError, match=r"not free within 0\.3 s: pid 7 \(python, 12\.0 GiB\)"):
        finish(job)
    assert runs.started == []
    assert not device.leased
    assert job.fileno() is None
    ended = job.poll()
    assert ended is not None, "the end of the loop asks once more, and must not hear the same again"
    assert ended.outcome is Outcome.VOID


def test_a_run_that_was_not_alone_while_it_trained_is_void() -> None:
    device = ScriptedDevice(samples=[QUIET, FOREIGN])
    ended = finish(DeviceRunner(StagedRuns(), device, Care()).start(ORDER))
    assert ended.outcome is Outcome.VOID
    assert "pid 7 (python)" in ended.disturbed
    assert ended.reason == f"disturbed: {ended.disturbed}"
    assert ended.record["device_others"] == "pid 7 (python)"


def test_what_disturbs_its_set_up_alone_costs_it_nothing() -> None:
    device = ScriptedDevice(samples=[FOREIGN, QUIET], sample_s=3600)
    ended = finish(DeviceRunner(StagedRuns(), device, Care()).start(ORDER))
    assert ended.outcome is Outcome.OK
    assert device.looks == 3  # at the start, at go, at the end of training


def test_a_run_without_a_starting_gun_is_watched_from_its_beginning() -> None:
    device = ScriptedDevice(samples=[FOREIGN], sample_s=3600)
    ended = finish(DeviceRunner(StagedRuns(stages=[None, None]), device, Care()).start(ORDER))
    assert ended.outcome is Outcome.VOID


@pytest.mark.parametrize("kind", [CrashKind.OUT_OF_MEMORY, CrashKind.DEADLINE])
def test_a_crash_that_a_busy_device_can_cause_is_no_crash_on_one(kind: CrashKind) -> None:
    runs = StagedRuns(outcome=Outcome.CRASH, crash=kind, reason="x")
    ended = finish(DeviceRunner(runs, ScriptedDevice(samples=[FOREIGN]), Care()).start(ORDER))
    assert (ended.outcome, ended.crash) == (Outcome.VOID, None)


def test_a_plain_mistake_stays_a_crash_whoever_computed_beside_it() -> None:
    runs = StagedRuns(outcome=Outcome.CRASH, crash=CrashKind.EXCEPTION, reason="NameError")
    ended = finish(DeviceRunner(runs, ScriptedDevice(samples=[FOREIGN]), Care()).start(ORDER))
    assert (ended.outcome, ended.disturbed) == (Outcome.CRASH, "")


def test_a_prepared_run_has_no_lease_and_its_process_is_looked_for_while_another_trains() -> None:
    device, runs = ScriptedDevice(samples=[QUIET]), StagedRuns()
    runner = DeviceRunner(runs, device, Care())
    runner.prepare(NEXT)
    assert runner.prepared(NEXT)
    assert not device.leased
    finish(runner.start(ORDER))
    assert device.waited == {(104,)}
    assert runs.early == {NEXT: ""}
    runner.drop(NEXT)
    assert not runner.prepared(NEXT)


def test_a_process_that_is_on_the_device_before_its_turn_is_ended_and_spoils_one_look_at_most() -> None:
    device = ScriptedDevice(samples=[QUIET, replace(FOREIGN, early=(1,)), *[QUIET] * 9], sample_s=3600)
    runs = StagedRuns(stages=["set-up", *["training", "set-up"] * 4])
    runner = DeviceRunner(runs, device, Care())
    runner.prepare(NEXT)
    finish(runner.start(ORDER))
    assert runs.early == {NEXT: "it was at work on cuda:0 before it was given it; see docs/runs.md"}
    assert device.waited == {(104,), ()}, "nobody looks for it any more"


def test_the_last_look_for_it_is_before_its_own_run_begins() -> None:
    device, runs = ScriptedDevice(samples=[replace(FOREIGN, early=(1,)), QUIET]), StagedRuns()
    runner = DeviceRunner(runs, device, Care())
    runner.prepare(ORDER)
    runner.start(ORDER)
    assert "before it was given it" in runs.early[ORDER]


def test_a_lost_device_is_said_once_and_the_run_can_be_ended_after_it() -> None:
    device, runs = ScriptedDevice(samples=[QUIET, "XID 79"]), StagedRuns(stages=["set-up", *["training"] * 50])
    job = DeviceRunner(runs, device, Care()).start(ORDER)
    with pytest.raises(DeviceError, match="XID 79"):
        finish(job)
    job.stop("the device is lost")
    assert runs.started[0].stopped == "the device is lost"
    finish(job)
    assert not device.leased


def test_a_run_that_is_stopped_while_it_waits_never_begins() -> None:
    device, runs = ScriptedDevice(holders=["somebody"] * 99), StagedRuns()
    job = DeviceRunner(runs, device, Care()).start(ORDER)
    job.stop("stopped at once")
    assert finish(job).outcome is Outcome.VOID
    assert not device.leased
    assert runs.started == []


def test_a_scoring_leases_the_device_too_and_gives_it_back() -> None:
    lab, device = Lab(plan=lambda _: Plan()), ScriptedDevice()
    job = DeviceScorer(LabScorer(lab), device, Care()).start(ScoreOrder(id=3, run=1, seed=3001, commit="c3"))
    assert device.leased
    assert job.poll() is None
    lab.clock.seconds += lab.score_s
    scored = job.poll()
    assert scored is not None
    assert scored.outcome is Outcome.OK
    assert not device.leased


def test_a_scorer_that_is_started_early_needs_no_lease_until_it_is_released() -> None:
    lab, device = Lab(plan=lambda _: Plan(), import_s=3.0), ScriptedDevice()
    scorer, order = DeviceScorer(LabScorer(lab), device, Care()), ScoreOrder(id=3, run=1, seed=3001, commit="c3")
    scorer.prepare(order)
    assert not device.leased
    lab.clock.seconds += 10
    job = scorer.start(order)
    assert device.leased
    lab.clock.seconds += lab.score_s - lab.import_s
    scored = job.poll()
    assert scored is not None
    assert scored.seconds == lab.score_s - lab.import_s
    scorer.prepare(order)
    scorer.drop()
    assert lab.started == ["prepare score 3.1", "score 3.1", "prepare score 3.1", "drop score 3.1"]


def test_a_run_that_was_stopped_early_on_a_busy_device_says_nothing_about_its_idea() -> None:
    early = EarlyStop(share=0.5, behind=2.0, allowed=1.0)
    runs = StagedRuns(outcome=Outcome.STOPPED, early=early, reason="stopped at 50% of its budget")
    busy = finish(DeviceRunner(runs, ScriptedDevice(samples=[FOREIGN]), Care()).start(ORDER))
    assert busy.outcome is Outcome.VOID
    assert "pid 7 (python)" in busy.disturbed
    runner = DeviceRunner(runs, ScriptedDevice(samples=[QUIET]), Care())
    assert finish(runner.start(ORDER)).outcome is Outcome.STOPPED
    runner.mark(ORDER, early)
    assert (runner.curve(ORDER), runs.marked) == ((4.0, 3.0), [early])
