"""A run at work: how far it is, by its gun, and how it ends."""

import contextlib
import json
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ralph.adapters.files import write_atomic
from ralph.adapters.gun import Gun, Times
from ralph.adapters.machine import load_record
from ralph.adapters.process import Child, Exit
from ralph.adapters.untrusted import UntrustedFileError, read_untrusted_tail
from ralph.core.untrusted_json import flat, number, parse_object
from ralph.events import RunEnded
from ralph.model import JsonValue
from ralph.ports import News

OUT = "out"  # RALPH_RUN_DIR, below the domain's folder
PROGRESS = f"{OUT}/progress.jsonl"
PROGRESS_TAIL_BYTES = 4096
UNASKED = "it was ready without having asked for its device: prepare.device() comes before that; see docs/runs.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """How far a gated run came, by the supervisor's clock (seconds), and what the machine was doing when it began."""

    early_s: float = 0.0  # from its start to that of its run
    setup_s: float = 0.0
    train_s: float = 0.0
    unasked: bool = False
    ready: bool = False
    stopped: bool = False
    record: Mapping[str, JsonValue] = field(default_factory=dict)


class RunAtWork:
    """A run at work: its shim and its gun on one descriptor. One that is prepared is not polled until it begins."""

    def __init__(
        self,
        child: Child,
        gun: Gun | None,
        times: Path,
        record: Mapping[str, JsonValue],
        result: Callable[[Exit, Phases, str], RunEnded],
    ) -> None:
        self._child, self._gun, self._times, self._record, self._result = child, gun, times, record, result
        self.forfeited = ""  # the rule that it broke while it waited
        self._spawned, self._early_s = time.monotonic(), 0.0
        self._poller = select.epoll()
        self._poller.register(child.fileno(), select.EPOLLIN)
        if gun is not None:
            self._poller.register(gun.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        """Readable when the run has spoken or is gone."""
        return self._poller.fileno()

    @property
    def pid(self) -> int:
        """The process at the top of its tree."""
        return self._child.pid

    def begin(self, within_s: float) -> None:
        """A prepared run begins now: its device is its own, and its clocks run.

        `within_s` is how long it has until it is ready; without a gun, until it has ended.
        """
        self._record = load_record()
        if self._gun is not None:
            self._gun.begin(within_s)
        else:
            self._early_s = time.monotonic() - self._spawned
            write_atomic(self._times, json.dumps(asdict(self._phases())), durable=False)
            self._child.set_deadline(within_s)
        self._child.release()

    def forfeit(self, reason: str) -> None:
        """End a prepared run that broke a rule. Returns at once."""
        self.forfeited = self.forfeited or reason
        self._child.kill(reason)

    def abandon(self) -> None:
        """End a prepared run that is not wanted, and wait until it is gone, unless it cannot be killed."""
        self._child.end("not wanted any more")
        self._close()

    def poll(self) -> RunEnded | None:
        """Answer the gun, then look whether the run is over."""
        if self._gun is not None and not self._gun.hear():
            with contextlib.suppress(FileNotFoundError):
                self._poller.unregister(self._gun.fileno())
        phases = self._phases()
        if phases.unasked:
            self._child.kill(UNASKED)
        if phases.stopped and not self._times.exists():
            write_atomic(self._times, json.dumps(asdict(phases)))
        exit_ = self._child.poll()
        if exit_ is None:
            return None
        if self._gun is not None:
            self._gun.hear()  # what it said in its last moment
            phases = self._phases()
        self._close()
        return self._result(exit_, phases, self.forfeited)

    def _close(self) -> None:
        if self._gun is not None:
            self._gun.close()
        self._poller.close()
        self._child.close()

    def _phases(self) -> Phases:
        if self._gun is None:
            return Phases(early_s=self._early_s, record=self._record)
        times = self._gun.times
        return Phases(
            early_s=times.started - times.spawned,
            unasked=times.unasked,
            setup_s=(times.ready or times.started) - times.started,
            train_s=(times.stopped - times.go) if times.stopped and times.go else 0.0,
            ready=times.ready is not None,
            stopped=times.stopped is not None,
            record=self._record,
        )

    def news(self) -> News | None:
        """Its stage by the gun, its step and loss by the last line it wrote."""
        if self._gun is None:
            return None
        times = self._gun.times
        since, stage = max((t, s) for t, s in self._stages(times) if t is not None)
        last = _last_progress(self._times.parent)
        return News(stage=stage, stage_s=time.monotonic() - since, step=last[0], loss=last[1])

    @staticmethod
    def _stages(times: Times) -> tuple[tuple[float | None, str], ...]:
        return (times.started, "set-up"), (times.go, "training"), (times.stopped, "export")

    def stop(self, reason: str) -> None:
        """Ask for its end."""
        self._child.kill(reason)


def _last_progress(folder: Path) -> tuple[int | None, float | None]:
    """Step and loss of the last whole line, None where a run says nothing sensible."""
    try:
        lines = read_untrusted_tail(folder, PROGRESS, PROGRESS_TAIL_BYTES).split(b"\n")[:-1]
    except (FileNotFoundError, UntrustedFileError):
        return None, None
    raw = (parse_object(lines[-1]) if lines else None) or {}
    step = flat(raw).get("step")
    return (step if isinstance(step, int) else None), number(raw.get("loss"))
