"""Keeps the picture up to date in the background: one drawing process at a time, and the newest data wins."""

import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ralph.adapters.files import remove_tree, write_atomic
from ralph.adapters.process import Child, Command, reap_leftovers, spawn

NICENESS = 10  # the run in flight matters more
DEADLINE_S = 120.0
STOP_S = 30.0
_REAP_S = 5.0


class Drawing:
    """Draws `data` to `out` by the program of `ralph.adapters.plot`, in the kill domain `domain`.

    Nothing here blocks but `finish` and `close`. A picture that cannot be drawn is missing, and says why in the log of
    its domain; the loop goes on.
    """

    def __init__(self, data: Path, out: Path, domain: Path, start: Callable[[Command], Child] = spawn) -> None:
        self._data, self._out, self._domain, self._start = data, out, domain, start
        self._child: Child | None = None
        self._stale = False

    def show(self, data: str) -> None:
        """Draw this text of JSON, as soon as the drawing in hand is over; not again what the picture shows already."""
        if self._child is None and self._shows(data):
            return
        write_atomic(self._data, data, durable=False)
        self._stale = True
        self.tend()

    def _shows(self, data: str) -> bool:
        try:
            drawn_ns, written_ns = self._out.stat().st_mtime_ns, self._data.stat().st_mtime_ns
            return drawn_ns == written_ns and self._data.read_text(encoding="utf-8") == data
        except (OSError, ValueError):
            return False

    def tend(self) -> None:
        """Take note of a drawing that is over, and start the next if there is newer data."""
        if self._child is not None and self._child.poll() is not None:
            self._child.close()
            self._child = None
        if self._child is None and self._stale:
            self._stale = False
            self._child = self._start(self._command())

    def _command(self) -> Command:
        if self._domain.exists():
            reap_leftovers(self._domain, _REAP_S)
            remove_tree(self._domain)
        self._domain.mkdir(parents=True)
        program = (sys.executable, "-m", "ralph.adapters.plot", str(self._data), str(self._out))
        return Command(
            argv=("nice", "-n", str(NICENESS), *program),
            cwd=self._domain,
            env=dict(os.environ),  # a program of ours; with the user's TMPDIR it finds matplotlib's font cache again
            folder=self._domain,
            log=self._domain / "log.txt",
            deadline_s=DEADLINE_S,
        )

    def finish(self, within_s: float) -> bool:
        """Wait until the newest data is drawn; whether that happened in time."""
        deadline = time.monotonic() + within_s
        self.tend()
        while self._child is not None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            select.select([self._child], [], [], left_s)
            self.tend()
        return True

    def close(self) -> None:
        """End the drawing in hand, and wait until nothing of it is left."""
        self._stale = False
        if self._child is not None:
            self._child.kill("nobody waits for the picture any more")
            self.finish(STOP_S)
