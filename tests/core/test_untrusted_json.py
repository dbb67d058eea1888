"""What a run may print or write to bring its reader down, and does not."""

import json

import pytest

from ralph.core.reported import parse_metrics
from ralph.core.untrusted_json import MOST_KEYS, flat, number, parse_object

NASTY = ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "nul", '{"a": NaN', "", "\x00", '"\\ud800"']


@pytest.mark.parametrize("text", NASTY)
def test_what_is_no_object_is_none_whatever_it_is(text: str) -> None:
    assert parse_object(text) is None
    assert parse_object(text.encode()) is None


def test_bytes_in_no_encoding_are_none() -> None:
    assert parse_object(b"\xff\xfe\xfd") is None


@pytest.mark.parametrize("text", NASTY)
def test_a_last_line_that_brings_parsers_down_is_no_score(text: str) -> None:
    assert parse_metrics(f"---\nval_bpb: 1.5\n{text}\n") == {"val_bpb": 1.5}


def test_an_integer_too_large_for_a_float_is_no_number() -> None:
    assert parse_metrics('{"val_bpb": 1' + "0" * 400 + ', "other": 2}') == {"other": 2.0}
    assert number(float("inf")) == float("inf"), "for the one who judges it"


def test_what_is_left_is_bounded_and_can_be_written_and_read_back() -> None:
    raw = {f"{'k' * 200}{n}" if n % 2 else f"{n}\ud800": "\udfff" if n % 3 else float("inf") for n in range(1000)}
    held = flat(raw)
    assert len(held) <= MOST_KEYS
    assert max(map(len, held)) <= 80
    assert json.loads(json.dumps(held, allow_nan=False, ensure_ascii=False).encode()) == held
