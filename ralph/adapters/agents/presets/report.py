"""What a CLI says of itself in its output: tokens, cost, a usage limit, an error, the last words of its model.

Covered: JSON lines at the end of the log, of any shape; what a tool printed lies inside such a line and is never read.
Not covered: a process of the agent that writes lines of its own into the log. It could claim a usage limit or other
figures; where there is a gateway, that one's figures count.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MOST_BYTES = 4 * 2**20
OUTAGES = frozenset({408, 425, 429, 500, 502, 503, 504, 529})  # statuses that say: later


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A usage limit or an outage of the provider; `resume_at` is when it goes on, if that was said."""

    words: str
    resume_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Tokens read and written, dollars at list price, calls of the provider, all as far as the CLI told.

    `message` is the last one of the model, without anything that a tool printed.
    """

    tokens: int = 0
    usd: float = 0.0
    calls: int = 0
    limit: Limit | None = None
    error: str = ""
    message: str = ""


def log_end(path: Path) -> str:
    """The last `MOST_BYTES` of a log, from the beginning of a line; empty if there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MOST_BYTES))
            data = file.read(MOST_BYTES)
    except FileNotFoundError:
        return ""
    whole = data if size <= MOST_BYTES else data.partition(b"\n")[2]
    return whole.decode(errors="replace")


def events(text: str) -> Iterator[Mapping[str, Any]]:
    """The JSON objects among the lines of a log, oldest first."""
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


def part(value: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The object that lies below these names, or an empty one."""
    found: Any = value
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def text_of(value: Mapping[str, Any], name: str) -> str:
    """A text, or the empty one."""
    found = value.get(name)
    return found if isinstance(found, str) else ""


def number(value: Mapping[str, Any], name: str) -> float:
    """A finite number that is not negative, or 0."""
    found = value.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < math.inf:
        return 0.0
    return float(found)


def count(value: Mapping[str, Any], *names: str) -> int:
    """The sum of several whole numbers."""
    return int(sum(number(value, name) for name in names))


def moment(seconds: float) -> datetime | None:
    """Seconds since 1970 as a time, None if they are not believable."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (OverflowError, ValueError, OSError):
        return None


def outage(status: float, words: str) -> Limit | None:
    """A limit, if the status of the provider's answer says that it is one."""
    return Limit(words=words or f"the provider answered {status:g}") if status in OUTAGES else None
