"""What is weather, until when, and what is not."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ralph.adapters.gateway.limits import LONGEST, Limit, moment, recognise, told

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def judged(status: int, error: dict[str, Any] | None = None, **headers: str) -> Limit:
    return recognise(status, {name.replace("_", "-"): value for name, value in headers.items()}, error, NOW)


def after(**duration: float) -> datetime:
    return NOW + timedelta(**duration)


def test_an_answer_without_an_error_is_none() -> None:
    assert judged(200, retry_after="5", anthropic_ratelimit_requests_reset="2026-11-23T13:00:00Z") == Limit()


@pytest.mark.parametrize(
    ("stated", "then"),
    [
        ("20", after(seconds=20)),
        ("0.5", after(seconds=0.5)),
        ("Mon, 23 Nov 2026 14:00:00 GMT", after(hours=2)),
        ("Mon, 23 Nov 2026 10:00:00 GMT", NOW),
        ("-3", NOW),
        ("691200", after(days=8)),
        ("999999999", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_seconds_or_as_a_date_and_absurd_values_are_not_believed(
    stated: str, then: datetime | None
) -> None:
    assert judged(429, {"type": "rate_limit_error"}, retry_after=stated) == Limit(
        error="rate_limit_error", limited=True, resume_at=then
    )


def test_milliseconds_win_over_seconds() -> None:
    assert judged(429, None, retry_after_ms="1500", retry_after="60").resume_at == after(seconds=1.5)


def test_resets_of_what_is_used_up_are_believed_and_others_are_not() -> None:
    anthropic = {
        "anthropic_ratelimit_requests_remaining": "12",
        "anthropic_ratelimit_requests_reset": "2026-11-23T20:00:00Z",
        "anthropic_ratelimit_tokens_remaining": "0",
        "anthropic_ratelimit_tokens_reset": "2026-11-23T12:30:00Z",
    }
    assert judged(429, None, **anthropic).resume_at == after(minutes=30)
    openai = {"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "6m0s"}
    assert judged(429, None, **openai).resume_at == after(minutes=6)
    assert judged(429, None, x_ratelimit_reset_requests="1h2m3.5s").resume_at == after(hours=1, minutes=2, seconds=3.5)
    unified = str(int(after(hours=5).timestamp()))
    assert judged(429, None, anthropic_ratelimit_unified_reset=unified).resume_at == after(hours=5)
    assert judged(529, None, **anthropic).resume_at is None, "an overload does not wait for a window"


def test_moments_in_the_body_are_found_where_headers_say_nothing() -> None:
    usage = {"type": "usage_limit_reached", "resets_in_seconds": 3600, "message": "The usage limit has been reached"}
    assert judged(429, usage) == Limit(error="usage_limit_reached", limited=True, resume_at=after(hours=1))
    gemini = {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "x"}, {"retryDelay": "34s"}]}
    assert judged(429, gemini) == Limit(error="RESOURCE_EXHAUSTED", limited=True, resume_at=after(seconds=34))
    words = {"code": "rate_limit_exceeded", "type": "tokens", "message": "Please try again in 6m1.5s. Visit …"}
    assert judged(429, words) == Limit(error="rate_limit_exceeded", limited=True, resume_at=after(seconds=361.5))


@pytest.mark.parametrize(
    ("status", "error", "name"),
    [
        (429, {"type": "insufficient_quota", "code": "insufficient_quota"}, "insufficient_quota"),
        (402, {"type": "billing_error"}, "billing_error"),
        (400, {"type": "invalid_request_error", "message": "Your credit balance is too low"}, "invalid_request_error"),
        (408, None, "status 408"),
        (500, {"type": "api_error"}, "api_error"),
        (503, None, "status 503"),
        (529, {"type": "overloaded_error"}, "overloaded_error"),
        (200, {"type": "overloaded_error"}, "overloaded_error"),
        (200, {"type": "error", "code": "server_error"}, "server_error"),
        (200, {"type": "tokens", "code": "rate_limit_exceeded"}, "rate_limit_exceeded"),
    ],
)  # fmt: skip
def test_limits_and_outages_are_weather(status: int, error: dict[str, Any] | None, name: str) -> None:
    assert judged(status, error) == Limit(error=name, limited=True)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"type": "invalid_request_error", "message": "prompt is too long"}),
        (401, {"type": "authentication_error"}),
        (403, {"type": "permission_error"}),
        (404, {"type": "not_found_error"}),
        (413, {"type": "request_too_large"}),
        (200, {"type": "invalid_prompt"}),
    ],
)
def test_what_could_never_be_served_is_not(status: int, error: dict[str, Any]) -> None:
    assert judged(status, error, retry_after="5") == Limit(error=error["type"])


def test_no_value_of_a_header_or_field_breaks_it() -> None:
    for value in ("1e999", "٣", "0x10", "9" * 400, "1s2", "2026-13-45", "\x00", "5 apples", "-9e99", "24:00"):
        then = moment(value, NOW)
        assert then is None or NOW <= then <= NOW + LONGEST
        for error in (value, [value], {"a": value}, None, 5, True):
            body = json.loads(json.dumps({"type": error, "message": error, "details": error, "resets_at": error}))
            recognise(429, {"retry-after": value, "x-ratelimit-reset-tokens": value}, body, NOW)


@pytest.mark.parametrize(
    ("wait_s", "headers", "expected"),
    [
        (20.0, [("Retry-After", "20")], [("Retry-After", "20")]),
        (3600.0, [("Retry-After", "3600")], [("x-should-retry", "false"), ("x-ralph-resume-in", "3600")]),
        (3600.0, [("a", "b")], [("a", "b"), ("x-should-retry", "false"), ("x-ralph-resume-in", "3600")]),
        (None, [("retry-after", "999999999")], [("x-should-retry", "false")]),
        (None, [("a", "b")], [("a", "b")]),
    ],
)
def test_no_client_is_told_to_sit_out_a_long_wait(
    wait_s: float | None, headers: list[tuple[str, str]], expected: list[tuple[str, str]]
) -> None:
    limit = Limit(error="x", limited=True, resume_at=None if wait_s is None else after(seconds=wait_s))
    assert told(headers, limit, NOW) == expected
    assert told(headers, Limit(error="x"), NOW) == headers
