"""Usage limits and outages: is this answer the provider's weather, and when does it say that it goes on?

Covered: 429 and 408, 402 and messages about an empty credit, every 5xx, the error types of Messages, Responses, Chat
and Gemini, also inside a stream with status 200; `retry-after` in seconds, milliseconds or as a date, `…-reset`
headers of what is used up, and the moments that error bodies name. A wait beyond `LONGEST` is not believed.
Not covered: a request that could never be served (too long a context, an unknown model, a wrong key): no weather.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

LONGEST = timedelta(days=8)  # some plans have weekly limits
WORTH_WAITING_S = 120.0  # a longer wait is the supervisor's, who can let another agent work meanwhile
RETRY_HEADERS = frozenset({"retry-after", "retry-after-ms", "x-should-retry"})
RESUME_HEADER = "x-ralph-resume-in"  # seconds, for agents of ours
EPOCH_FROM = 1e9  # a number from here on is a moment, below it a duration
SHARE = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
AGAIN = re.compile(r"(?:try again|retry) in ((?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+)", re.IGNORECASE)
WEATHER_STATUS = (402, 408, 429)
WEATHER_TYPES = frozenset({
    # Messages
    "rate_limit_error", "overloaded_error", "api_error", "timeout_error", "billing_error",
    # Responses and Chat
    "rate_limit_exceeded", "insufficient_quota", "billing_hard_limit_reached", "usage_limit_reached", "server_error",
    "internal_server_error", "server_is_overloaded", "slow_down", "vector_store_timeout",
    # Gemini
    "RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED",
})  # fmt: skip
EMPTY_CREDIT = "credit balance is too low"  # Messages says so with status 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What an answer says about the provider: its error's type, whether that is weather, and until when."""

    error: str = ""
    limited: bool = False
    resume_at: datetime | None = None


def recognise(status: int, headers: Mapping[str, str], error: Mapping[str, Any] | None, now: datetime) -> Limit:
    """Judge an answer.

    Args:
        status: of the answer; one with 200 can hold an error all the same.
        headers: of the answer, names in lower case.
        error: the error object of its body or stream, if there is one.
        now: aware.
    """
    if status < 400 and error is None:
        return Limit()
    error = error or {}
    names = [str(error[key]) for key in ("type", "code", "status") if isinstance(error.get(key), str)]
    name = next((name for name in names if name in WEATHER_TYPES), names[0] if names else f"status {status}")
    limited = (
        status in WEATHER_STATUS
        or status >= 500
        or EMPTY_CREDIT in str(error.get("message", "")).lower()
        or (status == 200 and name in WEATHER_TYPES)
    )
    if not limited:
        return Limit(error=name)
    then = _stated_by_headers(status, headers, now) or _stated_by_body(error, now)
    return Limit(error=name, limited=True, resume_at=then)


def told(headers: Iterable[tuple[str, str]], limit: Limit, now: datetime) -> list[tuple[str, str]]:
    """The headers of an answer as the agent gets them: none that makes a client sit out a long wait by itself.

    Clients obey `retry-after` for hours, and the agent's time would be over; `x-should-retry: false` ends them at once.
    """
    headers = list(headers)
    wait_s = (limit.resume_at - now).total_seconds() if limit.resume_at else None
    asked = any(name.lower() in RETRY_HEADERS for name, _ in headers)
    if not limit.limited or (wait_s is None and not asked) or (wait_s is not None and wait_s <= WORTH_WAITING_S):
        return headers
    kept = [(name, value) for name, value in headers if name.lower() not in RETRY_HEADERS]
    known = [] if wait_s is None else [(RESUME_HEADER, f"{wait_s:.0f}")]
    return [*kept, ("x-should-retry", "false"), *known]


def moment(text: object, now: datetime) -> datetime | None:
    """The moment that a header or field names, not before `now`; None if it names none, or one beyond `LONGEST`.

    >>> now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    >>> [f"{moment(t, now):%H:%M:%S}" for t in ("90", "6m0s", "Mon, 23 Nov 2026 13:00:00 GMT", "2026-11-23T14:00:00Z")]
    ['12:01:30', '12:06:00', '13:00:00', '14:00:00']
    """
    words = str(text).strip()
    try:
        number = float(words)
        if not math.isfinite(number):
            return None
        seconds = number - now.timestamp() if number >= EPOCH_FROM else number
    except ValueError:
        found = _seconds_of(words, now)
        if found is None:
            return None
        seconds = found
    return None if seconds > LONGEST.total_seconds() else now + timedelta(seconds=max(seconds, 0.0))


def _seconds_of(words: str, now: datetime) -> float | None:
    if SHARE.sub("", words) == "" and words:
        return sum(float(count) * UNIT_S[unit] for count, unit in SHARE.findall(words))
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            then = read(words)
        except ValueError:
            continue
        return ((then if then.tzinfo else then.replace(tzinfo=UTC)) - now).total_seconds()
    return None


def _stated_by_headers(status: int, headers: Mapping[str, str], now: datetime) -> datetime | None:
    milliseconds = headers.get("retry-after-ms", "").strip()
    if milliseconds and (then := moment(f"{milliseconds}ms", now)) is not None:
        return then
    if "retry-after" in headers and (then := moment(headers["retry-after"], now)) is not None:
        return then
    if status != 429:
        return None  # the windows of an answer that failed for another reason are not what it waits for
    resets = [
        then
        for name, value in headers.items()
        if "ratelimit" in name and "reset" in name and _used_up(name, headers)
        if (then := moment(value, now)) is not None
    ]
    return max(resets, default=None)


def _used_up(name: str, headers: Mapping[str, str]) -> bool:
    """Is nothing left of what this header says will be reset? Unknown counts as used up."""
    return headers.get(name.replace("reset", "remaining"), "0").strip() in ("0", "0.0")


def _stated_by_body(error: Mapping[str, Any], now: datetime) -> datetime | None:
    details = error.get("details")
    delays = [each.get("retryDelay") for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    stated = [error.get("resets_in_seconds"), error.get("resets_at"), error.get("retry_after"), *delays]
    if again := AGAIN.search(str(error.get("message", ""))):
        stated.append(again[1])
    found = (moment(each, now) for each in stated if each is not None)
    return next((then for then in found if then is not None), None)
