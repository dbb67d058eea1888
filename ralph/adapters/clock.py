"""Real time, and for drills a clock that can be set forward: an hour's wait for a provider takes no hour then."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

READINGS = 10
APART_S = 0.01


class SystemClock:
    """The machine's clocks: wall clock for the record, monotonic for durations."""

    def utc(self) -> datetime:
        """Now, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def slept(self) -> float:
        """Seconds of suspension since the boot: one clock counts them, the other does not."""
        for _ in range(READINGS):  # whoever is interrupted between two readings reads again
            before = time.clock_gettime(time.CLOCK_MONOTONIC)
            with_sleep = time.clock_gettime(time.CLOCK_BOOTTIME)
            after = time.clock_gettime(time.CLOCK_MONOTONIC)
            if after - before < APART_S:
                break
        return with_sleep - (before + after) / 2


class ShiftedClock(SystemClock):
    """The wall clock plus as many seconds as `file` says at the moment; durations stay real.

    A second number in the file is for how many seconds the machine is to have slept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def utc(self) -> datetime:
        """Now, shifted, in UTC."""
        return super().utc() + timedelta(seconds=self._number(0))

    def slept(self) -> float:
        """As the machine says, and the second number on top."""
        return super().slept() + self._number(1)

    def _number(self, place: int) -> float:
        try:
            return float(self._file.read_text().split()[place])
        except (OSError, ValueError, IndexError):
            return 0.0
