"""Streams as real and as odd servers send them, read without a network."""

from typing import Any

import pytest

from ralph.adapters.agents.llm import anthropic_side, chat_side, responses_side
from ralph.adapters.agents.llm.conversation import Stop, Usage
from ralph.adapters.agents.llm.ending import Kind
from ralph.adapters.agents.llm.waiting import WeatherError


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def called(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


def test_calls_with_one_index_but_ids_of_their_own_are_told_apart() -> None:
    reply = chat_side.read_stream([
        chunk(tool_calls=[called("look", '{"path": "a"}', index=0, id="x")]),
        chunk(tool_calls=[called("look", '{"path": "b"}', index=0, id="y")]),
        chunk("stop"),
    ])  # fmt: skip
    assert [(call.id, call.arguments) for call in reply.calls] == [("x", '{"path": "a"}'), ("y", '{"path": "b"}')]
    assert reply.stop is Stop.END


def test_arguments_given_as_an_object_and_content_given_as_parts_are_read() -> None:
    reply = chat_side.read_stream([
        chunk(content=[{"type": "text", "text": "hm"}], unknown={"a": 1}),
        chunk("tool_calls", content=None, tool_calls=[called("look", {"path": "a"}, id=None)]),
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": None}},
    ])  # fmt: skip
    assert (reply.text, reply.calls[0].id, reply.calls[0].arguments) == ("hm", "call_0", '{"path": "a"}')
    assert reply.usage == Usage(read=9)


def test_characters_that_a_stream_cut_in_two_are_put_together() -> None:
    halves = [chunk(content="\ud83d"), chunk(content="\ude00"), chunk("stop", content="\ud83d")]
    reply = chat_side.read_stream(halves)
    assert reply.text == "\U0001f600\ufffd"
    assert reply.raw[0]["content"] == reply.text


def test_usage_that_was_not_sent_counts_as_nothing() -> None:
    assert chat_side.read_stream([chunk("stop", content="x")]).usage == Usage()
    done = {"type": "response.completed", "response": {"status": "completed", "output": [], "usage": None}}
    assert responses_side.read_stream([done]).usage == Usage()


def test_items_are_taken_from_the_stream_where_the_last_event_has_none() -> None:
    item = {"type": "function_call", "id": "f", "call_id": "c", "name": "look", "arguments": ""}
    reply = responses_side.read_stream([
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"status": "completed", "output": []}},
    ])  # fmt: skip
    assert [call.id for call in reply.calls] == ["c"]
    assert reply.raw == ({"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},)


def test_thoughts_that_were_not_sealed_are_not_sent_back() -> None:
    items = [
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "reasoning", "id": "s", "encrypted_content": "e"},
    ]
    done = {"type": "response.completed", "response": {"status": "completed", "output": items}}
    assert [item["id"] for item in responses_side.read_stream([done]).raw] == ["s"]


@pytest.mark.parametrize("read", [anthropic_side.read_stream, responses_side.read_stream, chat_side.read_stream])
def test_an_empty_stream_is_no_answer(read: Any) -> None:
    with pytest.raises(WeatherError, match="the stream ended before"):
        read([])


def test_a_message_that_stops_without_a_reason_is_no_answer() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 5}}}
    with pytest.raises(WeatherError):
        anthropic_side.read_stream([start, {"type": "message_stop"}])


def test_tokens_read_include_those_of_the_cache() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 1}
    stop = "model_context_window_exceeded"
    reply = anthropic_side.read_stream([
        {"type": "message_start", "message": {"usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hm"}},
        {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ])  # fmt: skip
    assert reply.usage == Usage(read=125, cached=100, wrote=7)
    assert reply.stop is Stop.CONTEXT


def test_every_ending_has_an_exit_status_of_its_own() -> None:
    assert len({kind.status for kind in Kind}) == len(Kind)
    assert [kind for kind in Kind if kind.status == 0] == [Kind.SUBMITTED]
    assert 1 not in {kind.status for kind in Kind}  # an uncaught exception's
