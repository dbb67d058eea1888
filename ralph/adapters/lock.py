"""One supervisor per folder: an flock that the kernel gives back however its holder ends."""

import contextlib
import fcntl
import os
from pathlib import Path

from ralph.errors import LockedError


class FolderLock:
    """Held from construction to `release`, or to the end of the process. Children do not inherit it."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises LockedError naming the process that holds it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 64, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise LockedError(
                f"a supervisor (pid {holder}) is already at work in {path.parent.parent}. "
                "See it with `ralph status`, end it with `ralph stop`"
            ) from None
        with contextlib.suppress(OSError):  # on a full disk: the lock is what counts, the number a courtesy
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give it back."""
        os.close(self._fd)


def holder(path: Path) -> int | None:
    """The pid of the supervisor at work, None when there is none. Takes no lock that a starting one could trip over."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 64, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(fd)
