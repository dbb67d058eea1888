"""Real time."""

import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clocks: wall clock for the record, monotonic for durations."""

    def utc(self) -> datetime:
        """Now, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()
