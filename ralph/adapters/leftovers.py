"""Finding and killing what a kill domain left behind when its shim, or the supervisor, died before the work was done.

Covered: processes that hold the domain's lock file open, carry its name in their environment, hang below such a
process, or were adopted by this process from a shim that died. Not covered: after the death of both shim and
supervisor, a process that closed the lock, cleared its environment and has no parent left that did neither. A sandbox
with a PID namespace leaves none of that kind.
"""

import contextlib
import fcntl
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

from ralph.adapters.shim import children, every_pid, has_ended, process_stat, strike
from ralph.errors import LeftoverError

Identity = tuple[int, int]  # process id and start time

LOCK_NAME = "lock"
DOMAIN_VARIABLE = "RALPH_DOMAIN"
SHIM_TURN_S = 3.0  # what a living shim is given to finish by itself: it writes exit.json, we do not
TICK_S = 0.005


def orphans(shims: set[int], since: int) -> list[Identity]:
    """Children of this process that came to it from a dead shim, zombies included.

    A process can leave its session but never join another, and every shim begins one. So a child outside the session of
    this process that is no shim was adopted. (Git's detached maintenance is, too.)

    Args:
        shims: pids of the shims of this process.
        since: start time before which a process is not meant, in clock ticks since boot.
    """
    session = os.getsid(0)
    found = []
    for pid, start in children(os.getpid()):
        stat = process_stat(pid)
        if stat is not None and stat[2] != session and start >= since and pid not in shims:
            found.append((pid, start))
    return found


def bury(processes: list[Identity]) -> None:
    """Reap those of our children that have ended."""
    for pid, _ in processes:
        with contextlib.suppress(ChildProcessError):  # not our child, or reaped before
            os.waitpid(pid, os.WNOHANG)


def sweep(roots: Callable[[], list[Identity]], timeout_s: float) -> int:
    """Kill the roots and all below them until none of those killed lives and there are no roots; how many were killed.

    Raises:
        LeftoverError: some are still there after `timeout_s`.
    """
    struck: set[Identity] = set()
    end = time.monotonic() + timeout_s
    while left := [*roots(), *filter(_lives, struck)]:
        bury(left)
        strike(roots, struck)
        if time.monotonic() > end:
            names = ", ".join(f"{pid} ({_name(pid)})" for pid, _ in left[:8])
            raise LeftoverError(
                f"killed, but still there after {timeout_s:g} s: {names}; `ps -o pid,stat,wchan` tells what holds them"
            )
        _wait_for_one(left, TICK_S)
        bury(left)
    return len(struck)


def holders(folder: Path) -> list[Identity]:
    """Living processes of a domain: they have its lock file open for writing, or its name in their environment."""
    try:
        lock = (folder / LOCK_NAME).stat()
    except OSError:
        lock = None
    mark = os.fsencode(f"{DOMAIN_VARIABLE}={folder.resolve()}")
    found = []
    for pid in every_pid():
        stat = process_stat(pid)
        if stat is None or pid == os.getpid():
            continue
        thread = _living_thread(pid, stat[0])
        if thread and ((lock is not None and _holds(thread, lock)) or mark in _environment(thread)):
            found.append((pid, stat[3]))
    return found


def is_held(folder: Path) -> bool:
    """Does anything hold the domain's lock?"""
    try:
        fd = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def reap_leftovers(folder: Path, timeout_s: float) -> int:
    """Clear a domain that no living supervisor watches, as one that starts again must; how many processes it killed.

    A shim that still works sees that its supervisor is dead and is let finish, for it writes ``exit.json``.

    Raises:
        LeftoverError: something of the domain is still there after `timeout_s`.
    """
    end = time.monotonic() + timeout_s
    turn_ends = time.monotonic() + min(SHIM_TURN_S, timeout_s / 2)
    while (left := holders(folder)) and any(map(_is_shim, left)) and time.monotonic() < turn_ends:
        _wait_for_one(left, TICK_S)
    killed = 0
    while True:
        killed += sweep(lambda: holders(folder), max(0.0, end - time.monotonic()))
        if not is_held(folder):
            return killed
        if time.monotonic() > end:
            raise LeftoverError(
                f"a process out of sight holds {folder / LOCK_NAME}; find it with fuser, as root; end it"
            )
        select.select([], [], [], TICK_S)  # a dying process is out of sight before it has let go of its files


def _lives(process: Identity) -> bool:
    try:
        handle = os.pidfd_open(process[0])
    except OSError:
        return False
    try:
        stat = process_stat(process[0])
        return stat is not None and stat[3] == process[1] and not has_ended(handle)
    finally:
        os.close(handle)


def _living_thread(pid: int, state: str) -> str | None:
    """The folder in /proc of a thread that lives. The first may have ended, and then shows no files, before others."""
    if state not in "ZX":
        return f"/proc/{pid}"
    try:
        threads = [path for path in Path(f"/proc/{pid}/task").iterdir() if path.name != str(pid)]
    except OSError:
        return None  # reaped
    return str(threads[0]) if threads else None


def _holds(proc: str, lock: os.stat_result) -> bool:
    """Does a process, by its folder in /proc, have the lock file open for writing? Only who inherited it has."""
    try:
        names = os.listdir(f"{proc}/fd")  # noqa: PTH208 - this runs over every process there is
    except OSError:
        return False  # ended meanwhile, or another user's
    for name in names:
        path = f"{proc}/fd/{name}"
        try:
            if LOCK_NAME not in os.readlink(path):  # noqa: PTH115 - spares a stat, which may hang on a dead network disk
                continue
            stat = os.stat(path)  # noqa: PTH116
            if (stat.st_dev, stat.st_ino) == (lock.st_dev, lock.st_ino):
                flags = Path(f"{proc}/fdinfo/{name}").read_text().split("flags:")[1].split()[0]
                if int(flags, 8) & os.O_ACCMODE == os.O_RDWR:
                    return True
        except OSError:
            continue  # closed meanwhile
    return False


def _environment(proc: str) -> list[bytes]:
    try:
        return Path(f"{proc}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_shim(process: Identity) -> bool:
    try:
        arguments = Path(f"/proc/{process[0]}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(Path(os.fsdecode(argument)).name.startswith("shim.") for argument in arguments[3:4])


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"


def _wait_for_one(processes: list[Identity], timeout_s: float) -> None:
    """Wait until one of them ends or the time is over."""
    poll = select.poll()
    handles = []
    try:
        for pid, _ in processes[:64]:
            try:
                handles.append(handle := os.pidfd_open(pid))
            except OSError:
                return  # one is gone already
            poll.register(handle, select.POLLIN)
        poll.poll(timeout_s * 1000)
    finally:
        for handle in handles:
            os.close(handle)
