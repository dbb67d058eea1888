"""What Codex' stream of JSON says; the lines are those of version 0.169."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ralph.adapters.agents.presets.codex import read

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=timezone(timedelta(hours=2)))
USAGE = {"input_tokens": 2000, "cached_input_tokens": 1500, "output_tokens": 100, "reasoning_output_tokens": 60}
LIMIT = "You’ve hit your usage limit. Upgrade to Pro (https://chatgpt.com/explore/pro), or try again at {}."
COMPLETED = {"type": "turn.completed", "usage": USAGE}


def log(*lines: dict[str, Any]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def item(**fields: Any) -> dict[str, Any]:
    return {"type": "item.completed", "item": {"id": "item_1", **fields}}


def failed(message: str) -> str:
    return log({"type": "error", "message": message}, {"type": "turn.failed", "error": {"message": message}})


def test_tokens_are_those_read_and_written_cached_and_reasoned_ones_once() -> None:
    printed = item(type="command_execution", aggregated_output="You've hit your usage limit", exit_code=1)
    warned = item(type="error", message="Model metadata for `m` not found: rate limit")
    report = read(log(warned, printed, item(type="agent_message", text="All done."), COMPLETED))
    assert (report.tokens, report.limit, report.error, report.message) == (2100, None, "", "All done.")


def test_a_reconnection_that_went_well_is_no_error() -> None:
    again = {"type": "error", "message": "Reconnecting... 1/4 (unexpected status 503 Service Unavailable)"}
    assert read(log(again, item(type="agent_message", text="ok"))).limit is None
    assert read(log(again, COMPLETED)).limit is None
    assert read(log(again)).limit is not None  # killed while it waited


@pytest.mark.parametrize(
    ("words", "then"),
    [
        ("5:18 PM", datetime(2026, 11, 24, 15, 18, tzinfo=UTC)),
        ("11:59 AM", datetime(2026, 11, 24, 9, 59, tzinfo=UTC)),  # a minute ago: it may go on at once
        ("12:05 PM", datetime(2026, 11, 24, 10, 5, tzinfo=UTC)),
        ("Nov 27th, 2026 3:41 AM", datetime(2026, 11, 27, 1, 41, tzinfo=UTC)),
        ("Dec 1st, 2026 12:00 PM", datetime(2026, 12, 1, 10, 0, tzinfo=UTC)),
        ("Nov 99th, 2026 3:41 AM", None),
        ("13:61 PM", None),
        ("some time", None),
    ],
)
def test_a_usage_limit_names_its_end_in_local_time(words: str, then: datetime | None) -> None:
    report = read(failed(LIMIT.format(words)), NOON)
    assert report.limit is not None
    assert report.limit.words.startswith("You’ve hit your usage limit.")
    assert report.limit.resume_at == then


@pytest.mark.parametrize(
    "message",
    [
        "exceeded retry limit, last status: 429 Too Many Requests",
        "unexpected status 503 Service Unavailable: server down, url: http://127.0.0.1:1/v1/responses",
        "stream disconnected before completion: error sending request",
    ],
)
def test_outages_are_recognised(message: str) -> None:
    report = read(failed(message))
    assert (report.error, report.limit is not None) == (message, True)


@pytest.mark.parametrize(
    "message", ["unexpected status 402 Payment Required: no", "unexpected status 401: a wrong key"]
)
def test_other_errors_are_none(message: str) -> None:
    report = read(failed(message))
    assert (report.error, report.limit) == (message, None)
