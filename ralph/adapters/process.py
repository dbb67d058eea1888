"""Children of the supervisor, each a kill domain of its own: agent, run and scorer are started here and nowhere else.

`spawn` puts a shim (see `ralph.adapters.shim`) between the supervisor and the payload. The returned `Child` goes into a
selector: it becomes readable when the whole tree of the payload is gone and ``exit.json`` is in the domain's folder.

Ours in a domain folder: ``lock`` (held as long as anything of the domain lives) and ``exit.json`` (how it ended).
"""

import contextlib
import ctypes
import fcntl
import json
import marshal
import os
import select
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ralph.adapters import shim, shims
from ralph.adapters.files import remove_tree
from ralph.adapters.leftovers import DOMAIN_VARIABLE, LOCK_NAME, bury, orphans, reap_leftovers, sweep
from ralph.adapters.limits import LimitKind, Limits

__all__ = [
    "Child",
    "Command",
    "Exit",
    "ExitReason",
    "become_subreaper",
    "reap_leftovers",
    "recorded_exit",
    "spawn",
]

ESCALATE_S = 20.0  # a shim that takes longer over a kill is wedged; 12 GiB of memory took 1.1 s to be gone
SWEEP_S = 10.0
GONE_S = 30.0  # how long one that is not wanted may take to be gone


class ExitReason(StrEnum):
    """Why a payload ended."""

    ENDED = "ended"
    DEADLINE = "deadline"
    KILLED = "killed"
    ORPHANED = "orphaned"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a payload ended, once nothing of it is left.

    Attributes:
        reason: ended by itself, by its deadline, on request, because the supervisor died, or by one of its limits.
        detail: the words of the request, the deadline, or why it could not be started.
        limit: which one.
        status: exit status of the leader; 127 if it could not be started; None if a signal ended it or it never was.
        signal: number of the signal that ended the leader.
        seconds: from its start until nothing of it was left.
        peak_bytes: largest resident size that any one of its processes reached; at least that of the shim, 10 MB.
        stragglers: processes other than the leader that had to be killed (the kernel kills those of a PID namespace
            uncounted).
        kill_ms: from the leader's end, or the decision to end it, until nothing was left (`grace_s` included).
    """

    reason: ExitReason
    detail: str = ""
    limit: LimitKind | None = None
    status: int | None = None
    signal: int | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    stragglers: int = 0
    kill_ms: float = 0.0

    @property
    def ok(self) -> bool:
        """It ended by itself, with status 0."""
        return self.reason is ExitReason.ENDED and self.status == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to start and how.

    Attributes:
        argv: program and arguments; the program is looked up in the PATH of `env`.
        cwd: folder it starts in.
        env: its whole environment; ``RALPH_DOMAIN`` is added.
        folder: the domain folder, existing, fresh for every child.
        log: file that standard output and error are appended to.
        stdin: file it reads from; None is /dev/null.
        deadline_s: seconds it may live, kept by the shim; None is for ever.
        pass_fds: descriptors it inherits, under the same numbers. Close your copies after `spawn`.
        grace_s: seconds between TERM and KILL when it is killed or late; 0 kills at once.
        scratch: a folder outside the domain's that is its own as well, and removed by `close` after its end.
        limits: what it may use of the machine; seen some twenty times a second.
        held: its standard input is a pipe into which `Child.release` writes a line; see `hold`.
        folders: those that its disk limit is about.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: dict[str, str]
    folder: Path
    log: Path
    stdin: Path | None = None
    deadline_s: float | None = None
    pass_fds: tuple[int, ...] = ()
    grace_s: float = 0.0
    scratch: Path | None = None
    limits: Limits = field(default_factory=Limits)
    folders: tuple[Path, ...] = ()
    held: bool = False


def hold(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Argv of a shell that becomes `argv` once it is told a line; told nothing, it waits for its end by the shim."""
    return ("/bin/sh", "-c", 'read -r go && exec "$@" </dev/null; kill -STOP $$', "sh", *argv)


class Child:
    """A payload under its shim. Make it with `spawn`; use it from the main thread."""

    def __init__(
        self, popen: "subprocess.Popen[bytes]", control: socket.socket, command: Command, held_by: int = -1
    ) -> None:
        self._popen = popen
        self._held_by = held_by  # our end of the pipe that a held one reads from
        self._control = control
        self._command = command
        self._pidfd = os.pidfd_open(popen.pid)
        stat = shim.process_stat(popen.pid)
        self._shim_start = stat[3] if stat else 0
        self._overdue_at = self._overdue(command.deadline_s)
        self._exit: Exit | None = None

    @property
    def folder(self) -> Path:
        """The domain folder."""
        return self._command.folder

    @property
    def pid(self) -> int:
        """Process id of the shim; the payload's own is nobody's business."""
        return self._popen.pid

    def fileno(self) -> int:
        """A descriptor that becomes readable when nothing of the payload is left; closed by `close`."""
        return self._pidfd

    def poll(self) -> Exit | None:
        """How it ended, None while anything of it lives. Call it when `fileno` is readable, and every few seconds.

        The calls in between matter only if the payload has stopped or wedged its shim: then they finish the job.

        Raises:
            LeftoverError: the shim is dead and what it left does not go. The next call tries again.
        """
        if self._exit is not None:
            return self._exit
        if self._popen.poll() is None:
            if time.monotonic() > self._overdue_at:
                self._end_wedged_shim()
            return None
        shims.ours.discard(self.pid)  # what was below it and lives is an orphan now
        self._exit = self._reported()
        if self._exit is None and self._popen.returncode == 0:
            self._exit = recorded_exit(self.folder)
        if self._exit is None:
            sweep(lambda: orphans(shims.ours, self._shim_start), SWEEP_S)
            reap_leftovers(self.folder, SWEEP_S)
            self._exit = Exit(reason=ExitReason.KILLED, detail="shim died")
        bury(orphans(shims.ours, 0))
        return self._exit

    def kill(self, reason: str) -> None:
        """Ask for the end of the payload and all below it; returns at once. `poll` tells when they are gone.

        Args:
            reason: a few words for the record; becomes the exit's detail.
        """
        if self._exit is not None:
            return
        self._overdue_at = min(self._overdue_at, self._overdue(0.0))
        line = " ".join(reason.split())[:500]
        with contextlib.suppress(OSError):  # it is about to be gone, or does not read: then `poll` ends it
            self._control.send(f"kill {line}\n".encode())
        self._signal_shim(signal.SIGCONT)  # a payload may have stopped it

    def set_deadline(self, seconds: float) -> None:
        """Replace its deadline by one that many seconds from now."""
        self._overdue_at = self._overdue(seconds)
        with contextlib.suppress(OSError):  # it is about to be gone
            self._control.send(f"deadline {seconds:.6f}\n".encode())

    def release(self) -> None:
        """Have a held one go on. Nothing happens to one that is not held, or is dead."""
        if self._held_by >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._held_by, b"\n")
            self._let_go()

    def end(self, reason: str) -> None:
        """Kill it, wait until nothing of it is left, unless it cannot be killed, and close."""
        self.kill(reason)
        deadline = time.monotonic() + GONE_S
        while self.poll() is None and self._pidfd >= 0 and (left_s := deadline - time.monotonic()) > 0:
            select.select([self.fileno()], [], [], left_s)
        self.close()

    def _let_go(self) -> None:
        if self._held_by >= 0:
            os.close(self._held_by)
            self._held_by = -1

    def close(self) -> None:
        """Give the descriptors back, after `poll` has answered. A payload that still lives is killed by this."""
        self._let_go()
        if self._pidfd >= 0:
            self._control.close()
            os.close(self._pidfd)
            self._pidfd = -1
        if self._exit is not None and self._command.scratch is not None:
            with contextlib.suppress(OSError):  # the domain's next use removes it, or fails
                remove_tree(self._command.scratch)

    def _overdue(self, deadline_s: float | None) -> float:
        """The moment after which the shim must have done its work."""
        if deadline_s is None:
            return float("inf")
        return time.monotonic() + deadline_s + self._command.grace_s + ESCALATE_S

    def _end_wedged_shim(self) -> None:
        self._overdue_at = time.monotonic() + ESCALATE_S
        self._signal_shim(signal.SIGKILL)

    def _signal_shim(self, number: signal.Signals) -> None:
        if self._pidfd >= 0:  # it may have been closed while it could not be killed
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _reported(self) -> Exit | None:
        """What the shim said before it ended by itself; a payload could forge ``exit.json``, but not this."""
        if self._popen.returncode not in {0, 3}:
            return None
        data = b""
        try:
            while part := self._control.recv(65536, socket.MSG_DONTWAIT):
                data += part
        except OSError:
            pass
        return _parse(data)


def spawn(command: Command) -> Child:
    """Start a payload in a kill domain of its own.

    Only from the main thread: what a sandbox ties to its parent is tied to the thread that forked.

    Raises:
        FileExistsError: the domain folder was used before.
        OSError: the folder, its log or its stdin cannot be opened. What is wrong with the payload becomes its `Exit`.
        RuntimeError: called from another thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a payload must be started from the main thread; hand the command over to it")
    if (command.folder / shim.EXIT_NAME).exists():
        raise FileExistsError(f"{command.folder} holds the end of another payload; give every payload a fresh folder")
    opened: list[int] = []
    held_by = -1
    try:
        opened.append(lock := _locked(command.folder))
        if command.held:
            stdin, held_by = os.pipe2(os.O_CLOEXEC)
        else:
            stdin = os.open(command.stdin or os.devnull, os.O_RDONLY | os.O_NOCTTY)
        opened.append(stdin)
        opened.append(log := os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
        opened.append(spec := _spec(command))
        started = shims.reserve.take()
        started.order((spec, lock, stdin, log, *command.pass_fds))
    except BaseException:
        if held_by >= 0:
            os.close(held_by)
        raise
    finally:
        for fd in opened:
            os.close(fd)
    child = Child(started.popen, started.control, command, held_by)
    shims.reserve.restock()
    return child


def recorded_exit(folder: Path) -> Exit | None:
    """How the payload of a domain folder ended, as its shim wrote it down; None if it did not (yet).

    Covers a supervisor that starts again. Does not cover a payload that may write into the folder and forges it.
    """
    try:
        return _parse((folder / shim.EXIT_NAME).read_bytes())
    except OSError:
        return None


def become_subreaper() -> None:
    """Have orphans from below come to this process instead of init: a payload that kills its shim is still ours.

    Raises:
        OSError: the kernel refuses.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(shim.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER failed")


def _locked(folder: Path) -> int:
    """The domain's lock, taken here: from the first instant of the shim it is held, with no moment in between."""
    fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise FileExistsError(f"something still lives in {folder}; reap_leftovers first") from error
    return fd


def _spec(command: Command) -> int:
    """The shim's orders in a memory file: of any length, on no disk, gone with the last reader."""
    orders = {
        "argv": list(command.argv),
        "cwd": str(command.cwd),
        "env": {**command.env, DOMAIN_VARIABLE: str(command.folder.resolve())},
        "folder": str(command.folder.resolve()),
        "deadline_s": command.deadline_s,
        "grace_s": command.grace_s,
        "limits": command.limits.orders(),
        "folders": [str(path) for path in command.folders],
        "pass_fds": list(command.pass_fds),
    }
    fd = os.memfd_create("ralph-shim")
    with open(fd, "wb", closefd=False) as file:
        marshal.dump(orders, file)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _parse(data: bytes) -> Exit | None:
    try:
        record = json.loads(data)
        del record["schema"]
        limit = record.pop("limit", None)
        return Exit(
            **{**record, "reason": ExitReason(record["reason"]), "limit": None if limit is None else LimitKind(limit)}
        )
    except (ValueError, TypeError, KeyError):
        return None
