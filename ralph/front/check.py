"""`ralph check`: what this machine has and lacks, and the five requirements, answered by measurement.

The five: an objective score, fast and cheap iterations, a bounded environment, low cost of failure, traceable outputs.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from typing import Any, assert_never

import click

from ralph.adapters.device.nvml import unwatched
from ralph.adapters.git import GitRepo
from ralph.adapters.machine import device_name, free_bytes, resolve_device
from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.config import Config, load
from ralph.core.fold import State
from ralph.core.spent import time_split
from ralph.errors import RalphError
from ralph.front.check_agents import usable_agents
from ralph.front.look import read_state, supervisor_alive
from ralph.layout import Layout
from ralph.model import ScoreMode

LOW_DISK_BYTES = 2 * 2**30
GIB = 2**30


class Answer(StrEnum):
    """How a question came out."""

    YES = "yes"
    NO = "no"
    PARTLY = "partly"
    UNKNOWN = "not measured yet"
    UNAVAILABLE = "not here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the check. `blocking`: the loop cannot start like this."""

    part: str
    name: str
    answer: Answer
    text: str
    blocking: bool = False

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def examine(layout: Layout) -> list[Finding]:
    """Look at everything. Never raises for what it is there to find."""
    return [*_machine(layout), *_arena(layout), *_agents(layout), *_requirements(layout)]


def print_findings(found: list[Finding]) -> None:
    """One block per part; colours on a terminal only."""
    colours = {Answer.YES: "green", Answer.NO: "red", Answer.PARTLY: "yellow", Answer.UNKNOWN: "cyan"}
    colours[Answer.UNAVAILABLE] = "bright_black"
    marks = {Answer.YES: "✓", Answer.NO: "✗", Answer.PARTLY: "~", Answer.UNKNOWN: "?"}
    marks[Answer.UNAVAILABLE] = "·"
    part = ""
    for f in found:
        if f.part != part:
            part = f.part
            click.secho(f"\n{part}", bold=True)
        click.echo(f"  {click.style(marks[f.answer], fg=colours[f.answer])} {f.name:<22} {f.text}")
    blocking = [f.name for f in found if f.blocking]
    click.echo(f"\nMend first: {', '.join(blocking)}" if blocking else "\nReady: ralph loop")


def _ask(part: str, name: str, question: Callable[[], tuple[Answer, str]], *, blocking: bool = True) -> Finding:
    try:
        answer, text = question()
    except RalphError as error:
        answer, text = Answer.NO, str(error)
    return Finding(part=part, name=name, answer=answer, text=text, blocking=blocking and answer is Answer.NO)


# --- this machine


def _machine(layout: Layout) -> Iterator[Finding]:
    part = "This machine"
    yield _ask(part, "Python", lambda: (Answer.YES, f"{sys.version.split()[0]} at {sys.executable}"))
    yield _ask(part, "git", _git)
    yield _ask(part, "your git identity", lambda: _identity(layout), blocking=False)
    yield _ask(part, "disk", lambda: _disk(layout))
    yield _ask(part, "torch", _torch, blocking=False)
    yield _ask(part, "device", lambda: _device(layout))
    yield _ask(part, "sandbox", _sandbox, blocking=False)


def _git() -> tuple[Answer, str]:
    path = shutil.which("git")
    return (Answer.YES, path) if path else (Answer.NO, "not found; install git")


def _identity(layout: Layout) -> tuple[Answer, str]:
    name = GitRepo(layout.arena, layout.trees, ("*",)).identity()
    if name:
        return Answer.YES, name
    return Answer.PARTLY, "none set; ralph commits under its own name, you need one for your own commits"


def _disk(layout: Layout) -> tuple[Answer, str]:
    free = free_bytes(layout.root)
    text = f"{free / GIB:.1f} GiB free"
    return (Answer.YES, text) if free >= LOW_DISK_BYTES else (Answer.NO, f"{text}; a campaign wants 2 GiB and more")


def _torch() -> tuple[Answer, str]:
    try:
        return Answer.YES, metadata.version("torch")
    except metadata.PackageNotFoundError:
        return Answer.PARTLY, "not installed in this environment; the default arena needs it"


def _device(layout: Layout) -> tuple[Answer, str]:
    device = resolve_device(load(layout.arena_toml).run.device)
    if device == "none":
        return Answer.YES, "none asked for"
    text = f"{device}: {device_name(device)}"
    blind = unwatched(device)
    return (Answer.PARTLY, f"{text}; leased, but not watched: {blind}") if blind else (Answer.YES, text)


def _sandbox() -> tuple[Answer, str]:
    probe = reached(SandboxLevel.BWRAP)
    match probe.level:
        case SandboxLevel.BWRAP:
            return Answer.YES, "bubblewrap works: agents, runs and scorers are sandboxed"
        case SandboxLevel.LANDLOCK:
            return Answer.PARTLY, f"{probe.reason}. Landlock works: docs/isolation.md says what that leaves open"
        case SandboxLevel.NONE:
            return Answer.PARTLY, f"{probe.reason}. Sandbox level none: hashes before and after, no walls"
        case _:
            assert_never(probe.level)


# --- the arena


def _arena(layout: Layout) -> Iterator[Finding]:
    part = "The arena"
    yield _ask(part, "arena.toml", lambda: (Answer.YES, _describe(load(layout.arena_toml))))
    yield _ask(part, "editable files", lambda: _editable(layout))
    yield _ask(part, "program.md", lambda: _program(layout))
    yield _ask(part, "agent", lambda: _agent(load(layout.arena_toml)))


def _describe(config: Config) -> str:
    return f"{config.arena.name}: {config.arena.metric} ({config.arena.direction}), scores are {config.score.mode}"


def _editable(layout: Layout) -> tuple[Answer, str]:
    repo = GitRepo(layout.arena, layout.trees, load(layout.arena_toml).arena.editable)
    files = repo.files(repo.head())
    if not files:
        return Answer.NO, "no committed file matches arena.editable; commit what agents may edit"
    dirty = repo.dirty(sorted(files))
    text = ", ".join(sorted(files))
    return (Answer.PARTLY, f"{text}; not committed: {', '.join(dirty)}") if dirty else (Answer.YES, text)


def _program(layout: Layout) -> tuple[Answer, str]:
    path = layout.arena / load(layout.arena_toml).arena.program
    if not path.is_file():
        return Answer.NO, f"{path} is missing; write what agents should pursue"
    return Answer.YES, f"{len(path.read_text(errors='replace').split())} words"


def _agent(config: Config) -> tuple[Answer, str]:
    mix = config.agent.mix or {config.agent.use: 1.0}
    return Answer.YES, ", ".join(f"{name} ({config.agent_entry(name).kind})" for name in mix)


# --- agents


def _agents(layout: Layout) -> Iterator[Finding]:
    """What could be asked here; nothing of it is a fault, since the tuner always can."""
    try:
        config = load(layout.arena_toml)
    except RalphError:
        config = None  # the line on arena.toml says what is wrong with it
    for each in usable_agents(config, os.environ):
        answer = Answer.YES if each.ready else Answer.UNAVAILABLE
        text = f"{each.found}; {each.line}"
        yield Finding(part="Agents you could use", name=each.name, answer=answer, text=text)


# --- the five requirements


def _requirements(layout: Layout) -> Iterator[Finding]:
    part = "The five requirements"
    state = _state(layout)
    yield _ask(part, "objective score", lambda: _objective(layout, state), blocking=False)
    yield _ask(part, "fast, cheap iterations", lambda: _fast(state), blocking=False)
    yield _ask(part, "bounded environment", lambda: _bounded(layout), blocking=False)
    yield _ask(part, "low cost of failure", lambda: _cheap_failure(state), blocking=False)
    yield _ask(part, "traceable outputs", lambda: _traceable(layout), blocking=False)


def _state(layout: Layout) -> State:
    try:
        return read_state(layout)
    except RalphError:
        return State()  # the line on traceable outputs says what is wrong with the ledger


def _objective(layout: Layout, state: State) -> tuple[Answer, str]:
    mode, noise = load(layout.arena_toml).score.mode, state.noise
    where = {
        ScoreMode.SEALED: "sealed: the scorer runs none of the agent's code",
        ScoreMode.COMMAND: "your scorer, from a sealed copy",
        ScoreMode.REPORTED: "reported by the run itself, which can lie; sealed or command scores cannot be forged",
    }[mode]
    answer = Answer.PARTLY if mode is ScoreMode.REPORTED else Answer.YES
    if noise.sigma is None:
        return answer if answer is Answer.PARTLY else Answer.UNKNOWN, f"{where}; noise not measured yet"
    return answer, f"{where}; noise: sigma {noise.sigma:.2g} from {noise.dof} repeats"


def _fast(state: State) -> tuple[Answer, str]:
    if not state.judged or state.last_at is None:
        return Answer.UNKNOWN, "measured after the first experiment"
    split = time_split(state, state.last_at, alive=False)
    per = split.supervised_s / state.judged
    share = split.run_s / split.supervised_s if split.supervised_s else 0.0
    text = f"{per:.0f} s per experiment ({share:.0%} on the device): {8 * 3600 / per:.0f} in a night of 8 h"
    return (Answer.YES if per <= 15 * 60 else Answer.PARTLY), text


def _bounded(layout: Layout) -> tuple[Answer, str]:
    config = load(layout.arena_toml, device=resolve_device(load(layout.arena_toml).run.device))
    level = reached(SandboxLevel.BWRAP).level if config.sandbox.level == "auto" else config.sandbox.level
    text = (
        f"agents edit {', '.join(config.arena.editable)} only; a run has {config.run.budget_s:g} s"
        f"{' after the starting gun' if config.run.gate else ''}; sandbox level {level}"
    )
    return (Answer.YES if level == SandboxLevel.BWRAP else Answer.PARTLY), text


def _cheap_failure(state: State) -> tuple[Answer, str]:
    if not state.judged:
        return Answer.UNKNOWN, "your checkout is never touched; failures are counted from the first experiment on"
    rows = state.experiments.rows
    spent = sum(rows.run_s[id_] for id_ in rows.failed)
    return Answer.YES, f"{len(rows.failed)} of {state.judged} failed and cost {spent:.0f} s of device time together"


def _traceable(layout: Layout) -> tuple[Answer, str]:
    state = read_state(layout, check=True)  # again, so that a damaged ledger is said here
    if not state.campaign:
        return Answer.UNKNOWN, "every experiment will have its entry, ref, note, brief and log"
    repo = GitRepo(layout.arena, layout.trees, load(layout.arena_toml).arena.editable)
    wanted = {id_ for id_, committed in enumerate(state.experiments.rows.committed) if committed}
    pinned = repo.pinned(state.campaign)
    missing = sorted(wanted - pinned)
    text = f"{state.seq} ledger entries with unbroken checksums, {len(pinned)} refs"
    alive = ", a supervisor is at work" if supervisor_alive(layout) else ""
    return (Answer.NO, f"{text}; no ref for {missing[:5]}") if missing else (Answer.YES, text + alive)
