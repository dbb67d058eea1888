"""What the provider is asked and what it answers, the same for all three APIs."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Api(StrEnum):
    """Which API a request speaks."""

    MESSAGES = "messages"
    RESPONSES = "responses"
    CHAT = "chat"


class Fault(StrEnum):
    """What goes wrong with a reply. Faults of streams befall plain answers as far as they can."""

    CUT = "cut"  # the socket is closed in the middle of the answer
    NO_END = "no end"  # the stream ends properly, but without its last events
    OVERLOADED = "overloaded"  # status 200, then an error event inside the stream
    FAILED = "failed"  # status 200, then the API's own word for a failed answer
    HANG = "hang"  # accepted and never answered
    HANG_STREAM = "hang in stream"  # begun and never ended, the connection stays open
    REFUSAL = "refusal"
    MAX_TOKENS = "max tokens"  # the answer stops at its length limit
    CONTEXT = "context"  # 400: the prompt is too long, in the API's own words


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool. A text as `arguments` is sent as it is, valid JSON or not."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `input` is all that was read, of which `cached` came from a cache and `written` went into one."""

    input: int = 100
    output: int = 20
    cached: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer.

    Attributes:
        usage: None leaves it out, as some compatible servers do.
        error, error_type, code: what an answer with another status than 200 says; by default what the API says then.
        reasoning: what the model thought before it answered.
        lax: chat completions as small servers speak them: no ids of tool calls, no usage, unknown fields, null content.
        hold: the answer waits until this is set.
    """

    text: str = ""
    tools: Sequence[ToolCall] = ()
    usage: Usage | None = Usage()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    error_type: str = ""
    code: str = ""
    fault: Fault | None = None
    reasoning: str = ""
    lax: bool = False
    hold: threading.Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One recorded request. Names of headers are in lower case; `number` counts from 0."""

    number: int
    path: str
    query: str
    api: Api
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    raw: bytes

    @property
    def streamed(self) -> bool:
        """Whether it asks for a stream."""
        return bool(self.body.get("stream"))


Script = Callable[[Request], Reply] | Sequence[Reply]

ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def limited(retry_after: float | str | None = None, status: int = 429) -> Reply:
    """A usage limit (429) or an overload (529), with the seconds to wait if they are stated."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return Reply(status=status, headers=headers, error="the limit of this test is reached")


def pieces(text: str, size: int = 24) -> list[str]:
    """`text` as a stream brings it."""
    return [text[at : at + size] for at in range(0, len(text), size)] or [""]
