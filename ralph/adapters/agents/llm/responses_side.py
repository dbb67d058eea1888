"""OpenAI's Responses API. Nothing is stored there: each call carries the whole conversation."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ralph.adapters.agents.llm.conversation import (
    Conversation,
    Reply,
    Results,
    Side,
    Stop,
    ToolCall,
    ToolSpec,
    Usage,
    mended,
    sound_arguments,
)
from ralph.adapters.agents.llm.openai_calls import Caller, Item, status_error
from ralph.adapters.agents.llm.waiting import WeatherError

if TYPE_CHECKING:
    import httpx2


class ResponsesSide(Side):
    """Speaks to `address`."""

    def __init__(
        self,
        *,
        address: str,
        key: str,
        model: str,
        tools: Iterable[ToolSpec],
        silence_s: float,
        http: "httpx2.Client",
    ) -> None:
        optional = {"include": r"encrypted|include\b", "max_output_tokens": "max_output_tokens"}
        self._caller = Caller(address=address, key=key, silence_s=silence_s, http=http, optional=optional)
        self._model = model
        self._tools = [
            {"type": "function", "name": t.name, "description": t.description, "parameters": t.schema, "strict": False}
            for t in tools
        ]

    def ask(self, conversation: Conversation, answer_tokens: int) -> Reply:
        """One call."""
        request = {
            "model": self._model,
            "instructions": conversation.system,
            "input": items(conversation),
            "tools": self._tools,
            "store": False,
            "include": ["reasoning.encrypted_content"],  # else thoughts could not be sent back, nothing being stored
            "max_output_tokens": answer_tokens,
        }
        create = self._caller.client.responses.create
        return self._caller.answer(
            create, lambda unknown: {k: v for k, v in request.items() if k not in unknown}, read_stream
        )

    def close(self) -> None:
        """Close its connections."""
        self._caller.client.close()


def items(conversation: Conversation) -> list[Item]:
    """The input: lasting parts first, then news and turns."""
    told: list[Item] = [_said("user", part) for part in (*conversation.stable, conversation.news)]
    for turn in conversation.turns:
        match turn:
            case Reply():
                told += [dict(item) for item in turn.raw]
            case Results():
                told += [{"type": "function_call_output", "call_id": r.call, "output": r.text} for r in turn.results]
                told += [_said("user", turn.note)] if turn.note else []
    return told


def read_stream(events: Iterable[Item]) -> Reply:
    """The whole answer.

    Raises:
        WeatherError: when the stream ends before `response.completed` or `response.incomplete`.
        CallError: when it brings an error.
    """
    done: dict[int, Item] = {}
    for event in events:
        match event.get("type"):
            case "response.output_item.done":
                done[event["output_index"]] = event["item"]
            case "response.completed" | "response.incomplete":
                response = event["response"]
                return _reply(response, response.get("output") or [done[n] for n in sorted(done)])
            case "response.failed":
                error = event["response"].get("error") or {}
                raise status_error(200, error, "the answer failed", {})
            case "error":
                raise status_error(200, event.get("error") or {**event, "type": ""}, "an error in the stream", {})
            case _:
                continue
    raise WeatherError("no whole answer: the stream ended before response.completed")


def _reply(response: Item, output: list[Item]) -> Reply:
    text, calls, raw, refused = "", list[ToolCall](), list[Item](), False
    for item in output:
        match item.get("type"):
            case "message":
                parts = item.get("content") or ()
                said = mended("".join(part.get("text") or part.get("refusal") or "" for part in parts))
                refused |= any(part.get("type") == "refusal" for part in parts)
                text += said
                phase = {"phase": item["phase"]} if item.get("phase") else {}
                raw.append(_said("assistant", said) | phase)
            case "function_call":
                call = ToolCall(id=item["call_id"], name=item["name"], arguments=mended(item.get("arguments") or ""))
                calls.append(call)
                arguments = sound_arguments(call.arguments)
                raw.append({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments})
            case "reasoning" if item.get("encrypted_content"):
                raw.append({key: item[key] for key in ("id", "type", "summary", "encrypted_content") if key in item})
            case _:
                continue
    return Reply(
        text=text, calls=tuple(calls), stop=_stop(response, refused), usage=_usage(response.get("usage")),
        raw=tuple(raw) or (_said("assistant", "(no words)"),),
    )  # fmt: skip


def _stop(response: Item, refused: bool) -> Stop:
    reason = (response.get("incomplete_details") or {}).get("reason")
    if refused or reason == "content_filter":
        return Stop.REFUSAL
    return Stop.LENGTH if response.get("status") == "incomplete" else Stop.END


def _usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    cached = (usage.get("input_tokens_details") or {}).get("cached_tokens") or 0
    return Usage(read=usage.get("input_tokens") or 0, cached=cached, wrote=usage.get("output_tokens") or 0)


def _said(role: str, text: str) -> Item:
    return {"role": role, "content": text}
