"""Anthropic's Messages API: requests, streamed answers, errors."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from ralph.adapters.agents.llm.conversation import (
    Conversation,
    Reply,
    Results,
    Side,
    Stop,
    ToolCall,
    ToolSpec,
    Usage,
    arguments_of,
    mended,
)
from ralph.adapters.agents.llm.waiting import CallError, RejectedError, WeatherError, error_of

if TYPE_CHECKING:
    import httpx2

Block = dict[str, Any]
CACHED = {"cache_control": {"type": "ephemeral"}}  # at most four in a request
_TOO_MANY = re.compile(r"max_tokens: \d+ > (\d+)")
_STOPS = {
    "max_tokens": Stop.LENGTH,
    "refusal": Stop.REFUSAL,
    "model_context_window_exceeded": Stop.CONTEXT,
}


class AnthropicSide(Side):
    """Speaks to `address` with the SDK, which retries nothing. No `temperature`: newer models take none."""

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
        import anthropic

        self._client = anthropic.Anthropic(
            base_url=address,
            api_key=key,
            max_retries=0,
            timeout=anthropic.Timeout(silence_s, connect=10.0),
            http_client=http,
        )
        self._model = model
        self._tools = [{"name": t.name, "description": t.description, "input_schema": t.schema} for t in tools]
        self._most: int | None = None  # the model's own limit, once it was told

    def ask(self, conversation: Conversation, answer_tokens: int) -> Reply:
        """One call."""
        request = {
            "model": self._model,
            "max_tokens": min(answer_tokens, self._most or answer_tokens),
            "system": [{"type": "text", "text": conversation.system, **CACHED}],
            "tools": self._tools,
            "messages": messages(conversation),
        }
        try:
            return self._stream(request)
        except RejectedError as error:
            limit = _TOO_MANY.search(str(error))
            if limit is None or self._most is not None:
                raise
            self._most = int(limit[1])
            return self._stream(request | {"max_tokens": self._most})

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _stream(self, request: Mapping[str, Any]) -> Reply:
        import anthropic
        import httpx2

        try:
            with cast("Any", self._client.messages).create(**request, stream=True) as stream:
                return read_stream(event.to_dict(mode="json", warnings=False) for event in stream)
        except anthropic.APIStatusError as error:
            raise _error(error.status_code, error.body, str(error), error.response.headers) from None
        except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
            raise WeatherError(f"no whole answer: {type(error).__name__}: {error.__cause__ or error}") from None
        except anthropic.AnthropicError as error:
            raise RejectedError(f"{type(error).__name__}: {error}") from None


def messages(conversation: Conversation) -> list[Block]:
    """The turns; the lasting parts of the brief and the latest turn end with a mark for the cache."""
    first = [{"type": "text", "text": part, **CACHED} for part in conversation.stable]
    first.append({"type": "text", "text": conversation.news})
    told: list[Block] = [{"role": "user", "content": first}]
    for turn in conversation.turns:
        match turn:
            case Reply():
                told.append({"role": "assistant", "content": [dict(block) for block in turn.raw]})
            case Results():
                told.append({"role": "user", "content": _results(turn)})
    told[-1]["content"][-1] |= CACHED
    return told


def read_stream(events: Iterable[Block]) -> Reply:
    """The whole answer.

    Raises:
        WeatherError: when the stream ends before `message_stop`.
    """
    blocks: dict[int, Block] = {}
    stop, usage, ended = "", dict[str, Any](), False
    for event in events:
        match event.get("type"):
            case "message_start":
                usage |= _numbers(event["message"].get("usage"))
            case "content_block_start":
                blocks[event["index"]] = event["content_block"] | {"_json": ""}
            case "content_block_delta":
                _grow(blocks[event["index"]], event["delta"])
            case "message_delta":
                stop = event["delta"].get("stop_reason") or ""
                usage |= _numbers(event.get("usage"))
            case "message_stop":
                ended = True
            case _:
                continue
    if not ended or not stop:
        raise WeatherError("no whole answer: the stream ended before message_stop")
    return _reply([blocks[n] for n in sorted(blocks)], stop, usage)


def _reply(blocks: list[Block], stop: str, usage: Mapping[str, int]) -> Reply:
    calls, raw = [], list[Block]()
    for block in blocks:
        written = mended(block.pop("_json"))
        block |= {key: mended(block[key]) for key in ("text", "thinking") if key in block}
        if block["type"] == "tool_use":
            calls.append(ToolCall(id=block["id"], name=block["name"], arguments=written))
            block |= {"input": arguments_of(written) or {}}
        if block["type"] != "text" or block["text"].strip():  # the API refuses empty text in a request
            raw.append(block)
    cached = usage.get("cache_read_input_tokens", 0)
    read = usage.get("input_tokens", 0) + usage.get("cache_creation_input_tokens", 0) + cached
    return Reply(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        calls=tuple(calls),
        stop=_STOPS.get(stop, Stop.END),
        usage=Usage(read=read, cached=cached, wrote=usage.get("output_tokens", 0)),
        raw=tuple(raw) or ({"type": "text", "text": "(no words)"},),
    )


def _grow(block: Block, delta: Mapping[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "input_json_delta":
            block["_json"] += delta["partial_json"]
        case _:
            return


def _results(turn: Results) -> list[Block]:
    found: list[Block] = [
        {"type": "tool_result", "tool_use_id": r.call, "content": r.text, "is_error": r.error} for r in turn.results
    ]
    return found + ([{"type": "text", "text": turn.note}] if turn.note else [])


def _numbers(usage: object) -> dict[str, int]:
    return {k: v for k, v in usage.items() if isinstance(v, int)} if isinstance(usage, dict) else {}


def _error(status: int, body: object, words: str, headers: Mapping[str, str]) -> CallError:
    told = body.get("error") if isinstance(body, dict) else None
    told = told if isinstance(told, dict) else {}
    return error_of(status, str(told.get("type") or ""), str(told.get("message") or words), headers)
