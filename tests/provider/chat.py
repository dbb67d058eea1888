"""OpenAI's Chat Completions, as OpenAI speaks them and as small compatible servers do (`Reply.lax`)."""

from typing import Any

from tests.provider.messages import Event, written
from tests.provider.replies import Fault, Reply, Request, pieces

DONE = "[DONE]"


def plain(request: Request, reply: Reply) -> dict[str, Any]:
    """The answer as one object."""
    message: dict[str, Any] = {"role": "assistant", "content": _text(reply), "refusal": _refusal(reply)}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tools:
        message["tool_calls"] = [_call(request, reply, n) for n in range(len(reply.tools))]
    choice = {"index": 0, "message": message, "finish_reason": _finish(reply), "logprobs": None}
    body = _head(request, reply, "chat.completion") | {"choices": [choice]}
    return body | ({} if reply.lax or reply.usage is None else {"usage": _usage(reply)})


def events(request: Request, reply: Reply) -> list[Event]:
    """The answer as a stream; these events have no names. The last one stands for `[DONE]`."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if reply.lax else ""}]
    deltas += [{"reasoning_content": bit} for bit in pieces(reply.reasoning) if bit]
    key = "refusal" if reply.fault is Fault.REFUSAL else "content"
    deltas += [{key: bit} for bit in pieces(reply.text) if bit]
    for n in range(len(reply.tools)):
        deltas += _call_deltas(request, reply, n)
    head = _head(request, reply, "chat.completion.chunk")
    found = [_chunk(head, delta, None) for delta in deltas]
    if reply.fault is Fault.NO_END:
        return found
    found.append(_chunk(head, {}, _finish(reply)))
    asked = (request.body.get("stream_options") or {}).get("include_usage")
    if asked and reply.usage is not None and not reply.lax:
        found.append(("", head | {"choices": [], "usage": _usage(reply)}))
    return [*found, ("", {DONE: True})]


def broken_event(reply: Reply) -> Event:
    """The error that a stream with status 200 may bring."""
    words = "The server is overloaded" if reply.fault is Fault.OVERLOADED else "The server had an error"
    return "", {"error": {"message": words, "type": "server_error", "param": None, "code": None}}


def _chunk(head: dict[str, Any], delta: dict[str, Any], finish: str | None) -> Event:
    return "", head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]}


def _head(request: Request, reply: Reply, kind: str) -> dict[str, Any]:
    head = {"id": f"chatcmpl-{request.number}", "object": kind, "created": 1_780_000_000}
    head["model"] = request.body.get("model", "")
    return head | ({"timings": {"predicted_ms": 1.5}, "system_fingerprint": None} if reply.lax else {})


def _call(request: Request, reply: Reply, n: int) -> dict[str, Any]:
    call = reply.tools[n]
    made = {"type": "function", "function": {"name": call.name, "arguments": written(call)}}
    return made if reply.lax else {"id": f"call_{request.number}_{n}", **made}


def _call_deltas(request: Request, reply: Reply, n: int) -> list[dict[str, Any]]:
    whole = _call(request, reply, n)
    if reply.lax:
        return [{"content": None, "tool_calls": [{"index": n, **whole}]}]
    told = whole["function"]["arguments"]
    first = whole | {"index": n, "function": {"name": whole["function"]["name"], "arguments": ""}}
    rest = [{"index": n, "function": {"arguments": bit}} for bit in pieces(told)]
    return [{"tool_calls": [part]} for part in (first, *rest)]


def _text(reply: Reply) -> str | None:
    return None if reply.fault is Fault.REFUSAL else reply.text or None


def _refusal(reply: Reply) -> str | None:
    return reply.text if reply.fault is Fault.REFUSAL else None


def _finish(reply: Reply) -> str:
    if reply.fault is Fault.MAX_TOKENS:
        return "length"
    return "tool_calls" if reply.tools else "stop"


def _usage(reply: Reply) -> dict[str, Any]:
    u = reply.usage
    assert u is not None
    return {
        "prompt_tokens": u.input,
        "completion_tokens": u.output,
        "total_tokens": u.input + u.output,
        "prompt_tokens_details": {"cached_tokens": u.cached},
    }
