"""The port `Scorer`: sealed, reported and command scores, all held to the arena's bounds.

Sealed and command scorers are processes of their own, in their own kill domain, run from the sealed copy, and are given
nothing of the agent's but the artifact. A reported score is read from the run's log and is worth as much as the run.

A sealed scorer may be started while its run still exports. It imports, in its final sandbox, and waits (see
`ralph.adapters.scorer.standby`); the sealed copy is checked and read, and the artifact looked at, when the run is gone.
What keeps the run from the process that waits is the sandbox: where there is none, no scorer is started early.
"""

import math
import stat
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ralph.adapters.data import PreparedData
from ralph.adapters.domains import Domains, Start, finished, log_of, read_log, shell
from ralph.adapters.files import write_atomic
from ralph.adapters.home import homes
from ralph.adapters.process import Child, Exit, ExitReason
from ralph.adapters.redaction import redact_file, redact_folder
from ralph.adapters.run_at_work import OUT
from ralph.adapters.runner import ARTIFACT, LIMITS
from ralph.adapters.sandbox import SandboxLevel
from ralph.adapters.seal import Seal
from ralph.adapters.untrusted import UntrustedFileError, read_untrusted
from ralph.config import Config
from ralph.core.crash import classify, last_error
from ralph.core.reported import NoScoreError, believable, parse_metrics, reported_score
from ralph.core.secrets import SHAPES_ONLY, Redactor
from ralph.core.untrusted_json import clean, flat, number, parse_object
from ralph.events import Scored
from ralph.layout import Layout
from ralph.model import CrashKind, JsonValue, Outcome, ScoreMode
from ralph.ports import Job, ScoreOrder

SCORER = "language_model.py"  # the sealed scorer's name in the sealed copy
ARENA = "arena"  # where the arena's fixed files lie in the sealed copy
ANSWERS = "answer"  # the folder that a scorer may write to
ANSWER = "score.json"
ANSWER_BYTES = 2**20
WAITED = "waited"  # a file that says for how many seconds it waited for its release; empty until then
STANDBY = ("-P", "-m", "ralph.adapters.scorer.standby")
ODD_FILES = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
}
CRASHES = {
    "nan": CrashKind.NAN,
    "no_artifact": CrashKind.NO_ARTIFACT,
    "out_of_memory": CrashKind.OUT_OF_MEMORY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A scorer that was started early."""

    order: ScoreOrder
    child: Child
    since: float


class ArenaScorer:
    """Scores in the mode that the arena asks for. `shown` shows a scorer that device alone, if there are several."""

    def __init__(
        self,
        *,
        layout: Layout,
        config: Config,
        device: str,
        data: PreparedData | None,
        seal: Seal,
        domains: Domains,
        redact: Redactor = SHAPES_ONLY,
        shown: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._layout, self._config, self._device, self._shown = layout, config, device, shown
        self._data, self._seal, self._domains, self._redact = data, seal, domains, redact
        self._waiting: dict[Path, _Waiting] = {}  # by kill domain

    def broken_seal(self) -> str:
        """What was changed in the sealed copy."""
        return self._seal.broken()

    def remains(self, order: ScoreOrder) -> Scored | None:
        """What a scorer said that finished while no supervisor looked, or what needs none; a reported score is read."""
        if self._config.score.mode is ScoreMode.REPORTED:
            return self._reported(order)
        folder = self._folder(order)
        exit_ = finished(folder)
        if exit_ is None or _waited_s(folder) is None:
            return self._odd_artifact(order)
        return self._result(order, exit_)

    def _odd_artifact(self, order: ScoreOrder) -> Scored | None:
        """No scorer is started for an artifact that would hang it or lead it elsewhere. One may be missing."""
        try:
            mode = (self._layout.run(order.id, order.run) / OUT / ARTIFACT).lstat().st_mode
        except OSError:
            return None
        if stat.S_ISREG(mode):
            return None
        reason = f"the artifact is {ODD_FILES.get(stat.S_IFMT(mode), 'no regular file')}, not a regular file"
        return Scored(id=order.id, run=order.run, outcome=Outcome.CRASH, crash=CrashKind.NO_ARTIFACT, reason=reason)

    def prepare(self, order: ScoreOrder) -> None:
        """Start a sealed scorer's process early, where there are walls between it and the run."""
        if self._config.score.mode is not ScoreMode.SEALED or self._domains.level is SandboxLevel.NONE:
            return
        folder = self._folder(order)
        if (other := self._waiting.get(folder)) is not None:
            if other.order == order:
                return
            self.drop(other.order)
        child = self._spawn(order, early=True)
        self._waiting[folder] = _Waiting(order=order, child=child, since=time.monotonic())

    def drop(self, order: ScoreOrder | None = None) -> None:
        """End what was prepared and is not wanted any more."""
        for folder, waiting in list(self._waiting.items()):
            if order is None or waiting.order == order:
                del self._waiting[folder]
                waiting.child.end("not wanted any more")
                self._domains.clear(folder)

    def start(self, order: ScoreOrder) -> Job[Scored]:
        """Release the process that was prepared for this order, if it lives; else start one."""
        self._seal.broken()
        folder = self._folder(order)
        waiting = self._waiting.get(folder)
        if waiting is not None and waiting.order == order and waiting.child.poll() is None:
            write_atomic(folder / WAITED, f"{time.monotonic() - waiting.since:.6f}", durable=False)
            del self._waiting[folder]
            waiting.child.set_deadline(self._config.score.timeout_s)
            waiting.child.release()
            return _ScoreJob(waiting.child, self, order)
        if waiting is not None:
            self.drop(waiting.order)
        return _ScoreJob(self._spawn(order, early=False), self, order)

    def _spawn(self, order: ScoreOrder, *, early: bool) -> Child:
        folder = self._domains.fresh(self._folder(order))
        if early:
            (folder / WAITED).touch()
        run_dir = self._layout.run(order.id, order.run) / OUT
        answer = folder / ANSWERS
        answer.mkdir()
        env = {
            "RALPH_RUN_DIR": str(run_dir),
            "RALPH_ARTIFACT": str(run_dir / ARTIFACT),
            "RALPH_SEED": str(order.seed),
            "RALPH_DEVICE": self._device,
            "RALPH_SCORE": str(answer / ANSWER),
            **self._shown,
        }
        if self._data is not None:
            env["RALPH_DATA"] = str(self._data.descriptor)
        sealed = self._config.score.mode is ScoreMode.SEALED
        return self._domains.start(
            Start(
                folder=folder,
                argv=self._sealed_argv(env, order, early=early) if sealed else shell(self._command(order)),
                cwd=self._seal.folder if sealed else self._seal.folder / ARENA,
                env=env,
                writable=(answer,),
                visible=(
                    run_dir,
                    *((self._data.descriptor.parent,) if self._data else ()),
                    self._seal.folder,
                    *(() if sealed else homes()),  # a program of the user's
                ),
                deadline_s=None if early else self._config.score.timeout_s,
                waits=early,
            )
        )

    def _folder(self, order: ScoreOrder) -> Path:
        """Its kill domain."""
        if order.audit:
            return self._layout.audit(order.id, order.run, order.audit)
        return self._layout.score(order.id, order.run)

    def _command(self, order: ScoreOrder) -> str:
        return self._config.score.audit_command if order.audit else self._config.score.command

    def _sealed_argv(self, env: Mapping[str, str], order: ScoreOrder, *, early: bool) -> tuple[str, ...]:
        words = {
            "--artifact": env["RALPH_ARTIFACT"],
            "--data": env["RALPH_DATA"],
            "--device": self._device,
            "--out": env["RALPH_SCORE"],
            "--seed": env["RALPH_SEED"],
            "--split": "audit" if order.audit else "val",
        }
        before = STANDBY if early else ()
        return (sys.executable, *before, str(self._seal.folder / SCORER), *(w for pair in words.items() for w in pair))

    # --- answers

    def _reported(self, order: ScoreOrder) -> Scored:
        arena = self._config.arena
        metrics = parse_metrics(read_log(self._layout.run(order.id, order.run)))
        try:
            score = reported_score(metrics, arena.metric, arena.direction, self._config.score.bounds)
        except NoScoreError as error:
            return _no_score(order, str(error), 0.0)
        rest: dict[str, JsonValue] = {
            k: v for k, v in list(metrics.items())[:50] if k != arena.metric and math.isfinite(v)
        }
        return Scored(id=order.id, run=order.run, outcome=Outcome.OK, score=score, metrics=rest)

    def _result(self, order: ScoreOrder, exit_: Exit) -> Scored:
        folder = self._folder(order)
        redact_file(log_of(folder), self._redact)
        redact_folder(folder / "answer", self._redact)
        log = read_log(folder)
        seconds = round(max(0.0, exit_.seconds - (_waited_s(folder) or 0.0)), 3)
        if exit_.limit is not None and (kind := LIMITS[exit_.limit]) is not None:  # by what the artifact made it do
            why = f"the scorer was ended: {exit_.detail}"
            return Scored(id=order.id, run=order.run, outcome=Outcome.CRASH, crash=kind, reason=why, seconds=seconds)
        if exit_.limit is not None:
            return _void(order, exit_.detail, seconds)
        if exit_.reason is not ExitReason.ENDED:
            return _void(order, f"the scorer did not end within {self._config.score.timeout_s:g} s", seconds)
        if exit_.status != 0:
            _, reason = classify(status=exit_.status, signal=exit_.signal, log=log)
            return _void(order, f"the scorer itself failed: {exit_.detail or reason}", seconds)
        answer = _read_answer(folder) or _last_json(log)
        if answer is None:
            return _void(order, f"the scorer gave no answer: {last_error(log)}", seconds)
        return self._judge(order, answer, seconds)

    def _judge(self, order: ScoreOrder, answer: Mapping[str, Any], seconds: float) -> Scored:
        reason = clean(str(answer.get("reason", "")))[:400]
        if answer.get("ok") is False:
            if answer.get("verdict") == "invalid":
                return Scored(id=order.id, run=order.run, outcome=Outcome.INVALID, reason=reason, seconds=seconds)
            crash = CRASHES.get(str(answer.get("kind")), CrashKind.NO_SCORE)
            return Scored(
                id=order.id, run=order.run, outcome=Outcome.CRASH, crash=crash, reason=reason, seconds=seconds
            )
        if broken := [clean(str(k)) for k, held in _mapping(answer.get("constraints")).items() if held is False]:
            why = f"constraints not held: {', '.join(broken)}"
            return Scored(id=order.id, run=order.run, outcome=Outcome.INVALID, reason=why, seconds=seconds)
        arena = self._config.arena
        try:
            value = float(answer["score"])
            score = believable(value, arena.metric, arena.direction, self._config.score.bounds)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            said = clean(f"the scorer's answer has no number: {answer}")[:300]
            message = str(error) if isinstance(error, NoScoreError) else said
            return _no_score(order, message, seconds)
        se = number(answer.get("se"))
        return Scored(
            id=order.id,
            run=order.run,
            outcome=Outcome.OK,
            score=score,
            se=se if se is not None and math.isfinite(se) else None,
            seconds=seconds,
            metrics=flat(answer.get("metrics")),
        )


class _ScoreJob:
    """A scorer at work."""

    def __init__(self, child: Child, scorer: ArenaScorer, order: ScoreOrder) -> None:
        self._child, self._scorer, self._order = child, scorer, order

    def fileno(self) -> int:
        """Readable when it is gone."""
        return self._child.fileno()

    def poll(self) -> Scored | None:
        """Its answer."""
        exit_ = self._child.poll()
        if exit_ is None:
            return None
        self._child.close()
        return self._scorer._result(self._order, exit_)

    def news(self) -> None:
        """There is none."""

    def stop(self, reason: str) -> None:
        """Ask for its end."""
        self._child.kill(reason)


def _waited_s(folder: Path) -> float | None:
    """For how many seconds the scorer of this domain waited for its release; None if it never came."""
    try:
        return float((folder / WAITED).read_text())
    except FileNotFoundError:
        return 0.0  # it was not started early
    except ValueError:
        return None


def _void(order: ScoreOrder, reason: str, seconds: float) -> Scored:
    return Scored(id=order.id, run=order.run, outcome=Outcome.VOID, reason=reason, seconds=seconds)


def _no_score(order: ScoreOrder, reason: str, seconds: float) -> Scored:
    crash = CrashKind.NAN if " is nan" in reason or " is inf" in reason else CrashKind.NO_SCORE
    return Scored(id=order.id, run=order.run, outcome=Outcome.CRASH, crash=crash, reason=reason, seconds=seconds)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _read_answer(folder: Path) -> Mapping[str, Any] | None:
    try:
        return parse_object(read_untrusted(folder, f"{ANSWERS}/{ANSWER}", ANSWER_BYTES))
    except (FileNotFoundError, UntrustedFileError):
        return None


def _last_json(log: str) -> Mapping[str, Any] | None:
    """The last line of a log that is a JSON object with a score or a refusal."""
    objects = (parse_object(line) for line in reversed(log.splitlines()))
    return next((raw for raw in objects if raw is not None and ("score" in raw or "ok" in raw)), None)
