"""Reads what an answer costs out of the bytes that pass through to the agent. It changes and delays none of them.

Covered: usage and errors in JSON bodies and in event streams of Messages, Responses, Chat and Gemini, however the
network cuts them into pieces. An answer that ends before its usage is charged by an estimate that errs on the high
side. Not covered: an estimate knows nothing of thoughts that the provider keeps to itself, other than the time.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, assert_never

from ralph.adapters.gateway.asked import Api, Asked
from ralph.adapters.gateway.usage import Usage, of_chat, of_gemini, of_messages, of_responses

LONGEST = 64 * 2**20  # bytes of a body or an event that are kept to be read
BYTES_PER_TOKEN = 3  # English and code have four
TOKENS_PER_S = 100  # few models write faster
TEXTS = ("text", "thinking", "partial_json", "content", "reasoning_content", "refusal", "arguments", "delta")


class Meter:
    """The meter of one answer. Feed it from one thread; `usage` may be asked from another."""

    def __init__(self, asked: Asked) -> None:
        self.error: Mapping[str, Any] | None = None
        self._asked = asked
        self._streamed = False
        self._rest = bytearray()  # the line, or the body, that is not whole yet
        self._overflow = False
        self._data: list[bytes] = []
        self._raw: dict[str, Any] = {}  # usage as said so far
        self._told_all = False
        self._pieces = self._text = 0

    def begin(self, content_type: str) -> None:
        """The answer's headers are there."""
        self._streamed = content_type.lower().startswith("text/event-stream")

    def feed(self, data: bytes) -> None:
        """More of the answer has passed."""
        self._rest += data
        if self._streamed:
            *lines, rest = self._rest.split(b"\n")
            self._rest = rest
            for line in lines:
                self._line(bytes(line.rstrip(b"\r")))
        if len(self._rest) > LONGEST:
            self._overflow = True
            self._rest.clear()

    def end(self) -> None:
        """The answer is over."""
        if self._streamed:
            self._line(bytes(self._rest.rstrip(b"\r")))
            self._line(b"")
        elif not self._overflow:
            self._read(bytes(self._rest))
        self._rest.clear()

    @property
    def complete(self) -> bool:
        """Whether the answer has said what all of it costs."""
        return self._told_all and self._said() is not None

    def usage(self, seconds: float) -> tuple[Usage, bool]:
        """Tokens so far, and whether that is an estimate. `seconds` since the request was sent."""
        said = self._said()
        if said is not None and self.complete:
            return said, False
        most = self._asked.most
        written = max(self._pieces, math.ceil(self._text / BYTES_PER_TOKEN), math.ceil(seconds * TOKENS_PER_S))
        written = min(most.output, max(written, said.output if said else 0))
        if said is None:
            return Usage(
                input=min(most.input, math.ceil(len(self._asked.body) / BYTES_PER_TOKEN)), output=written
            ), True
        return Usage(
            input=said.input,
            output=written,
            cached=said.cached,
            written=said.written,
            written_1h=said.written_1h,
        ), True

    def _said(self) -> Usage | None:
        match self._asked.api:
            case Api.MESSAGES:
                return of_messages(self._raw)
            case Api.RESPONSES:
                return of_responses(self._raw)
            case Api.CHAT:
                return of_chat(self._raw)
            case Api.GEMINI:
                return of_gemini(self._raw)
            case Api.COUNT | Api.MODELS:
                return None
            case _:
                assert_never(self._asked.api)

    def _line(self, line: bytes) -> None:
        """One line of an event stream: its `data` lines are held until the empty line that ends the event."""
        if line.startswith(b"data:"):
            self._data.append(line[5:])
        elif not line and self._data:
            self._read(b"\n".join(self._data))
            self._data.clear()

    def _read(self, data: bytes) -> None:
        try:
            raw = json.loads(data)
        except (ValueError, RecursionError):
            return  # [DONE], a cut body, or no JSON at all
        for each in raw if isinstance(raw, list) else [raw]:  # Gemini streams one array unless asked for events
            if isinstance(each, dict):
                self._event(each)

    def _event(self, event: dict[str, Any]) -> None:
        """One event of a stream, or the whole of a plain answer."""
        kind = event.get("type")
        inner = event.get("message" if kind == "message_start" else "response")
        answer = inner if isinstance(inner, dict) else event
        error = answer.get("error") or (event if kind == "error" else None)  # Responses: the event is the error
        if isinstance(error, str):
            error = {"message": error}
        if isinstance(error, dict):
            self.error = error if error is not event else {**error, "type": error.get("code") or "error"}
        usage = answer.get("usage", answer.get("usageMetadata"))
        if isinstance(usage, dict):
            self._raw |= {key: value for key, value in usage.items() if value is not None}
            self._told_all = self._final(kind, answer)
        self._count(event)

    def _final(self, kind: object, answer: Mapping[str, Any]) -> bool:
        """Whether the usage in this event counts the whole answer."""
        if self._asked.api is Api.MESSAGES:
            return kind in ("message_delta", "message")
        if not self._streamed:
            return True
        if self._asked.api is Api.RESPONSES:
            return kind in ("response.completed", "response.incomplete", "response.failed")
        parts = answer.get("choices" if self._asked.api is Api.CHAT else "candidates") or [
            {"finish_reason": "none left"}
        ]
        return any(each.get("finish_reason") or each.get("finishReason") for each in parts if isinstance(each, dict))

    def _count(self, event: dict[str, Any]) -> None:
        """Text in an event of a stream, for the estimate."""
        before = self._text
        self._text += _text_in(event, 0)
        self._pieces += self._text > before


def _text_in(value: object, depth: int) -> int:
    """Bytes, about, of the text that an event adds to the answer."""
    if depth > 8:
        return 0
    if isinstance(value, list):
        return sum(_text_in(each, depth + 1) for each in value)
    if not isinstance(value, dict):
        return 0
    return sum(
        len(each) if isinstance(each, str) and key in TEXTS else _text_in(each, depth + 1)
        for key, each in value.items()
    )
