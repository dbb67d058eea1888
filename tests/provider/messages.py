"""Anthropic's Messages API: the JSON of a reply, plain and as events."""

import json
from typing import Any

from tests.provider.replies import ERROR_TYPES, Fault, Reply, Request, ToolCall, pieces

Event = tuple[str, dict[str, Any]]


def plain(request: Request, reply: Reply) -> dict[str, Any]:
    """The answer as one object."""
    content = [block | ({"input": _arguments(value)} if kind == "tool_use" else {kind: value})
               for kind, block, value in _blocks(request, reply)]  # fmt: skip
    return _message(request, reply) | {
        "content": content,
        "stop_reason": _stop(reply),
        "usage": _usage(reply) | ({"output_tokens": reply.usage.output} if reply.usage else {}),
    }


def events(request: Request, reply: Reply) -> list[Event]:
    """The answer as a stream."""
    found: list[Event] = [("message_start", {"message": _message(request, reply)}), ("ping", {})]
    for index, (kind, block, value) in enumerate(_blocks(request, reply)):
        empty: dict[str, Any] = {"input": {}} if kind == "tool_use" else {kind: ""}
        found.append(("content_block_start", {"index": index, "content_block": block | empty}))
        found += [("content_block_delta", {"index": index, "delta": _delta(kind, part)}) for part in pieces(value)]
        if kind == "thinking":
            signed = {"type": "signature_delta", "signature": block["signature"]}
            found.append(("content_block_delta", {"index": index, "delta": signed}))
        found.append(("content_block_stop", {"index": index}))
    if reply.fault is not Fault.NO_END:
        usage = {"output_tokens": reply.usage.output} if reply.usage else {}
        stopped = {"stop_reason": _stop(reply), "stop_sequence": None}
        found.append(("message_delta", {"delta": stopped, "usage": usage}))
        found.append(("message_stop", {}))
    return [(name, {"type": name, **data}) for name, data in found]


def broken_event(reply: Reply) -> Event:
    """The error that a stream with status 200 may bring."""
    overloaded = reply.fault is Fault.OVERLOADED
    kind, words = ("overloaded_error", "Overloaded") if overloaded else ("api_error", "Internal server error")
    return "error", {"type": "error", "error": {"type": kind, "message": words}}


def error(request: Request, reply: Reply) -> dict[str, Any]:
    """The body of an answer that is an error."""
    words = reply.error or f"status {reply.status}"
    if reply.fault is Fault.CONTEXT:
        words = "prompt is too long: 208310 tokens > 200000 maximum"
    kind = reply.error_type or ERROR_TYPES.get(reply.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": words}, "request_id": f"req_{request.number}"}


def _message(request: Request, reply: Reply) -> dict[str, Any]:
    return {
        "id": f"msg_{request.number}", "type": "message", "role": "assistant", "content": [],
        "model": request.body.get("model", ""), "stop_reason": None, "stop_sequence": None, "usage": _usage(reply),
    }  # fmt: skip


def _blocks(request: Request, reply: Reply) -> list[tuple[str, dict[str, Any], str]]:
    """Kind, block without its value, and the value as text."""
    found: list[tuple[str, dict[str, Any], str]] = []
    if reply.reasoning:
        found.append(("thinking", {"type": "thinking", "signature": f"sig{request.number}"}, reply.reasoning))
    if reply.text:
        found.append(("text", {"type": "text"}, reply.text))
    for n, call in enumerate(reply.tools):
        block = {"type": "tool_use", "id": f"toolu_{request.number}_{n}", "name": call.name}
        found.append(("tool_use", block, written(call)))
    return found


def written(call: ToolCall) -> str:
    """The arguments as text."""
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"malformed": text}


def _delta(kind: str, part: str) -> dict[str, str]:
    match kind:
        case "tool_use":
            return {"type": "input_json_delta", "partial_json": part}
        case _:
            return {"type": f"{kind}_delta", kind: part}


def _stop(reply: Reply) -> str:
    match reply.fault:
        case Fault.REFUSAL:
            return "refusal"
        case Fault.MAX_TOKENS:
            return "max_tokens"
        case _:
            return "tool_use" if reply.tools else "end_turn"


def _usage(reply: Reply) -> dict[str, int]:
    if reply.usage is None:
        return {}
    u = reply.usage
    return {
        "input_tokens": u.input - u.cached - u.written,
        "cache_read_input_tokens": u.cached,
        "cache_creation_input_tokens": u.written,
        "output_tokens": 1,
    }
