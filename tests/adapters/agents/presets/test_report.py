"""Output of a CLI is read from its end, in bounds, and believed in nothing but its form."""

import json
from pathlib import Path

import pytest

from ralph.adapters.agents.presets.outfit import PRESETS
from ralph.adapters.agents.presets.report import MOST_BYTES, Report, count, events, log_end, moment, number, part

HOSTILE = [
    "{", "{}", "[1]", '{"type": 1}', '{"type": "result"}', '{"type": "result", "usage": [], "is_error": 1}',
    '{"type": "assistant", "message": {"content": [1, {"type": "text", "text": 2}], "usage": {"input_tokens": "x"}}}',
    '{"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 1e300}}',
    '{"type": "turn.completed", "usage": {"input_tokens": -5, "output_tokens": true}}', '{"type": "turn.failed"}',
    '{"type": "step_finish", "part": {"tokens": 3, "cost": "much"}}', '{"type": "error", "error": "no object"}',
    '{"type": "item.completed", "item": null}', '{"a": ' * 100_000, "Tokens: .k sent, ,M received. $. session",
]  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("line", HOSTILE)
def test_nothing_that_a_log_may_hold_breaks_its_reader(name: str, line: str) -> None:
    report = PRESETS[name].read(f"{line}\n{line}\n")
    assert (report.tokens, report.usd) == (0, 0.0)


@pytest.mark.parametrize("name", PRESETS)
def test_no_output_is_an_empty_report(name: str) -> None:
    assert PRESETS[name].read("") == Report()


def test_only_the_end_of_a_long_log_is_read_from_the_start_of_a_line(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    line = json.dumps({"type": "x", "text": "y" * 1000}) + "\n"
    log.write_text(line * (MOST_BYTES // len(line) + 50))
    text = log_end(log)
    assert len(text) <= MOST_BYTES
    assert text.startswith('{"type"')
    assert sum(1 for _ in events(text)) == text.count("\n")
    assert log_end(tmp_path / "none.txt") == ""


def test_numbers_and_objects_of_the_wrong_kind_count_as_nothing() -> None:
    value = {"n": 3, "neg": -1, "nan": float("nan"), "inf": float("inf"), "text": "7", "yes": True, "sub": {"n": 1}}
    assert [number(value, name) for name in value] == [3.0, 0, 0, 0, 0, 0, 0]
    assert count(value, "n", "neg", "text", "absent") == 3
    assert (part(value, "sub"), part(value, "n"), part(value, "sub", "n")) == ({"n": 1}, {}, {})
    assert (moment(0), moment(1e300), moment(float("nan"))) == (None, None, None)
