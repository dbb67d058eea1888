"""The port `Scorer`: sealed, reported and command scores, all held to the arena's bounds.

Sealed and command scorers are processes of their own, in their own kill domain, run from the sealed copy, and are given
nothing of the agent's but the artifact. A reported score is read from the run's log and is worth as much as the run.
"""

import math
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ralph.adapters.data import PreparedData
from ralph.adapters.domains import Domains, Start, finished, log_of, read_log, shell
from ralph.adapters.home import homes
from ralph.adapters.process import Child, Exit, ExitReason
from ralph.adapters.redaction import redact_file, redact_folder
from ralph.adapters.runner import ARTIFACT, LIMITS, OUT
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

    def broken_seal(self) -> str:
        """What was changed in the sealed copy."""
        return self._seal.broken()

    def remains(self, order: ScoreOrder) -> Scored | None:
        """What a scorer said that finished while no supervisor looked, or what needs none; a reported score is read."""
        if self._config.score.mode is ScoreMode.REPORTED:
            return self._reported(order)
        exit_ = finished(self._folder(order))
        return self._odd_artifact(order) if exit_ is None else self._result(order, exit_)

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

    def start(self, order: ScoreOrder) -> Job[Scored]:
        """Start the scorer's process."""
        self._seal.broken()
        folder = self._domains.fresh(self._folder(order))
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
        child = self._domains.start(
            Start(
                folder=folder,
                argv=self._sealed_argv(env, order) if sealed else shell(self._command(order)),
                cwd=self._seal.folder if sealed else self._seal.folder / ARENA,
                env=env,
                writable=(answer,),
                visible=(
                    run_dir,
                    *((self._data.descriptor.parent,) if self._data else ()),
                    self._seal.folder,
                    *(() if sealed else homes()),  # a program of the user's
                ),
                deadline_s=self._config.score.timeout_s,
            )
        )
        return _ScoreJob(child, self, order)

    def _folder(self, order: ScoreOrder) -> Path:
        """Its kill domain."""
        if order.audit:
            return self._layout.audit(order.id, order.run, order.audit)
        return self._layout.score(order.id, order.run)

    def _command(self, order: ScoreOrder) -> str:
        return self._config.score.audit_command if order.audit else self._config.score.command

    def _sealed_argv(self, env: Mapping[str, str], order: ScoreOrder) -> tuple[str, ...]:
        words = {
            "--artifact": env["RALPH_ARTIFACT"],
            "--data": env["RALPH_DATA"],
            "--device": self._device,
            "--out": env["RALPH_SCORE"],
            "--seed": env["RALPH_SEED"],
            "--split": "audit" if order.audit else "val",
        }
        return (sys.executable, str(self._seal.folder / SCORER), *(w for pair in words.items() for w in pair))

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
        seconds = round(exit_.seconds, 3)
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
