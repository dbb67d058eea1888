"""What Claude Code's stream of JSON says, in the order in which it counts; the lines are those of version 2.1."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ralph.adapters.agents.presets.claude import read
from ralph.adapters.agents.presets.report import Limit

USAGE = {"input_tokens": 10, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 3000, "output_tokens": 40}
RESULT: dict[str, Any] = {
    "type": "result", "subtype": "success", "is_error": False, "api_error_status": None, "num_turns": 4,
    "result": "All done.", "total_cost_usd": 0.0125, "usage": USAGE,
}  # fmt: skip
PRINTED = '{"type":"rate_limit_event","rate_limit_info":{"status":"rejected"}} You have hit your usage limit'


def log(*lines: dict[str, Any]) -> str:
    return "a warning first\n" + "".join(json.dumps(line) + "\n" for line in lines)


def said(text: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}, {"type": "tool_use", "name": "Bash", "input": {"command": PRINTED}}]
    return {"type": "assistant", "message": {"id": text, "model": "m", "content": content, "usage": USAGE}, **more}


def limited(status: str, **info: Any) -> dict[str, Any]:
    return {"type": "rate_limit_event", "rate_limit_info": {"status": status, **info}}


PRINTING = {
    "type": "user",
    "message": {"content": [{"type": "tool_result", "content": PRINTED}]},
    "error": "rate_limit",
}


def test_the_result_has_tokens_of_every_kind_the_cost_and_the_turns() -> None:
    report = read(
        log(said("I look."), PRINTING, said("All done."), limited("allowed_warning", utilization=0.9), RESULT)
    )
    assert (report.tokens, report.usd, report.calls) == (3250, 0.0125, 4)
    assert (report.limit, report.error, report.message) == (None, "", "All done.")


def test_a_rejected_limit_is_one_with_its_end_whatever_the_result_says() -> None:
    report = read(log(limited("rejected", rateLimitType="seven_day", resetsAt=1_795_497_509), RESULT))
    assert report.limit == Limit(
        words="usage limit reached (seven day)", resume_at=datetime.fromtimestamp(1_795_497_509, UTC)
    )


def test_a_limit_that_was_lifted_again_is_none() -> None:
    assert read(log(limited("rejected"), said("on"), limited("allowed"), RESULT)).limit is None


@pytest.mark.parametrize(("status", "kind"), [(429, ""), (529, ""), (503, ""), (None, "server_error")])
def test_an_error_is_an_outage_by_its_status_or_its_type(status: int | None, kind: str) -> None:
    own = {"type": "assistant", "error": kind, "message": {"model": "<synthetic>", "content": [{"type": "text"}]}}
    failed = {**RESULT, "is_error": True, "api_error_status": status, "result": "API Error: no"}
    report = read(log(said("words"), own, failed))
    assert report.limit == Limit(words="API Error: no")
    assert (report.error, report.message) == ("API Error: no", "words")


@pytest.mark.parametrize("status", [400, 401, 402, 404, None])
def test_any_other_error_is_no_outage(status: int | None) -> None:
    report = read(log({**RESULT, "is_error": True, "api_error_status": status, "result": "API Error: usage limit"}))
    assert (report.limit, report.error) == (None, "API Error: usage limit")


def test_tool_output_and_subagents_say_nothing() -> None:
    report = read(log(said("mine"), PRINTING, said("a subagent's", parent_tool_use_id="t1")))
    assert (report.message, report.limit, report.error) == ("mine", None, "")


def test_killed_before_its_result_it_has_used_what_its_messages_say_each_once() -> None:
    report = read(log(said("one"), said("one"), said("two")))
    assert (report.tokens, report.calls) == (6500, 2)
