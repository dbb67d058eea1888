"""The provider is understood by the real SDKs; its faults show as those of real providers do."""

import http.client
import json
from typing import Any

import pytest

from tests.provider import Fault, Provider, Reply, Request, ToolCall, Usage, limited

CALL = ToolCall("look", {"path": "train.py"})
FULL = Reply(text="I look at the file first, as one should.", tools=(CALL,), usage=Usage(1000, 50, 300), reasoning="hm")


def test_the_anthropic_sdk_reads_its_streams_and_its_plain_answers() -> None:
    import anthropic

    with Provider([FULL]) as provider, anthropic.Anthropic(base_url=provider.url, api_key="k") as client:
        told: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        with client.messages.stream(**told) as stream:
            streamed = stream.get_final_message()
        plain = client.messages.create(**told)
    for message in (streamed, plain):
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
        assert message.content[2].input == CALL.arguments  # type: ignore[union-attr]
        assert (message.stop_reason, message.usage.output_tokens) == ("tool_use", 50)
        assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (700, 300)
    assert [request.streamed for request in provider.requests] == [True, False]


def test_the_openai_sdk_reads_its_responses() -> None:
    import openai

    with Provider([FULL]) as provider, openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k") as client:
        with client.responses.stream(model="m", input="hi") as stream:
            kinds = [event.type for event in stream]
            streamed = stream.get_final_response()
        plain = client.responses.create(model="m", input="hi")
    assert kinds[-1] == "response.completed"
    for response in (streamed, plain):
        assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
        assert response.output_text == FULL.text
        assert response.usage is not None
        assert response.usage.input_tokens_details.cached_tokens == 300


@pytest.mark.parametrize("lax", [False, True])
def test_the_openai_sdk_reads_its_chat(lax: bool) -> None:
    import openai

    reply = Reply(text="look", tools=(CALL, CALL), lax=lax)
    with Provider([reply]) as provider, openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k") as client:
        told: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        plain = client.chat.completions.create(**told)
        chunks = list(client.chat.completions.create(**told, stream=True, stream_options={"include_usage": True}))
    calls = plain.choices[0].message.tool_calls
    assert calls is not None
    assert [json.loads(c.function.arguments) for c in calls if c.type == "function"] == [CALL.arguments] * 2
    assert any(chunk.usage for chunk in chunks) is not lax
    parts = [part for c in chunks if c.choices for part in c.choices[0].delta.tool_calls or ()]
    text = "".join(p.function.arguments or "" for p in parts if p.index == 1 and p.function)
    assert json.loads(text) == CALL.arguments


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/chat/completions"])
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.NO_END, Fault.OVERLOADED, Fault.FAILED])
def test_faults_in_streams_come_with_status_200(path: str, fault: Fault) -> None:
    with Provider([Reply(text="some words " * 10, fault=fault)]) as provider:
        status, text, whole = post(provider, path, {"stream": True, "model": "m"})
    assert status == 200
    assert whole is (fault is not Fault.CUT)
    assert not any(last in text for last in ("message_stop", "response.completed", "[DONE]"))
    assert ("error" in text.rpartition("data:")[2]) is (fault in (Fault.OVERLOADED, Fault.FAILED))


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/chat/completions"])
def test_errors_carry_status_headers_and_words(path: str) -> None:
    script = [limited(7), limited(status=529), Reply(status=500, error="oops"), Reply(fault=Fault.CONTEXT)]
    with Provider(script) as provider:
        answers = [post(provider, path, {"model": "m"}) for _ in script]
        assert [status for status, _, _ in answers] == [429, 529, 500, 400]
        assert [json.loads(text)["error"]["message"] for _, text, _ in answers][2] == "oops"


def test_a_script_may_be_a_function_and_its_mistakes_are_told() -> None:
    def script(request: Request) -> Reply:
        return Reply(text=request.body["say"])

    with Provider(script) as provider:
        assert "once" in post(provider, "/v1/messages", {"say": "once"})[1]
        assert post(provider, "/v1/messages", {})[0] == 500
        assert provider.failures
        provider.failures.clear()


def test_a_hanging_provider_ends_with_its_block() -> None:
    with Provider([Reply(fault=Fault.HANG)]) as provider:
        host, port = provider.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=0.2)
        connection.request("POST", "/v1/messages", b"{}")
        with pytest.raises(TimeoutError):
            connection.getresponse()
    connection.close()


def post(provider: Provider, path: str, body: dict[str, Any]) -> tuple[int, str, bool]:
    """Status, text, and whether the answer was whole."""
    host, port = provider.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("POST", path, json.dumps(body).encode(), {"content-type": "application/json"})
        answer = connection.getresponse()
        try:
            return answer.status, answer.read().decode(), True
        except http.client.IncompleteRead as error:
            return answer.status, error.partial.decode(), False
    finally:
        connection.close()
