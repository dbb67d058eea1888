"""Runs on this machine: one command in its own kill domain, with the starting gun or with a plain deadline.

In an arena that allows for it (`run.early`) the process of the next run is started while another trains. It imports,
builds on the host, asks for the device and waits; nobody reads what it asks until its own run begins, from when on the
clocks run. If it ended meanwhile, that is how its run ends.

Elsewhere the process of the next run is started up to the point at which the command itself would begin: folder, kill
domain and sandbox are there, and a shell in it waits to become the command.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from ralph.adapters.compiled import BASE, CompileCache, environment, program_of
from ralph.adapters.curves import read_curve, read_early, write_early
from ralph.adapters.data import PreparedData
from ralph.adapters.domains import Domains, Start, finished, log_of, read_log, shell
from ralph.adapters.files import write_atomic
from ralph.adapters.git import GitRepo
from ralph.adapters.gun import Budget, Gun
from ralph.adapters.limits import LimitKind
from ralph.adapters.machine import load_record
from ralph.adapters.process import Exit, ExitReason, recorded_exit
from ralph.adapters.redaction import redact_file, redact_folder
from ralph.adapters.run_at_work import OUT, PROGRESS, UNASKED, Phases, RunAtWork
from ralph.adapters.untrusted import UntrustedFileError, read_untrusted
from ralph.config import RunTable
from ralph.core import pruning
from ralph.core.crash import classify, tail
from ralph.core.curves import Curve
from ralph.core.secrets import SHAPES_ONLY, Redactor
from ralph.core.untrusted_json import flat, parse_object
from ralph.events import RunEnded
from ralph.layout import Layout
from ralph.model import CrashKind, EarlyStop, JsonValue, Outcome
from ralph.ports import RunOrder

CACHE = "cache"  # its own copy of what compilers left
ARTIFACT = "artifact.pt2"
TIMES = "times.json"
HELD = "held"  # a file that says that the command does not begin before TIMES is there
REPORT = f"{OUT}/report.json"
REPORT_BYTES = 64 * 1024
LIMITS = {
    LimitKind.MEMORY: CrashKind.MEMORY_LIMIT,
    LimitKind.PROCESSES: CrashKind.PROCESS_LIMIT,
    LimitKind.OUTPUT: CrashKind.OUTPUT_LIMIT,
    LimitKind.DISK: CrashKind.DISK_LIMIT,
    LimitKind.LARGEST: CrashKind.OUT_OF_MEMORY,
    LimitKind.MACHINE: None,  # says nothing about the run
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A run whose process was started early."""

    order: RunOrder
    run: RunAtWork


class LocalRunner:
    """The port `Runner` on this machine. `data` is what *go* hands over; None in an arena without prepared data.

    `shown` is the environment that shows a run of several GPUs its own, which it calls `device`.
    """

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
        shown: Mapping[str, str] = MappingProxyType({}),
        compiled: CompileCache | None = None,
    ) -> None:
        self._layout, self._repo, self._run, self._shown = layout, repo, run, shown
        self._compiled = compiled if run.gate else None  # without the gun nobody knows when it has seen data
        self._device, self._data, self._domains, self._redact = device, data, domains, redact
        self._early = run.gate and run.early and device.startswith("cuda")  # a CPU is shared with the run that trains
        self._waiting: dict[tuple[int, int], _Waiting] = {}

    def remains(self, order: RunOrder) -> RunEnded | None:
        """The result of a run that ended while no supervisor looked."""
        folder = self._layout.run(order.id, order.run)
        exit_ = finished(folder)
        if exit_ is None:
            return self._stopped(order, recorded_exit(folder))
        try:
            phases = Phases(**json.loads((folder / TIMES).read_text()))
        except (OSError, ValueError, TypeError):
            if self._run.gate or (folder / HELD).exists():
                return None  # nobody kept its clock to the end, or it never began
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

    def prepare(self, order: RunOrder) -> None:
        """Start the command early, if the arena allows for it: it is not to touch the device until it is given it.

        Else all but the command.
        """
        if self.prepared(order):
            return
        if (other := self._waiting.pop((order.id, order.run), None)) is not None:
            self._end(other)
        self._waiting[order.id, order.run] = _Waiting(order=order, run=self._spawn(order, early=True))

    def prepared(self, order: RunOrder) -> bool:
        """Whether the process of this very order was started early, living or not."""
        waiting = self._waiting.get((order.id, order.run))
        return waiting is not None and waiting.order == order

    def waiting(self) -> Mapping[RunOrder, int]:
        """The process at the top of the tree of each run that is prepared and may still hope for its turn."""
        return {each.order: each.run.pid for each in self._waiting.values() if not each.run.forfeited}

    def forfeit(self, order: RunOrder, reason: str) -> None:
        """End a prepared process that broke a rule; its run, once it is started, is invalid for this reason."""
        if self.prepared(order):
            self._waiting[order.id, order.run].run.forfeit(reason)

    def drop(self, order: RunOrder | None = None) -> None:
        """End what was prepared and is not wanted any more."""
        for key, waiting in list(self._waiting.items()):
            if order is None or waiting.order == order:
                del self._waiting[key]
                self._end(waiting)

    def _end(self, waiting: _Waiting) -> None:
        waiting.run.abandon()
        self._domains.clear(self._layout.run(waiting.order.id, waiting.order.run))

    def start(self, order: RunOrder) -> RunAtWork:
        """Start the command in a clean checkout, or give its device to the process that was prepared for it."""
        waiting = self._waiting.pop((order.id, order.run), None)
        if waiting is None:
            return self._spawn(order, early=False)
        if waiting.order != order:
            self._end(waiting)
            return self._spawn(order, early=False)
        waiting.run.begin(self._run.setup_s if self._run.gate else self._whole_s())
        return waiting.run

    def _spawn(self, order: RunOrder, *, early: bool) -> RunAtWork:
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
        env |= self._shown
        if self._device == "cpu":
            env["CUDA_VISIBLE_DEVICES"] = ""
        if self._data is not None:
            write_atomic(out / "data.json", json.dumps(self._data.public))
            env["RALPH_DATA"] = str(out / "data.json")
        gun, program, writable = self._gun(), "", [out, tree]
        if gun is not None:
            env["RALPH_GUN_FD"] = str(gun.theirs.fileno())
        if gun is not None and self._compiled is not None:
            program = BASE if order.id == 0 else program_of(self._repo.contents(order.commit))
            writable.append(cache := folder / CACHE)
            self._compiled.lay(program, cache)
            gun.before_go = partial(self._compiled.take, program, cache)
            env |= {name: value for name, value in environment(cache).items() if name not in self._run.env}
        held = early and not self._early
        if held:
            (folder / HELD).touch()
        record = load_record()
        child = self._domains.start(
            Start(
                folder=folder,
                argv=shell(self._run.command),
                cwd=self._repo.arena_in(tree),
                env=env,
                arena_env=self._run.env,
                writable=tuple(writable),
                hidden=(self._repo.store,),
                deadline_s=None if early else self._run.setup_s if gun else self._whole_s(),
                pass_fds=(gun.theirs.fileno(),) if gun else (),
                held=held,
            )
        )
        if gun is not None:
            gun.attach(child.set_deadline)
        return RunAtWork(child, gun, folder / TIMES, record, partial(self._ended, order, program))

    def _ended(self, order: RunOrder, program: str, exit_: Exit, phases: Phases, forfeited: str) -> RunEnded:
        ended = self._result(order, exit_, phases, forfeited)
        if program and self._compiled is not None:
            self._compiled.settle(program, ok=ended.outcome is Outcome.OK)
        return ended

    def _whole_s(self) -> float:
        return self._run.setup_s + self._run.budget_s + self._run.export_s + self._run.grace_s

    def _gun(self) -> Gun | None:
        if not self._run.gate:
            return None
        run = self._run
        budget = Budget(budget_s=run.budget_s, export_s=run.export_s, grace_s=run.grace_s)
        data = self._data.train if self._data else {}
        return Gun(budget, data, device=self._device, must_ask=self._early)

    def _result(self, order: RunOrder, exit_: Exit, phases: Phases, forfeited: str = "") -> RunEnded:
        folder = self._layout.run(order.id, order.run)
        redact_file(log_of(folder), self._redact)
        redact_folder(folder / OUT, self._redact)
        log = read_log(folder)
        outcome, crash, reason = self._verdict(exit_, phases, log)
        if forfeited:
            outcome, crash, reason = Outcome.INVALID, None, forfeited
        stop, train_s = read_early(folder), phases.train_s
        if stop is not None and not stop.spared and exit_.reason in (ExitReason.KILLED, ExitReason.ORPHANED):
            outcome, crash, reason = Outcome.STOPPED, None, pruning.reason(stop)
            train_s = stop.share * self._run.budget_s
        report = _report(folder)
        peak = report.get("peak_bytes")
        gated_s = phases.setup_s + phases.train_s  # from the gun's start, a few milliseconds before the shim's clock
        seconds = max(exit_.seconds - phases.early_s, gated_s)
        early = {"early_s": round(phases.early_s, 3)} if phases.early_s else {}
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
            record={**phases.record, **early, **{k: v for k, v in report.items() if k != "peak_bytes"}},
            curve=self.curve(order) if self._run.gate else (),
            early=stop,
        )

    def _verdict(self, exit_: Exit, phases: Phases, log: str) -> tuple[Outcome, CrashKind | None, str]:
        run = self._run
        if phases.unasked:
            return Outcome.CRASH, CrashKind.EXCEPTION, UNASKED
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


def _late(run: RunTable, phases: Phases) -> str:
    if not run.gate:
        return "the command did not end within its time (setup_s + budget_s + export_s + grace_s)"
    if not phases.ready:
        return f"not ready within setup_s = {run.setup_s:g} s"
    if not phases.stopped:
        return f"still training {run.grace_s:g} s after its budget of {run.budget_s:g} s"
    return f"not done with its artifact {run.export_s + run.grace_s:g} s after training"


def _report(folder: Path) -> dict[str, JsonValue]:
    """The flat part of the JSON object that a run wrote; nothing if it wrote something else."""
    try:
        return flat(parse_object(read_untrusted(folder, REPORT, REPORT_BYTES)))
    except (FileNotFoundError, UntrustedFileError):
        return {}
