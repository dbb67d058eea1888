"""What OpenCode's stream of JSON says; the lines are those of version 1.18."""

import json
from typing import Any

from ralph.adapters.agents.presets.opencode import read


def log(*lines: dict[str, Any]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_opencodes_steps_add_up() -> None:
    step = {"type": "step_finish", "part": {"cost": 0.25, "tokens": {"total": 1050, "input": 1000, "output": 50}}}
    report = read(log(step, {"type": "text", "part": {"text": "All done."}}, step))
    assert (report.tokens, report.usd, report.calls, report.message) == (2100, 0.5, 2, "All done.")


def test_opencodes_errors_carry_the_providers_status() -> None:
    def failed(status: int) -> str:
        data = {"message": "no", "statusCode": status, "isRetryable": False}
        return log({"type": "error", "error": {"name": "APIError", "data": data}})

    assert read(failed(401)).limit is None
    assert read(failed(401)).error == "no"
    assert read(failed(429)).limit is not None
