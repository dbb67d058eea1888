"""Runs on this machine: one command in its own kill domain, with the starting gun or with a plain deadline."""

import contextlib
import json
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from ralph.adapters.curves import read_curve, read_early, write_early
from ralph.adapters.data import PreparedData
from ralph.adapters.domains import Domains, Start, finished, log_of, read_log, shell
from ralph.adapters.files import write_atomic
from ralph.adapters.git import GitRepo
from ralph.adapters.gun import Budget, Gun, Times
from ralph.adapters.limits import LimitKind
from ralph.adapters.machine import load_record
from ralph.adapters.process import Child, Exit, ExitReason, recorded_exit
from ralph.adapters.redaction import redact_file, redact_folder
from ralph.adapters.untrusted import UntrustedFileError, read_untrusted, read_untrusted_tail
from ralph.config import RunTable
from ralph.core import pruning
from ralph.core.crash import classify, tail
from ralph.core.curves import Curve
from ralph.core.secrets import SHAPES_ONLY, Redactor
from ralph.core.untrusted_json import flat, number, parse_object
from ralph.events import RunEnded
from ralph.layout import Layout
from ralph.model import CrashKind, EarlyStop, JsonValue, Outcome
from ralph.ports import News, RunOrder

OUT = "out"  # RALPH_RUN_DIR, below the domain's folder
ARTIFACT = "artifact.pt2"
TIMES = "times.json"
REPORT = f"{OUT}/report.json"
REPORT_BYTES = 64 * 1024
PROGRESS = f"{OUT}/progress.jsonl"
PROGRESS_TAIL_BYTES = 4096
LIMITS = {
    LimitKind.MEMORY: CrashKind.MEMORY_LIMIT,
    LimitKind.PROCESSES: CrashKind.PROCESS_LIMIT,
    LimitKind.OUTPUT: CrashKind.OUTPUT_LIMIT,
    LimitKind.DISK: CrashKind.DISK_LIMIT,
    LimitKind.LARGEST: CrashKind.OUT_OF_MEMORY,
    LimitKind.MACHINE: None,  # says nothing about the run
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """How far a gated run came, by the supervisor's clock (seconds), and what the machine was doing when it began."""

    setup_s: float = 0.0
    train_s: float = 0.0
    ready: bool = False
    stopped: bool = False
    record: Mapping[str, JsonValue] = field(default_factory=dict)


class LocalRunner:
    """The port `Runner` on this machine. `data` is what *go* hands over; None in an arena without prepared data."""

    def __init__(
        self,
        *,
        layout: Layout,
        repo: GitRepo,
        run: RunTable,
        device: str,
        data: PreparedData | None,
        domains: Domains,
        redact: Redactor = SHAPES_ONLY,
    ) -> None:
        self._layout, self._repo, self._run = layout, repo, run
        self._device, self._data, self._domains, self._redact = device, data, domains, redact

    def remains(self, order: RunOrder) -> RunEnded | None:
        """The result of a run that ended while no supervisor looked."""
        folder = self._layout.run(order.id, order.run)
        exit_ = finished(folder)
        if exit_ is None:
            return self._stopped(order, recorded_exit(folder))
        try:
            phases = Phases(**json.loads((folder / TIMES).read_text()))
        except (OSError, ValueError, TypeError):
            if self._run.gate:
                return None  # nobody kept its clock to the end
            phases = Phases()
        return self._result(order, exit_, phases)

    def _stopped(self, order: RunOrder, exit_: Exit | None) -> RunEnded | None:
        """The result of a run that was to be stopped early and is gone, whoever ended it in the end."""
        early = read_early(self._layout.run(order.id, order.run))
        return self._result(order, exit_, Phases()) if exit_ and early and not early.spared else None

    def curve(self, order: RunOrder) -> Curve:
        """What it has logged so far."""
        return read_curve(self._layout.run(order.id, order.run), PROGRESS, self._run.budget_s)

    def mark(self, order: RunOrder, early: EarlyStop) -> None:
        """Put it beside the run, where the run cannot reach."""
        write_early(self._layout.run(order.id, order.run), early)

    def start(self, order: RunOrder) -> "RunAtWork":
        """Start the command in a clean checkout."""
        folder = self._domains.fresh(self._layout.run(order.id, order.run))
        out = folder / OUT
        out.mkdir()
        tree = self._layout.tree(order.tree)
        env = {
            "RALPH_RUN_DIR": str(out),
            "RALPH_SEED": str(order.seed),
            "RALPH_BUDGET_S": f"{self._run.budget_s:g}",
            "RALPH_EXPORT_S": f"{self._run.export_s:g}",
            "RALPH_ARTIFACT": str(out / ARTIFACT),
            "RALPH_DEVICE": self._device,
        }
        if self._device == "cpu":
            env["CUDA_VISIBLE_DEVICES"] = ""
        if self._data is not None:
            write_atomic(out / "data.json", json.dumps(self._data.public))
            env["RALPH_DATA"] = str(out / "data.json")
        gun = self._gun()
        if gun is not None:
            env["RALPH_GUN_FD"] = str(gun.theirs.fileno())
        record = load_record()
        child = self._domains.start(
            Start(
                folder=folder,
                argv=shell(self._run.command),
                cwd=self._repo.arena_in(tree),
                env=env,
                arena_env=self._run.env,
                writable=(out, tree),
                deadline_s=self._run.setup_s if gun else self._whole_s(),
                pass_fds=(gun.theirs.fileno(),) if gun else (),
            )
        )
        if gun is not None:
            gun.attach(child.set_deadline)
        return RunAtWork(child, gun, folder / TIMES, record, partial(self._result, order))

    def _whole_s(self) -> float:
        return self._run.setup_s + self._run.budget_s + self._run.export_s + self._run.grace_s

    def _gun(self) -> Gun | None:
        if not self._run.gate:
            return None
        run = self._run
        budget = Budget(budget_s=run.budget_s, export_s=run.export_s, grace_s=run.grace_s)
        return Gun(budget, self._data.train if self._data else {})

    def _result(self, order: RunOrder, exit_: Exit, phases: Phases) -> RunEnded:
        folder = self._layout.run(order.id, order.run)
        redact_file(log_of(folder), self._redact)
        redact_folder(folder / OUT, self._redact)
        log = read_log(folder)
        outcome, crash, reason = self._verdict(exit_, phases, log)
        early, train_s = read_early(folder), phases.train_s
        if early is not None and not early.spared and exit_.reason in (ExitReason.KILLED, ExitReason.ORPHANED):
            outcome, crash, reason = Outcome.STOPPED, None, pruning.reason(early)
            train_s = early.share * self._run.budget_s
        report = _report(folder)
        peak = report.get("peak_bytes")
        gated_s = phases.setup_s + phases.train_s  # from the gun's start, a few milliseconds before the shim's clock
        seconds = max(exit_.seconds, gated_s)
        return RunEnded(
            id=order.id,
            run=order.run,
            outcome=outcome,
            crash=crash,
            reason=reason,
            tail=tail(log) if outcome not in (Outcome.OK, Outcome.STOPPED) else "",
            setup_s=round(phases.setup_s, 3),
            train_s=round(train_s, 3),
            export_s=round(seconds - gated_s, 3) if phases.stopped else 0.0,
            seconds=round(seconds, 3),
            peak_bytes=peak if isinstance(peak, int) and peak > 0 else exit_.peak_bytes,
            record={**phases.record, **{k: v for k, v in report.items() if k != "peak_bytes"}},
            curve=self.curve(order) if self._run.gate else (),
            early=early,
        )

    def _verdict(self, exit_: Exit, phases: Phases, log: str) -> tuple[Outcome, CrashKind | None, str]:
        run = self._run
        if exit_.reason is ExitReason.DEADLINE:
            return Outcome.CRASH, CrashKind.DEADLINE, _late(run, phases)
        if exit_.limit is not None:
            kind = LIMITS[exit_.limit]
            return (Outcome.VOID if kind is None else Outcome.CRASH), kind, exit_.detail
        if exit_.reason is not ExitReason.ENDED:
            return Outcome.VOID, None, exit_.detail
        if exit_.status != 0:
            kind, reason = classify(status=exit_.status, signal=exit_.signal, log=log)
            return Outcome.CRASH, kind, exit_.detail or reason
        if run.gate and not phases.stopped:
            what = "never said that it stopped training" if phases.ready else "ended without a word to the starting gun"
            return Outcome.CRASH, CrashKind.EXCEPTION, f"the run {what}; see docs/runs.md"
        return Outcome.OK, None, ""


class RunAtWork:
    """A run at work: its shim and its gun on one descriptor."""

    def __init__(
        self,
        child: Child,
        gun: Gun | None,
        times: Path,
        record: Mapping[str, JsonValue],
        result: Callable[[Exit, Phases], RunEnded],
    ) -> None:
        self._child, self._gun, self._times, self._record, self._result = child, gun, times, record, result
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

    def poll(self) -> RunEnded | None:
        """Answer the gun, then look whether the run is over."""
        if self._gun is not None and not self._gun.hear():
            with contextlib.suppress(FileNotFoundError):
                self._poller.unregister(self._gun.fileno())
        phases = self._phases()
        if phases.stopped and not self._times.exists():
            write_atomic(self._times, json.dumps(asdict(phases)))
        exit_ = self._child.poll()
        if exit_ is None:
            return None
        if self._gun is not None:
            self._gun.hear()  # what it said in its last moment
            phases = self._phases()
            self._gun.close()
        self._poller.close()
        self._child.close()
        return self._result(exit_, phases)

    def _phases(self) -> Phases:
        if self._gun is None:
            return Phases(record=self._record)
        times = self._gun.times
        return Phases(
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


def _late(run: RunTable, phases: Phases) -> str:
    if not run.gate:
        return "the command did not end within its time (setup_s + budget_s + export_s + grace_s)"
    if not phases.ready:
        return f"not ready within setup_s = {run.setup_s:g} s"
    if not phases.stopped:
        return f"still training {run.grace_s:g} s after its budget of {run.budget_s:g} s"
    return f"not done with its artifact {run.export_s + run.grace_s:g} s after training"


def _last_progress(folder: Path) -> tuple[int | None, float | None]:
    """Step and loss of the last whole line, None where a run says nothing sensible."""
    try:
        lines = read_untrusted_tail(folder, PROGRESS, PROGRESS_TAIL_BYTES).split(b"\n")[:-1]
    except (FileNotFoundError, UntrustedFileError):
        return None, None
    raw = (parse_object(lines[-1]) if lines else None) or {}
    step = flat(raw).get("step")
    return (step if isinstance(step, int) else None), number(raw.get("loss"))


def _report(folder: Path) -> dict[str, JsonValue]:
    """The flat part of the JSON object that a run wrote; nothing if it wrote something else."""
    try:
        return flat(parse_object(read_untrusted(folder, REPORT, REPORT_BYTES)))
    except (FileNotFoundError, UntrustedFileError):
        return {}
