"""The record of an agent's calls to its provider: calls.jsonl, one JSON line before each call and one after it.

The line before holds the most that the call can cost. A call whose second line is missing, because the gateway was
killed, is charged that much: money that may have been spent counts as spent. No line holds a key, prompt or answer.
"""

import json
import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call. `input` are all tokens read, `cached` those of them that came from a cache, `output` those written.

    Attributes:
        at: when it began, UTC.
        status: of the answer as the agent saw it; 0 while unknown.
        usd: dollars; None when the model's price is not known.
        refused: by the gateway, for the budget; nothing was sent.
        limited: the provider's usage limit, or an outage.
        resume_at: when the provider says that it goes on, if it does.
        error: its type, in the provider's or the gateway's word.
        estimated: tokens are estimated from what was sent and received, since the answer did not say.
    """

    at: datetime
    api: str
    model: str
    path: str
    status: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    usd: float | None = 0.0
    seconds: float = 0.0
    refused: bool = False
    limited: bool = False
    resume_at: datetime | None = None
    error: str = ""
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the calls of one agent come to.

    Attributes:
        usd: dollars, as far as prices are known.
        tokens: read and written.
        calls: those that were sent.
        refused: why the gateway refused one, in the word of the record; empty if it did not.
        limited: the last call to one of its models met a usage limit or an outage.
        limit: its error.
        resume_at: the latest moment named by such calls.
    """

    usd: float = 0.0
    tokens: int = 0
    calls: int = 0
    refused: str = ""
    limited: bool = False
    limit: str = ""
    resume_at: datetime | None = None


class CallLog:
    """Appends to a record. Each line is one write, so that a killed writer tears at most the last."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        data = path.read_bytes()
        self._next = data.count(b"\n") + 1
        if data and not data.endswith(b"\n"):
            os.write(self._fd, b"\n")  # else the torn line would swallow ours

    def begin(self, most: Call) -> int:
        """Record that a call is about to be sent, at the most it can cost; its number.

        Raises:
            OSError: it could not be recorded, so it must not be sent.
        """
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._append({"begun": number, **_row(most)})
            return number

    def end(self, number: int, call: Call) -> None:
        """Record how the call of that number ended."""
        with self._lock:
            self._append({"ended": number, **_row(call)})

    def add(self, call: Call) -> None:
        """Record a call that was never sent."""
        with self._lock:
            self._append(_row(call))

    def _append(self, row: dict[str, Any]) -> None:
        line = json.dumps(row).encode() + b"\n"
        written = os.write(self._fd, line)
        if written != len(line):  # the disk is full
            os.write(self._fd, b"\n")
            raise OSError(f"only {written} of {len(line)} bytes could be written")


def read_calls(path: Path) -> tuple[Call, ...]:
    """All calls on record, oldest first; none when there is no record. Torn lines are passed over."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    found: dict[int | str, Call] = {}
    for n, line in enumerate(lines):
        try:
            row = json.loads(line)
            key: int | str = row.pop("begun", None) or row.get("ended") or f"line {n}"
            begun = "ended" not in row
            row.pop("ended", None)
            call = _call(row)
        except (ValueError, TypeError, AttributeError):
            continue
        found[key] = _unfinished(call) if begun and isinstance(key, int) else call
    return tuple(found.values())


def total(calls: Iterable[Call]) -> Spent:
    """What they come to, and how they ended."""
    calls = tuple(calls)
    sent = [call for call in calls if not call.refused]
    generating = [call for call in sent if call.model]
    last = {call.model: call for call in generating}
    limited = [call for call in last.values() if call.limited]
    return Spent(
        usd=sum(call.usd or 0.0 for call in sent),
        tokens=sum(call.input + call.output for call in sent),
        calls=len(sent),
        refused=next((call.error for call in reversed(calls) if call.refused), ""),
        limited=bool(limited),
        limit=limited[-1].error if limited else "",
        resume_at=max((call.resume_at for call in limited if call.resume_at is not None), default=None),
    )


def _unfinished(most: Call) -> Call:
    return Call(**{**asdict(most), "estimated": True, "error": UNFINISHED})


def _row(call: Call) -> dict[str, Any]:
    row = asdict(call)
    row["at"] = call.at.isoformat()
    row["resume_at"] = call.resume_at.isoformat() if call.resume_at else None
    row["seconds"] = round(call.seconds, 3)
    return row


def _call(row: dict[str, Any]) -> Call:
    resume = row.get("resume_at")
    return Call(
        **{
            **row,
            "at": datetime.fromisoformat(row["at"]),
            "resume_at": datetime.fromisoformat(resume) if resume else None,
        }
    )
