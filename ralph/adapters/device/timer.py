"""A descriptor that becomes readable after a while, so that a job can ask to be polled again.

The standard library has it from Python 3.13 on.
"""

import contextlib
import ctypes
import os
import time

NANO = 1_000_000_000


class _Spec(ctypes.Structure):
    """Struct itimerspec: the interval, then the first time; each of seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")]


class Timer:
    """A timer of the kernel. `every` starts it, `drain` makes its descriptor unreadable until it fires again."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")

    def fileno(self) -> int:
        """Readable when it has fired since the last `drain`."""
        return self._fd

    def every(self, seconds: float) -> None:
        """Fire after that long, and again and again."""
        whole, rest = divmod(max(1, round(seconds * NANO)), NANO)
        spec = _Spec(every_s=whole, every_ns=rest, first_s=whole, first_ns=rest)
        if self._libc.timerfd_settime(self._fd, 0, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def drain(self) -> bool:
        """Whether it has fired since it was last asked."""
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(self._fd, 8))
        return False

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
