"""Runs and scorings that have their device for themselves: leased, measured free, watched while they train.

A job that cannot have the device yet waits as a job: it wakes by a timer, says who has the device in its news, and
starts what it was asked for as soon as it can.
"""

import os
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from ralph.adapters.device.timer import Timer
from ralph.core.disturbance import Bounds, Tally
from ralph.errors import DeviceError
from ralph.events import RunEnded, Scored
from ralph.model import CrashKind, EarlyStop, Outcome
from ralph.ports import Device, Job, News, RunOrder, Sample, ScoreOrder, Scorer

T = TypeVar("T")

ASK_S = 1.0  # how soon a waiting run sees that another supervisor has given the device back
FREE_S = 0.2  # how soon it sees that the memory is free
OTHERS_FAULT = frozenset({CrashKind.OUT_OF_MEMORY, CrashKind.DEADLINE})  # crashes that a busy device can cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """How long to wait for memory to be free, and what makes a run void."""

    wait_free_s: float = 60.0
    bounds: Bounds = field(default_factory=Bounds)


class Running(Job[RunEnded], Protocol):
    """A run at work."""

    @property
    def pid(self) -> int | None:
        """The process at the top of its tree."""
        ...


class Runs(Protocol):
    """What carries out runs without a thought for the device."""

    def remains(self, order: RunOrder) -> RunEnded | None:
        """How it ended, if it did before a restart."""
        ...

    def prepare(self, order: RunOrder) -> None:
        """Start its process early, where that is allowed."""
        ...

    def prepared(self, order: RunOrder) -> bool:
        """Whether that was done."""
        ...

    def drop(self, order: RunOrder | None = None) -> None:
        """Undo it, for this order or for all."""
        ...

    def waiting(self) -> Mapping[RunOrder, int]:
        """The process at the top of the tree of each run that waits for its device."""
        ...

    def forfeit(self, order: RunOrder, reason: str) -> None:
        """It broke a rule while it waited: end it; its run is invalid."""
        ...

    def start(self, order: RunOrder) -> Running:
        """Start the run."""
        ...

    def curve(self, order: RunOrder) -> tuple[float | None, ...]:
        """Its loss so far."""
        ...

    def mark(self, order: RunOrder, early: EarlyStop) -> None:
        """Put on record that it is to be stopped, or spared."""
        ...


class DeviceRunner:
    """The port `Runner` on a device of its own."""

    def __init__(self, runs: Runs, device: Device, care: Care) -> None:
        self._runs, self._device, self._care = runs, device, care

    def remains(self, order: RunOrder) -> RunEnded | None:
        """The result of a run that ended while no supervisor looked: nobody watched the end of it, so it counts."""
        return self._runs.remains(order)

    def prepare(self, order: RunOrder) -> None:
        """Start its process early. Whoever trains meanwhile looks after it: it is not to be on the device."""
        self._runs.prepare(order)

    def prepared(self, order: RunOrder) -> bool:
        """Whether its process was started early."""
        return self._runs.prepared(order)

    def drop(self, order: RunOrder | None = None) -> None:
        """End what was prepared."""
        self._runs.drop(order)

    def start(self, order: RunOrder) -> Job[RunEnded]:
        """Start the run, or wait for its device first."""
        job = _WatchedRun(self._runs, order, self._device, self._care)
        job.begin()
        return job

    def curve(self, order: RunOrder) -> tuple[float | None, ...]:
        """Its loss so far."""
        return self._runs.curve(order)

    def mark(self, order: RunOrder, early: EarlyStop) -> None:
        """Put on record that it is to be stopped, or spared."""
        self._runs.mark(order, early)


class DeviceScorer:
    """The port `Scorer`, with the device leased for the time of each scoring."""

    def __init__(self, scorer: Scorer, device: Device, care: Care) -> None:
        self._scorer, self._device, self._care = scorer, device, care

    def broken_seal(self) -> str:
        """What differs in the sealed copy."""
        return self._scorer.broken_seal()

    def remains(self, order: ScoreOrder) -> Scored | None:
        """What it said, if it did before a restart."""
        return self._scorer.remains(order)

    def prepare(self, order: ScoreOrder) -> None:
        """Start its process early. It is not on the device yet, which therefore need not be leased."""
        self._scorer.prepare(order)

    def drop(self, order: ScoreOrder | None = None) -> None:
        """End what was prepared."""
        self._scorer.drop(order)

    def start(self, order: ScoreOrder) -> Job[Scored]:
        """Start scoring, or wait for the device first."""
        never = Scored(id=order.id, run=order.run, outcome=Outcome.VOID, reason="ended before it had its device")
        job = _LeasedJob(lambda: self._scorer.start(order), never, self._device, self._care)
        job.begin()
        return job


class _LeasedJob(Generic[T]):
    """A job that begins once the device is its own, and gives it back at its end. `never` is told if it never began."""

    def __init__(self, start: Callable[[], Job[T]], never: T, device: Device, care: Care) -> None:
        self._start, self._never, self._device, self._care = start, never, device, care
        self._job: Job[T] | None = None
        self._waits_for, self._since, self._stopped, self._over = "", time.monotonic(), False, False
        self._free_by: float | None = None
        self._inner_fd: int | None = None
        self._timer, self._poller = Timer(), select.epoll()
        self._poller.register(self._timer.fileno(), select.EPOLLIN)

    def begin(self) -> None:
        """Begin if the device is to be had. Raises DeviceError when what holds its memory does not go."""
        device = self._device
        if holder := device.lease():
            self._wait_for(f"{device.name}, which {holder}", ASK_S)
            return
        now = time.monotonic()
        if self._free_by is None:
            self._free_by = now + self._care.wait_free_s
        if taken := device.taken():
            if now >= self._free_by:
                self._end()
                raise DeviceError(
                    f"the memory of {device.name} was not free within {self._care.wait_free_s:g} s: {taken}. End what "
                    "holds it, or allow for it with device.memory_used_gib; then `ralph loop`"
                )
            self._wait_for(f"the memory of {device.name}, which {taken.partition(' (')[0]} has", FREE_S)
            return
        self._waits_for = ""
        self._timer.every(device.sample_s)
        try:
            self._job = self._start()
        except BaseException:
            self._end()
            raise
        self._follow(self._job)

    def _wait_for(self, what: str, ask_s: float) -> None:
        self._waits_for = what
        self._timer.every(ask_s)

    def _follow(self, job: Job[T]) -> None:
        self._inner_fd = job.fileno()
        if self._inner_fd is not None:
            self._inner_fd = os.dup(self._inner_fd)  # ours to close, whatever the job does with its own
            self._poller.register(self._inner_fd, select.EPOLLIN)

    def news(self) -> News | None:
        """Who has the device, or what the job says."""
        if self._job is None:
            return News(stage="waiting", stage_s=time.monotonic() - self._since, waits_for=self._waits_for)
        return self._job.news()

    def fileno(self) -> int | None:
        """Readable when it should be polled again."""
        if self._over or (self._job is not None and self._inner_fd is None):
            return None
        return self._poller.fileno()

    def poll(self) -> T | None:
        """Begin, or look whether it is over. Raises DeviceError once, when the device is lost or does not get free."""
        if self._over:
            return self._never  # it never had its device, which was said
        fired = self._timer.drain()
        if self._job is None:
            if self._stopped:
                self._end()
                return self._never
            if fired:
                self.begin()
            return None
        result = self._job.poll()
        if result is None:
            self._look(self._job, fired)
            return None
        self._end()
        return self._judged(result)

    def stop(self, reason: str) -> None:
        """Ask for its end."""
        self._stopped = True
        if self._job is not None:
            self._job.stop(reason)

    def _look(self, job: Job[T], fired: bool) -> None:
        """Nothing to look at."""

    def _judged(self, result: T) -> T:
        return result

    def _end(self) -> None:
        self._over = True
        self._device.release()
        self._poller.close()
        self._timer.close()
        if self._inner_fd is not None:
            os.close(self._inner_fd)
            self._inner_fd = None


class _WatchedRun(_LeasedJob[RunEnded]):
    """A run whose device is looked at while it trains; without a starting gun, from its beginning to its end."""

    def __init__(self, runs: Runs, order: RunOrder, device: Device, care: Care) -> None:
        void = RunEnded(id=order.id, run=order.run, outcome=Outcome.VOID, reason="ended before it had its device")
        super().__init__(lambda: self._run(order), void, device, care)
        self._runs, self._tally, self._stage = runs, Tally(), ""
        self._pid: int | None = None
        self._lost = False

    def _run(self, order: RunOrder) -> Running:
        if self._runs.waiting():
            self._seen(None)  # the last moment in which one that was prepared for this run has no right to be there
        running = self._runs.start(order)
        self._pid = running.pid
        return running

    def _look(self, job: Job[RunEnded], fired: bool) -> None:
        news = job.news()
        stage = news.stage if news else "training"
        begins, ends = stage != self._stage, stage != "training" and self._stage == "training"
        if begins and stage == "training":
            self._tally = Tally()  # what disturbed its set-up did not cost it training time
        if (begins or fired) and (stage != "export" or ends) and not self._lost:
            self._sample()
        self._stage = stage

    def _sample(self) -> None:
        try:
            self._tally.add(self._seen(self._pid))
        except DeviceError:
            self._lost = True  # said once; what is left is to end the run
            raise

    def _seen(self, root: int | None) -> Sample:
        """One look; a process that waits for the device and is at work there already is ended."""
        waiting = self._runs.waiting()
        sample = self._device.sample(root, tuple(waiting.values()))
        for order, pid in waiting.items():
            if pid in sample.early:
                reason = f"it was at work on {self._device.name} before it was given it; see docs/runs.md"
                self._runs.forfeit(order, reason)
        return sample

    def _judged(self, ended: RunEnded) -> RunEnded:
        ended = replace(ended, record={**ended.record, **self._tally.record()})
        spoilt = self._tally.disturbed(self._care.bounds)
        ours = ended.outcome in (Outcome.OK, Outcome.STOPPED) or ended.crash in OTHERS_FAULT
        if not (spoilt and ours):
            return ended
        return replace(ended, outcome=Outcome.VOID, crash=None, reason=f"disturbed: {spoilt}", disturbed=spoilt)
