"""OpenAI's Responses API: the JSON of a reply, plain and as events."""

from typing import Any

from tests.provider.messages import Event, written
from tests.provider.replies import Fault, Reply, Request, pieces

Item = dict[str, Any]


def plain(request: Request, reply: Reply) -> dict[str, Any]:
    """The answer as one object."""
    return _response(request, reply, _status(reply), _items(request, reply))


def events(request: Request, reply: Reply) -> list[Event]:
    """The answer as a stream."""
    begun = _response(request, reply, "in_progress", [])
    found: list[Event] = [("response.created", {"response": begun}), ("response.in_progress", {"response": begun})]
    for index, item in enumerate(_items(request, reply)):
        where = {"output_index": index, "item_id": item["id"]}
        bare = item | {k: ([] if k in ("content", "summary") else "") for k in ("content", "arguments") if k in item}
        found.append(("response.output_item.added", {"output_index": index, "item": bare}))
        found += [(name, where | data) for name, data in _inside(item)]
        found.append(("response.output_item.done", {"output_index": index, "item": item}))
    if reply.fault is not Fault.NO_END:
        last = "response.incomplete" if reply.fault is Fault.MAX_TOKENS else "response.completed"
        found.append((last, {"response": plain(request, reply)}))
    return [(name, {"type": name, "sequence_number": n, **data}) for n, (name, data) in enumerate(found)]


def broken_event(request: Request, reply: Reply) -> Event:
    """The error that a stream with status 200 may bring."""
    if reply.fault is Fault.OVERLOADED:
        words = "Our servers are currently overloaded. Please try again later."
        body = {"code": "server_is_overloaded", "message": words, "param": None, "sequence_number": 3}
        return "error", {"type": "error", **body}
    failed = _response(request, reply, "failed", [])
    failed["error"] = {"code": "server_error", "message": "An error occurred while processing your request."}
    return "response.failed", {"type": "response.failed", "sequence_number": 3, "response": failed}


def error(reply: Reply) -> dict[str, Any]:
    """The body of an answer that is an error; the same for chat completions."""
    words, kind, code = reply.error or f"status {reply.status}", reply.error_type, reply.code or None
    if reply.fault is Fault.CONTEXT:
        words = "Your input exceeds the context window of this model. Please adjust your input and try again."
        kind, code = "invalid_request_error", "context_length_exceeded"
    if not kind:
        kind = {429: "rate_limit_exceeded"}.get(reply.status, "invalid_request_error")
        kind = kind if reply.status < 500 else "server_error"
    return {"error": {"message": words, "type": kind, "param": None, "code": code}}


def _inside(item: Item) -> list[Event]:
    match item["type"]:
        case "message":
            part = item["content"][0]
            kind, key = ("refusal", "refusal") if part["type"] == "refusal" else ("output_text", "text")
            place: dict[str, Any] = {"content_index": 0}
            more: dict[str, Any] = {} if kind == "refusal" else {"logprobs": []}
            return [
                ("response.content_part.added", place | {"part": part | {key: ""}}),
                *((f"response.{kind}.delta", place | more | {"delta": bit}) for bit in pieces(part[key])),
                (f"response.{kind}.done", place | more | {key: part[key]}),
                ("response.content_part.done", place | {"part": part}),
            ]
        case "function_call":
            told = item["arguments"]
            return [
                *(("response.function_call_arguments.delta", {"delta": bit}) for bit in pieces(told)),
                ("response.function_call_arguments.done", {"arguments": told, "name": item["name"]}),
            ]
        case _:
            return []


def _items(request: Request, reply: Reply) -> list[Item]:
    found: list[Item] = []
    if reply.reasoning:
        asked = "reasoning.encrypted_content" in (request.body.get("include") or ())
        summary = [{"type": "summary_text", "text": reply.reasoning}]
        sealed = f"sealed-{request.number}" if asked else None
        found.append(
            {"id": f"rs_{request.number}", "type": "reasoning", "summary": summary, "encrypted_content": sealed}
        )
    if reply.text:
        refused = reply.fault is Fault.REFUSAL
        part: Item = (
            {"type": "refusal", "refusal": reply.text} if refused else {"type": "output_text", "text": reply.text}
        )
        part |= {} if refused else {"annotations": [], "logprobs": []}
        found.append({"id": f"msg_{request.number}", "type": "message", "role": "assistant", "status": "completed",
                      "content": [part]})  # fmt: skip
    for n, call in enumerate(reply.tools):
        ids = {"id": f"fc_{request.number}_{n}", "call_id": f"call_{request.number}_{n}"}
        found.append(
            {**ids, "type": "function_call", "status": "completed", "name": call.name, "arguments": written(call)}
        )
    return found


def _status(reply: Reply) -> str:
    return "incomplete" if reply.fault is Fault.MAX_TOKENS else "completed"


def _response(request: Request, reply: Reply, status: str, output: list[Item]) -> dict[str, Any]:
    body = request.body
    over = status in ("completed", "incomplete")
    return {
        "id": f"resp_{request.number}", "object": "response", "created_at": 1_780_000_000, "status": status,
        "model": body.get("model", ""), "output": output, "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"), "metadata": {}, "parallel_tool_calls": True, "temperature": 1.0,
        "tool_choice": "auto", "tools": body.get("tools", []), "top_p": 1.0, "store": body.get("store", True),
        "usage": _usage(reply) if over else None,
    }  # fmt: skip


def _usage(reply: Reply) -> dict[str, Any] | None:
    if reply.usage is None:
        return None
    u = reply.usage
    return {
        "input_tokens": u.input,
        "input_tokens_details": {"cached_tokens": u.cached, "cache_write_tokens": u.written},
        "output_tokens": u.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": u.input + u.output,
    }
