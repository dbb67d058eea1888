"""The record of calls outlives its writer, and charges for what nobody saw the end of."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ralph.adapters.gateway.calls import Call, CallLog, Spent, read_calls, total

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MOST = Call(at=NOW, api="messages", model="m", path="/v1/messages", input=1000, output=500, usd=0.5)
DONE = replace(MOST, status=200, input=100, cached=40, output=20, usd=0.01, seconds=1.25)


@pytest.fixture
def record(hostile: Path) -> Path:
    return hostile / "calls.jsonl"


def test_a_call_comes_back_as_it_was_recorded(record: Path) -> None:
    log = CallLog(record)
    limited = replace(DONE, status=429, limited=True, resume_at=NOW + timedelta(hours=1), error="rate_limit_error")
    log.end(log.begin(MOST), DONE)
    log.end(log.begin(MOST), limited)
    log.add(refused := replace(MOST, refused=True, status=402, error="ralph_budget", usd=None))
    assert read_calls(record) == (DONE, limited, refused)


def test_a_call_without_an_end_is_charged_the_most_it_can_cost(record: Path) -> None:
    log = CallLog(record)
    log.begin(MOST)
    log.end(log.begin(MOST), DONE)
    unfinished, done = read_calls(record)
    assert (unfinished.usd, unfinished.input, unfinished.estimated, unfinished.error) == (0.5, 1000, True, "unfinished")
    assert done == DONE
    assert total((unfinished, done)) == Spent(usd=0.51, tokens=1620, calls=2)


def test_calls_that_overlap_are_told_apart(record: Path) -> None:
    log = CallLog(record)
    first, second = log.begin(MOST), log.begin(MOST)
    log.end(second, replace(DONE, model="second"))
    log.end(first, replace(DONE, model="first"))
    assert [call.model for call in read_calls(record)] == ["first", "second"]


def test_a_torn_last_line_costs_nothing_but_itself(record: Path) -> None:
    log = CallLog(record)
    log.end(log.begin(MOST), DONE)
    whole = record.read_bytes()
    for cut in range(1, len(whole.splitlines()[1]), 41):
        record.write_bytes(whole[:-cut])
        assert len(read_calls(record)) == 1, "the line before it is there, so it is charged"
        again = CallLog(record)
        again.end(again.begin(MOST), DONE)
        assert len(read_calls(record)) == 2


def test_a_second_writer_goes_on_where_the_first_was_killed(record: Path) -> None:
    CallLog(record).begin(MOST)
    log = CallLog(record)
    log.end(log.begin(MOST), DONE)
    assert [call.estimated for call in read_calls(record)] == [True, False]


def test_no_record_and_foreign_lines_are_no_calls(record: Path) -> None:
    assert read_calls(record) == ()
    record.write_text('[]\n7\n{"at": 1}\n{"ended": 1}\n{"begun": 1, "at": "yesterday"}\n\xff\n')
    assert read_calls(record) == ()
    assert total(()) == Spent()


def test_refused_calls_cost_nothing_and_say_so() -> None:
    refused = replace(MOST, refused=True, error="ralph_budget", reason="$0.01 left")
    assert total((DONE, refused)) == Spent(usd=0.01, tokens=120, calls=1, refused="$0.01 left")


def test_an_agent_was_limited_if_the_last_call_to_one_of_its_models_was() -> None:
    limited = replace(DONE, limited=True, resume_at=NOW, error="overloaded_error")
    assert not total((limited, DONE)).limited, "it went on"
    small = replace(DONE, model="small")
    spent = total((limited, replace(limited, resume_at=NOW + timedelta(hours=2)), small))
    assert (spent.limited, spent.resume_at, spent.limit) == (True, NOW + timedelta(hours=2), "overloaded_error")


def test_an_unknown_price_counts_tokens_only() -> None:
    assert total((replace(DONE, usd=None),)) == Spent(usd=0.0, tokens=120, calls=1)
