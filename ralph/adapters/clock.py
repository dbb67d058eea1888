"""Real time, and for drills a clock that can be set forward: an hour's wait for a provider takes no hour then."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path


class SystemClock:
    """The machine's clocks: wall clock for the record, monotonic for durations."""

    def utc(self) -> datetime:
        """Now, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()


class ShiftedClock(SystemClock):
    """The wall clock plus as many seconds as `file` says at the moment; durations stay real."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def utc(self) -> datetime:
        """Now, shifted, in UTC."""
        try:
            seconds = float(self._file.read_text())
        except (OSError, ValueError):
            seconds = 0.0
        return super().utc() + timedelta(seconds=seconds)
