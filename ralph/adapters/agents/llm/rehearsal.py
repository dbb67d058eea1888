"""A standby's rehearsal: one whole call, answered from here.

The SDKs import and build much of what they need at the first call: submodules, the forms of requests and answers, what
they tell of the machine. That takes up to a second, which a standby can spend before its order is there. Nothing leaves
this process, and nothing of the rehearsal is kept: the call has no brief, model or key, and its client is closed.
"""

import json
from typing import Any

import httpx2

from ralph.adapters.agents.llm.conversation import Conversation
from ralph.adapters.agents.llm.settings import Settings
from ralph.adapters.agents.llm.sides import open_side

Event = dict[str, Any]
PATIENCE_S = 60.0
_CALL = {"id": "call", "call_id": "call", "type": "function_call", "name": "look", "arguments": "{}"}
_RESPONSE = {
    "id": "response", "object": "response", "created_at": 0, "model": "none", "parallel_tool_calls": True,
    "tool_choice": "auto", "tools": [],
}  # fmt: skip
# What each address streams: words, a call of a tool, the end.
ANSWERS: dict[str, tuple[Event, ...]] = {
    "/v1/messages": (
        {"type": "message_start", "message": {"id": "message", "type": "message", "role": "assistant", "content": [],
         "model": "none", "stop_reason": None, "stop_sequence": None,
         "usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "words"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1,
         "content_block": {"type": "tool_use", "id": "call", "name": "look", "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
         "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ),
    "/v1/chat/completions": tuple(
        {"id": "chat", "object": "chat.completion.chunk", "created": 0, "model": "none", "choices": [choice],
         "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
        for choice in (
            {"index": 0, "delta": {"role": "assistant", "content": "words"}, "finish_reason": None},
            {"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "call", "type": "function",
             "function": {"name": "look", "arguments": "{}"}}]}, "finish_reason": "tool_calls"},
        )
    ),
    "/v1/responses": (
        {"type": "response.created", "sequence_number": 0, "response": _RESPONSE | {"status": "in_progress",
         "output": []}},
        {"type": "response.output_text.delta", "sequence_number": 1, "output_index": 0, "content_index": 0,
         "item_id": "call", "delta": "words", "logprobs": []},
        {"type": "response.output_item.added", "sequence_number": 2, "output_index": 0, "item": _CALL},
        {"type": "response.function_call_arguments.delta", "sequence_number": 3, "output_index": 0, "item_id": "call",
         "delta": "{}"},
        {"type": "response.output_item.done", "sequence_number": 4, "output_index": 0, "item": _CALL},
        {"type": "response.completed", "sequence_number": 5, "response": _RESPONSE | {"status": "completed",
         "output": [_CALL], "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}}},
    ),
}  # fmt: skip


class Within(httpx2.BaseTransport):
    """Answers in this process."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """A stream of the events of its address."""
        lines = (
            f"event: {event.get('type', '')}\ndata: {json.dumps(event)}\n\n" for event in ANSWERS[request.url.path]
        )
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text="".join(lines))


def rehearse(kind: str, api: str) -> None:
    """Ask once, by the way that this kind of agent takes in its work. Raises whatever an SDK does that knows better."""
    settings = Settings(kind=kind, model="none", api=api, address="http://127.0.0.1", key="none", timeout_s=PATIENCE_S)
    side = open_side(settings, PATIENCE_S, Within())
    conversation = Conversation(system="words", stable=("words",), news="words")
    try:
        reply = side.ask(conversation, 1)
    finally:
        side.close()
    if [call.name for call in reply.calls] != ["look"]:
        raise RuntimeError(f"the rehearsal's answer was read as {reply}")
