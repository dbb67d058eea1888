"""What Gemini CLI's stream of JSON says; the lines are those of version 0.61."""

import json
from typing import Any

from ralph.adapters.agents.presets.gemini import read


def log(*lines: dict[str, Any]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_geminis_words_after_its_last_tool_are_its_last_message() -> None:
    said = {"type": "message", "role": "assistant", "delta": True}
    report = read(
        log(
            {**said, "content": "I look."},
            {"type": "tool_use", "tool_name": "run_shell_command"},
            {"type": "tool_result", "output": "quota exceeded"},
            {**said, "content": "All "},
            {**said, "content": "done."},
            {"type": "result", "status": "success", "stats": {"total_tokens": 2100}},
        )
    )
    assert (report.tokens, report.message, report.error, report.limit) == (2100, "All done.", "", None)


def test_geminis_quota_is_a_limit_and_a_wrong_key_is_none() -> None:
    def failed(words: str) -> str:
        return log({"type": "result", "status": "error", "error": {"type": "unknown", "message": words}})

    spent = read(failed("[API Error: You have exhausted your daily quota on this model.]"))
    assert spent.limit is not None
    assert "daily quota" in spent.limit.words
    wrong = read(failed("[API Error: API key not valid]"))
    assert (wrong.limit, wrong.error) == (None, "unknown [API Error: API key not valid]")
