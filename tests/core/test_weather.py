"""How long a provider is left alone."""

from datetime import UTC, datetime, timedelta

import pytest

from ralph.core.weather import LONGEST, LONGEST_STATED, MARGIN, Weather, weather_after
from ralph.events import AgentEnded
from ralph.model import AgentOutcome

AT = datetime(2026, 11, 24, 2, 10, tzinfo=UTC)


def away(resume_at: datetime | None = None, before: Weather | None = None) -> Weather:
    event = AgentEnded(
        id=1, attempt=1, outcome=AgentOutcome.LIMITED, reason="usage limit", seconds=1.0, resume_at=resume_at
    )
    return weather_after(event, AT, before)


def test_a_stated_reset_is_waited_for() -> None:
    assert away(AT + timedelta(hours=5)).until == AT + timedelta(hours=5) + MARGIN


def test_without_a_reset_the_wait_doubles_up_to_a_quarter_of_an_hour() -> None:
    weather, waits = None, []
    for _ in range(8):
        weather = away(before=weather)
        waits.append((weather.until - AT).total_seconds())
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]


@pytest.mark.parametrize("late", [timedelta(seconds=-3600), timedelta(0)])
def test_a_reset_that_is_over_already_backs_off(late: timedelta) -> None:
    assert away(AT + late, before=Weather(until=AT, reason="", in_row=3)).until == AT + timedelta(seconds=240)


def test_an_absurd_reset_is_asked_about_again_soon() -> None:
    assert away(AT + LONGEST_STATED + timedelta(seconds=1)).until == AT + LONGEST
