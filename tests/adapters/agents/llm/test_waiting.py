"""Errors are told apart by status, type and words; waits are those that were stated, or grow, and stay bounded."""

import email.utils
import time
from itertools import pairwise
from random import Random

import pytest

from ralph.adapters.agents.llm.waiting import (
    MOST_S,
    BudgetError,
    CallError,
    ContextError,
    Patience,
    RejectedError,
    WeatherError,
    error_of,
    retry_after,
)

CASES: list[tuple[int, str, str, type[CallError]]] = [
    (429, "rate_limit_error", "slow down", WeatherError),
    (529, "overloaded_error", "Overloaded", WeatherError),
    (500, "api_error", "oops", WeatherError),
    (503, "", "", WeatherError),
    (408, "", "", WeatherError),
    (200, "overloaded_error", "Overloaded", WeatherError),
    (200, "server_error", "", WeatherError),
    (200, "invalid_request_error", "bad", RejectedError),
    (402, "billing_error", "pay first", WeatherError),
    (402, "ralph_budget", "0.01 USD left", BudgetError),
    (400, "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum", ContextError),
    (400, "invalid_request_error context_length_exceeded", "Your input exceeds", ContextError),
    (400, "BadRequestError", "This model's maximum context length is 4096 tokens. However, you", ContextError),
    (400, "exceed_context_size_error", "the request exceeds the available context size", ContextError),
    (400, "", "input length and `max_tokens` exceed context limit: 190000 + 16000 > 200000", ContextError),
    (413, "request_too_large", "Request exceeds the maximum size", ContextError),
    (400, "invalid_request_error", "messages: at least one", RejectedError),
    (401, "authentication_error", "invalid x-api-key", RejectedError),
    (404, "not_found_error", "model: nope", RejectedError),
]


@pytest.mark.parametrize(("status", "kind", "words", "expected"), CASES)
def test_what_an_error_means(status: int, kind: str, words: str, expected: type[CallError]) -> None:
    assert type(error_of(status, kind, words, {})) is expected


def test_only_an_empty_account_is_hopeless_weather() -> None:
    hopeless = [error_of(429, "insufficient_quota", "", {}), error_of(402, "billing_error", "", {})]
    hopeless.append(error_of(400, "invalid_request_error", "Your credit balance is too low", {}))
    assert all(isinstance(error, WeatherError) and error.final for error in hopeless)
    limit = error_of(429, "rate_limit_error", "requests per minute", {})
    assert isinstance(limit, WeatherError)
    assert not limit.final


def test_a_stated_wait_is_read_in_every_form_and_nonsense_is_none() -> None:
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": " 0.5 "}) == 0.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    soon = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 95 < (retry_after({"retry-after": soon}) or 0) <= 100
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    for nonsense in ("soon", "-3", "nan", "inf", "1e999", ""):
        assert retry_after({"retry-after": nonsense}) is None
    assert retry_after({}) is None


def test_waits_that_are_not_stated_grow_and_stay_bounded() -> None:
    patience = Patience(remaining_s=lambda: 900.0, random=Random(1))
    waits = [patience._wait_s(WeatherError(""), attempt) for attempt in range(1, 9)]
    assert all(later > sooner for sooner, later in pairwise(waits[:5]))
    assert max(waits) <= MOST_S * 1.25
    assert waits[0] < 1


def test_trouble_is_on_record_while_it_lasts() -> None:
    patience = Patience(remaining_s=lambda: 900.0, first_s=0.0)
    seen: list[str] = []

    def call() -> int:
        seen.append(patience.trouble)
        if len(seen) < 3:
            raise WeatherError("overloaded")
        return 7

    assert patience.answer(call) == 7
    assert seen == ["", "overloaded", "overloaded"]
    assert patience.trouble == ""


def test_what_is_not_weather_is_raised_at_once() -> None:
    tries: list[int] = []

    def call() -> int:
        tries.append(1)
        raise RejectedError("no")

    with pytest.raises(RejectedError):
        Patience(remaining_s=lambda: 900.0).answer(call)
    assert len(tries) == 1
