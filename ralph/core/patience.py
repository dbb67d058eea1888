"""When to wait and when to give up: a loop that fails must neither spin nor vanish.

Covers: experiments that end without a measurement of the idea (crash, invalid, void), counted in a row; a keep or a
discard resets the count, and so does a human who starts the loop again. Does not cover: waits for a provider's limit.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Back-off doubles from `first_s` after `free` failures in a row, up to `longest_s`; `give_up` failures park."""

    free: int = 2
    first_s: float = 1.0
    longest_s: float = 300.0
    give_up: int = 12

    def wait_s(self, failures_in_row: int) -> float:
        """Seconds to wait after that many failures in a row.

        >>> [Patience().wait_s(n) for n in (0, 2, 3, 4, 5)]
        [0.0, 0.0, 1.0, 2.0, 4.0]
        >>> Patience().wait_s(1000)
        300.0
        """
        over = failures_in_row - self.free
        if over <= 0:
            return 0.0
        return min(self.longest_s, self.first_s * 2.0 ** min(over - 1, 60))

    def resume_at(self, failures_in_row: int, failed_at: datetime | None) -> datetime | None:
        """When the next experiment may begin; None: at once."""
        wait_s = self.wait_s(failures_in_row)
        return None if failed_at is None or wait_s == 0.0 else failed_at + timedelta(seconds=wait_s)

    def exhausted(self, failures_in_row: int) -> bool:
        """Whether it is time to park and ask a human."""
        return failures_in_row >= self.give_up
