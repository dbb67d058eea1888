"""One run at a time on a device, across all supervisors of a user on this machine: locks that the kernel gives back.

Covers: supervisors in other folders, repositories and virtual environments, however they end, kill -9 included. Does
not cover: other users, other containers, and programs that are no supervisor: those are found by measuring.
"""

import contextlib
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from ralph.errors import DeviceError

PLACE_VARIABLE = "RALPH_DEVICES"  # drills and tests: another folder for the locks


def lease_place() -> Path:
    """The folder with the locks: below /tmp and not the login's own, which a tmux outlives and a service never sees.

    Raises:
        DeviceError: somebody else made a folder of that name.
    """
    place = Path(os.environ.get(PLACE_VARIABLE) or f"/tmp/ralph-devices-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    stat = place.lstat()
    if not place.is_dir() or place.is_symlink() or stat.st_uid != os.getuid() or stat.st_mode & 0o022:
        raise DeviceError(f"{place} is not a folder that only you can write to; remove it, then `ralph loop`")
    return place


class Lease:
    """Locks by `names`, all or none. Children do not inherit them. `owner` is the folder that others get to read.

    Whoever wants them must be next first, by a second set of locks, and stays next until it has them: a supervisor that
    gives a device back and wants it again at once does so behind one that has waited.
    """

    def __init__(self, place: Path, names: Sequence[str], owner: Path) -> None:
        self._paths = [place / f"{name}.lock" for name in sorted(names)]
        self._turns = [place / f"{name}.next" for name in sorted(names)]
        self._owner = owner
        self._held: list[int] = []
        self._turn: list[int] = []

    def take(self) -> str:
        """Empty when it is ours now, or was; else who has it, or is next. Never waits.

        In the order of their names, so that of two supervisors that want some of the same one gets all of its own.
        """
        if self._held:
            return ""
        if not self._turn and (ahead := self._take_all(self._turns, self._turn)):
            return f"{ahead} is the next to have"
        if holder := self._take_all(self._paths, self._held):
            return f"{holder} has"
        _close(self._turn)
        return ""

    def release(self) -> None:
        """Give it back, or the turn that we were waiting with; nothing happens if there is neither."""
        _close(self._held)
        _close(self._turn)

    def _take_all(self, paths: Sequence[Path], held: list[int]) -> str:
        for path in paths:
            holder = self._lock(path, held)
            if holder:
                _close(held)
                return holder
        return ""

    def _lock(self, path: Path, held: list[int]) -> str:
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(fd)
                os.close(fd)
                return holder
            if _is(fd, path):
                break
            os.close(fd)  # whoever cleans /tmp took it away under our hands
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n{self._owner}\n".encode(errors="surrogateescape"), 0)
        held.append(fd)
        return ""


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _holder(fd: int) -> str:
    pid, _, folder = os.pread(fd, 4096, 0).decode(errors="replace").partition("\n")
    return f"the supervisor with pid {pid} in {folder.strip()}" if pid else "another supervisor"


def _is(fd: int, path: Path) -> bool:
    ours = os.fstat(fd)
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
