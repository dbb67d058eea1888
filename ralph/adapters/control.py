"""How the outside reaches the loop: signals, and the files state/STOP and state/PAUSE.

Signal handlers only count; the loop looks when it comes by. `wait` wakes at once for a signal or a job's news (through
a wake-up descriptor and the jobs' own), and looks at the files every half second.
"""

import os
import selectors
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

from ralph.layout import Layout
from ralph.ports import Job, Signals

LOOK_S = 0.5  # how soon a touched file is seen; nothing on the hot path waits for it
ENDING = (signal.SIGINT, signal.SIGTERM)
IGNORED = (signal.SIGHUP,)  # a lost terminal is not a wish


class SystemControl:
    """Signals and files of one folder. Use as a context manager, in the main thread: it owns the handlers meanwhile."""

    def __init__(self, layout: Layout) -> None:
        self._stop, self._pause = layout.stop_file, layout.pause_file
        self._count, self._by = 0, ""
        self._old: dict[int, object] = {}
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old_wakeup = -1

    def __enter__(self) -> "SystemControl":
        """Take over the signals; an old STOP file is not a wish for the loop that starts now."""
        self._stop.unlink(missing_ok=True)
        self._old_wakeup = signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        for number in ENDING:
            self._old[number] = signal.signal(number, self._on_signal)
        for number in IGNORED:
            self._old[number] = signal.signal(number, signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back and take away the STOP file that was obeyed."""
        for number, old in self._old.items():
            signal.signal(number, old)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._wake_r)
        os.close(self._wake_w)
        self._stop.unlink(missing_ok=True)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._count += 1
        self._by = signal.Signals(number).name

    def read(self) -> Signals:
        """First signal: stop after the run in hand; second: now. The files say the same."""
        word = _content(self._stop)
        return Signals(
            stop=self._count >= 1 or word is not None,
            stop_now=self._count >= 2 or word == "now",
            pause=self._pause.exists(),
            by=self._by or "ralph stop" if self._count or word is not None else "ralph pause",
        )

    def wait(self, jobs: Iterable[Job[object]], timeout_s: float) -> None:
        """Sleep until there is news."""
        end, before = time.monotonic() + timeout_s, (self._count, _content(self._stop), self._pause.exists())
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_r, selectors.EVENT_READ)
            for job in jobs:
                fd = job.fileno()
                if fd is None:
                    return
                selector.register(fd, selectors.EVENT_READ)
            while (left := end - time.monotonic()) > 0:
                ready = selector.select(min(left, LOOK_S))
                if any(key.fd == self._wake_r for key, _ in ready):
                    os.read(self._wake_r, 4096)
                if ready or before != (self._count, _content(self._stop), self._pause.exists()):
                    return


def _content(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip().lower()
    except FileNotFoundError:
        return None
    except OSError:
        return ""
