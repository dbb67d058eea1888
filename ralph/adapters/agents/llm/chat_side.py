"""Chat completions: OpenAI's own, and those of vLLM, Ollama, llama.cpp and other compatible servers.

Such servers leave out usage and ids of tool calls, send null content, arguments as objects, or fields nobody knows;
some templates fail on two messages of one role in a row, or on arguments in the history that are no JSON.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
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
    joined,
    mended,
    sound_arguments,
)
from ralph.adapters.agents.llm.openai_calls import Caller, Item
from ralph.adapters.agents.llm.waiting import WeatherError

if TYPE_CHECKING:
    import httpx2

_STOPS = {"length": Stop.LENGTH, "content_filter": Stop.REFUSAL}


class ChatSide(Side):
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
        optional = {name: rf"\b{name}\b" for name in ("stream_options", "max_completion_tokens", "max_tokens")}
        self._caller = Caller(address=address, key=key, silence_s=silence_s, http=http, optional=optional)
        self._model = model
        self._tools = [
            {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
            for t in tools
        ]

    def ask(self, conversation: Conversation, answer_tokens: int) -> Reply:
        """One call."""

        def request(unknown: frozenset[str]) -> Item:
            length = "max_tokens" if "max_completion_tokens" in unknown else "max_completion_tokens"
            optional = {"stream_options": {"include_usage": True}, length: answer_tokens}
            return {
                "model": self._model,
                "messages": messages(conversation),
                "tools": self._tools,
                **{k: v for k, v in optional.items() if k not in unknown},
            }

        return self._caller.answer(self._caller.client.chat.completions.create, request, read_stream)

    def close(self) -> None:
        """Close its connections."""
        self._caller.client.close()


def messages(conversation: Conversation) -> list[Item]:
    """The whole conversation; roles take turns."""
    told: list[Item] = [
        {"role": "system", "content": conversation.system},
        {"role": "user", "content": joined((*conversation.stable, conversation.news))},
    ]
    for turn in conversation.turns:
        match turn:
            case Reply():
                told += [dict(item) for item in turn.raw]
            case Results(results=()):
                told.append({"role": "user", "content": turn.note})
            case Results():
                told += [{"role": "tool", "tool_call_id": r.call, "content": r.text} for r in turn.results]
                if turn.note:
                    told[-1]["content"] += f"\n\n{turn.note}"
    return told


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class _Answer:
    """What came so far."""

    text: str = ""
    refusal: str = ""
    finish: str = ""
    usage: Usage = field(default_factory=Usage)
    calls: list[_Call] = field(default_factory=list)
    places: dict[Any, int] = field(default_factory=dict)

    def add(self, delta: Item) -> None:
        content = delta.get("content")
        self.text += content if isinstance(content, str) else _text_of(content)
        self.refusal += delta.get("refusal") or ""
        for part in delta.get("tool_calls") or ():
            self._add_call(part)

    def _add_call(self, part: Item) -> None:
        """Parts of one call share an index. Some servers give none, or the same one to every call with its own id."""
        place, given = part.get("index"), part.get("id") or ""
        at = self.places.get(place)
        if at is None or (given and self.calls[at].id and given != self.calls[at].id):
            at = len(self.calls)
            self.calls.append(_Call())
            self.places[place] = at
        call, told = self.calls[at], part.get("function") or {}
        call.id = call.id or given
        call.name = call.name or told.get("name") or ""
        arguments = told.get("arguments")
        call.arguments += (
            arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)
        )


def read_stream(chunks: Iterable[Item]) -> Reply:
    """The whole answer.

    Raises:
        WeatherError: when the stream ends before a `finish_reason`.
    """
    answer = _Answer()
    for chunk in chunks:
        if usage := chunk.get("usage"):
            answer.usage = _usage(usage)
        for choice in chunk.get("choices") or ():
            answer.add(choice.get("delta") or {})
            answer.finish = choice.get("finish_reason") or answer.finish
    if not answer.finish:
        raise WeatherError("no whole answer: the stream ended before a finish_reason")
    return _reply(answer)


def _reply(answer: _Answer) -> Reply:
    answer.text = mended(answer.text)
    calls = tuple(
        ToolCall(id=call.id or f"call_{n}", name=call.name, arguments=mended(call.arguments))
        for n, call in enumerate(answer.calls)
    )
    message: Item = {"role": "assistant", "content": answer.text or (None if calls else "(no words)")}
    if calls:
        message["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": sound_arguments(c.arguments)}}
            for c in calls
        ]
    return Reply(
        text=answer.text or answer.refusal,
        calls=calls,
        stop=Stop.REFUSAL if answer.refusal else _STOPS.get(answer.finish, Stop.END),
        usage=answer.usage,
        raw=(message,),
    )


def _text_of(content: object) -> str:
    """Some servers send content as parts."""
    parts = content if isinstance(content, list) else ()
    return "".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _usage(usage: Item) -> Usage:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Usage(read=usage.get("prompt_tokens") or 0, cached=cached, wrote=usage.get("completion_tokens") or 0)
