"""Usage limits and outages of a provider: how long to leave it alone.

Covers: a stated reset is believed, within bounds; without one the wait doubles with every refusal in a row. Does not
cover: whether the provider tells the truth; who asks too early is sent away once more, which costs no experiment.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ralph.events import AgentEnded

FIRST = timedelta(seconds=30)
LONGEST = timedelta(minutes=15)  # without a stated reset
LONGEST_STATED = timedelta(days=8)  # weekly limits exist; anything beyond is a mistake, and asked again after LONGEST
MARGIN = timedelta(seconds=2)  # their clock is not ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """An agent's provider is not to be asked before `until`; `in_row` counts how often it sent the agent away."""

    until: datetime
    reason: str
    in_row: int = 1


def weather_after(event: AgentEnded, at: datetime, before: Weather | None) -> Weather:
    """What it means for the next call that an agent was sent away at `at`.

    >>> from datetime import UTC
    >>> from ralph.model import AgentOutcome
    >>> at = datetime(2026, 11, 24, 2, 10, tzinfo=UTC)
    >>> away = AgentEnded(id=3, attempt=1, outcome=AgentOutcome.LIMITED, reason="overloaded", seconds=2.0)
    >>> one = weather_after(away, at, None)
    >>> two = weather_after(away, at, one)
    >>> (one.until - at).seconds, (two.until - at).seconds, two.in_row
    (30, 60, 2)
    """
    in_row = before.in_row + 1 if before else 1
    back_off = min(LONGEST, FIRST * 2 ** min(in_row - 1, 20))
    stated = event.resume_at
    if stated is None:
        until = at + back_off
    elif stated - at > LONGEST_STATED:
        until = at + LONGEST
    else:  # a reset that is over already did not help: never faster than the back-off
        until = max(stated + MARGIN, at + back_off)
    return Weather(until=until, reason=event.reason, in_row=in_row)
