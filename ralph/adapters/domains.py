"""One way to start anything: folder, environment, sandbox and shim for agents, runs and scorers alike."""

import hashlib
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ralph.adapters.environment import scrubbed
from ralph.adapters.files import remove_tree
from ralph.adapters.home import homes, named_in, values_of
from ralph.adapters.limits import limits_of
from ralph.adapters.process import Child, Command, Exit, ExitReason, hold, reap_leftovers, recorded_exit, spawn
from ralph.adapters.sandbox import TMP, Policy, SandboxLevel, wrap
from ralph.adapters.untrusted import UntrustedFileError, read_untrusted_tail
from ralph.config import LimitsTable

REAP_S = 30.0  # how long what an earlier supervisor left may take to be gone
# A Unix socket's name has 107 bytes at most, and multiprocessing adds 32 to TMPDIR: /pymp-abcdefgh/listener-abcdefgh.
MOST_TMPDIR = 72
LOG = "log.txt"
LOG_TAIL_BYTES = 256 * 2**10
BY_ITSELF = frozenset({ExitReason.ENDED, ExitReason.DEADLINE, ExitReason.LIMIT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What to start. `folder` is its kill domain; HOME and TMPDIR are made fresh for it. Seconds are wall clock.

    `home` is what HOME holds at the start, by the path in it; only its owner may read that.

    `visible` and `hidden` add to what all children find; what is hidden here no other rule shows.

    `port` is the one that it may connect to without network, where it has no loopback of its own (level landlock).

    `held`: everything is there, sandbox included, but its program, which starts when the child is released. One that
    `waits` does that itself, for a line of its standard input.
    """

    folder: Path
    argv: tuple[str, ...]
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)
    arena_env: Mapping[str, str] = field(default_factory=dict)
    writable: tuple[Path, ...] = ()
    visible: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    network: bool = False
    port: int | None = None
    stdin: Path | None = None
    deadline_s: float | None = None
    grace_s: float = 0.0
    pass_fds: tuple[int, ...] = ()
    home: Mapping[str, bytes] = field(default_factory=dict)
    held: bool = False
    waits: bool = False


class Domains:
    """Starts children at one sandbox level; of `visible` folders all may read, of `hidden` ones below them none."""

    def __init__(
        self,
        level: SandboxLevel,
        *,
        visible: tuple[Path, ...],
        hidden: tuple[Path, ...],
        limits: LimitsTable | None = None,
    ) -> None:
        self.level = level
        self._limits = limits or LimitsTable()
        self._visible, self._hidden = visible, hidden

    def fresh(self, folder: Path) -> Path:
        """An empty domain folder; whatever an earlier supervisor left alive or on disk there is gone first."""
        self.clear(folder)
        folder.mkdir(parents=True)
        return folder

    def clear(self, folder: Path) -> None:
        """Remove a domain's folder; whatever is alive of it is ended first."""
        if folder.exists():
            reap_leftovers(folder, REAP_S)
            remove_tree(folder)
        remove_tree(short_tmp(folder))

    def start(self, order: Start) -> Child:
        """Start it. The folder must be fresh."""
        limits = limits_of(self._limits, order.folder)
        tmp = self._tmp(order.folder)
        own = (home_of(order.folder), order.folder / "tmp")
        env = scrubbed(os.environ, order.folder, extra=order.arena_env, tmp=tmp) | order.env
        for name, content in order.home.items():
            _put(own[0] / name, content)
        scratch = tmp if self.level is not SandboxLevel.BWRAP else None
        writable = (*own, *([scratch] if scratch else ()), *order.writable)
        named = [path for home in homes() for path in named_in(home, values_of(env, order.arena_env))]
        visible = (*self._visible, *order.visible, *named)
        policy = Policy(
            read_only=tuple(path for path in visible if path not in order.hidden),
            writable=writable,
            hidden=(*self._hidden, *order.hidden),
            network=order.network,
            port=order.port,
            tmp=order.folder / "tmp",
        )
        return spawn(
            Command(
                argv=wrap(self.level, policy, hold(order.argv) if order.held else order.argv),
                cwd=order.cwd,
                env=env,
                folder=order.folder,
                log=log_of(order.folder),
                stdin=order.stdin,
                deadline_s=order.deadline_s,
                grace_s=order.grace_s,
                pass_fds=order.pass_fds,
                scratch=scratch,
                limits=limits,
                folders=writable,
                held=order.held or order.waits,
            )
        )

    def _tmp(self, folder: Path) -> Path | None:
        """Where TMPDIR is to be, if not in the domain folder, whose name may be too long for a socket in it."""
        own = folder.resolve() / "tmp"
        short = len(os.fsencode(own)) <= MOST_TMPDIR
        if self.level is SandboxLevel.BWRAP:
            return None if short and own.is_relative_to(TMP) else TMP  # some agents refuse a HOME below TMPDIR
        if short:
            return None
        place = short_tmp(folder)
        place.mkdir(mode=0o700)
        return place


def short_tmp(folder: Path) -> Path:
    """A name for a domain's TMPDIR that is short, the domain's own, and found again after a restart."""
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    return TMP / f"ralph-{os.getuid()}-{name}"


def log_of(folder: Path) -> Path:
    """Where standard output and error of a domain go."""
    return folder / LOG


def home_of(folder: Path) -> Path:
    """The fresh HOME of a domain."""
    return folder / "home"


def read_log(folder: Path) -> str:
    """The end of a domain's log; nothing where a payload put something else in its place."""
    try:
        return read_untrusted_tail(folder, LOG, LOG_TAIL_BYTES).decode(errors="replace")
    except (FileNotFoundError, UntrustedFileError):
        return ""


def finished(folder: Path) -> Exit | None:
    """How a domain ended, if by itself, at its deadline or at a limit, and not by a supervisor's wish or death."""
    exit_ = recorded_exit(folder)
    if exit_ is not None:
        remove_tree(short_tmp(folder))  # its supervisor died before it
    return exit_ if exit_ is not None and exit_.reason in BY_ITSELF else None


def shell(command: str) -> tuple[str, ...]:
    """Argv for a command line of arena.toml: without a shell where it needs none."""
    if any(c in command for c in "|&;<>()$`*?[]{}~\n#!") or "=" in command.split(" ", 1)[0]:
        return ("/bin/sh", "-c", command)
    return tuple(shlex.split(command))


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)
