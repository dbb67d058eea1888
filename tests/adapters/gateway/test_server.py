"""A gateway between real clients and the tests' provider: what passes, what it costs, what is refused."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ralph.adapters.gateway.orders import Provider as Kind
from tests.adapters.gateway.doors import BODY, BODY_MOST, MODEL, PATIENCE_S, REAL_KEY, Opened, gateway
from tests.adapters.keeping import until
from tests.provider import Fault, Provider, Reply, Request, ToolCall, Usage, limited

USAGE = Usage(input=1000, output=50, cached=600, written=100)
HAIKU_USD = (300 * 1.0 + 600 * 0.1 + 100 * 1.25 + 50 * 5.0) / 1e6
GPT_USD = (400 * 1.25 + 600 * 0.125 + 50 * 10.0) / 1e6  # gpt-5 has no price for writing to its cache


@pytest.fixture
def asked() -> list[Any]:
    return [{"role": "user", "content": "hello"}]


def recorded(opened: Opened, count: int) -> None:
    until(lambda: sum(not call.estimated for call in opened.calls) >= count, "the record")


def anthropic_client(opened: Opened) -> Any:
    import anthropic

    return anthropic.Anthropic(base_url=opened.url, api_key=opened.key, max_retries=0, timeout=PATIENCE_S)


def openai_client(opened: Opened) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{opened.url}/v1", api_key=opened.key, max_retries=0, timeout=PATIENCE_S)


def test_the_anthropic_sdk_goes_through_plain_and_streamed_and_the_numbers_agree(hostile: Path) -> None:
    reply = Reply(text="some words", tools=[ToolCall("look", {"path": "train.py"})], usage=USAGE)
    ask: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
    with Provider([reply]) as provider, gateway(hostile, provider.url, usd_left=1.0) as opened:
        with anthropic_client(opened) as client:
            plain = client.messages.create(**ask)
            with client.messages.stream(**ask) as stream:
                streamed = stream.get_final_message()
            assert client.messages.count_tokens(model=MODEL, messages=ask["messages"]).input_tokens == 100
            assert [model.id for model in client.models.list()] == ["test-model"]
        assert [block.type for block in plain.content] == [block.type for block in streamed.content]
        assert plain.usage.cache_read_input_tokens == 600
        recorded(opened, 4)
        assert [(call.api, call.input, call.cached, call.output) for call in opened.calls] == [
            ("messages", 1000, 600, 50),
            ("messages", 1000, 600, 50),
            ("count", 0, 0, 0),
            ("models", 0, 0, 0),
        ]
        assert opened.spent.usd == pytest.approx(2 * HAIKU_USD)
        assert (opened.spent.tokens, opened.spent.calls) == (2100, 4)
        assert all(request.headers["x-api-key"] == REAL_KEY for request in provider.requests)
        assert opened.key not in str([request.headers for request in provider.requests])


def test_the_openai_sdk_goes_through_with_responses_and_chat_and_the_numbers_agree(
    hostile: Path, asked: list[Any]
) -> None:
    with (
        Provider([Reply(text="some words", usage=USAGE)]) as provider,
        gateway(hostile, provider.url, kind=Kind.OPENAI, usd_left=1.0) as opened,
        openai_client(opened) as client,
    ):
        assert client.responses.create(model="gpt-5", input="hello").output_text == "some words"
        events = list(client.responses.create(model="gpt-5", input="hello", stream=True))
        assert events[-1].response.usage.total_tokens == 1050
        plain = client.chat.completions.create(model="gpt-5", messages=asked)
        assert plain.choices[0].message.content == "some words"
        chunks = list(client.chat.completions.create(model="gpt-5", messages=asked, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "some words"
        recorded(opened, 4)
        assert [(call.input, call.output, call.estimated) for call in opened.calls] == [(1000, 50, False)] * 4
        assert opened.spent.usd == pytest.approx(4 * GPT_USD)
        assert all(request.headers["authorization"] == f"Bearer {REAL_KEY}" for request in provider.requests)


@contextmanager
def answer_of(address: str, key: str) -> Iterator[http.client.HTTPResponse]:
    """The answer to a streamed call, still open."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=PATIENCE_S)
    connection.request("POST", "/v1/messages", json.dumps(STREAMED), {"x-api-key": key})
    yield connection.getresponse()
    connection.close()


STREAMED = {"model": MODEL, "max_tokens": 100, "stream": True, "messages": []}


def test_a_stream_passes_through_byte_for_byte(hostile: Path) -> None:
    script = [Reply(text="näturally 🙂 " * 50, reasoning="why " * 50, tools=[ToolCall("look", {"a": "ü"})])]
    with Provider(script) as provider, gateway(hostile, provider.url) as opened:
        with answer_of(opened.url, opened.key) as one, answer_of(provider.url, "any") as other:
            through, direct = one.read(), other.read()
        assert through.replace(b"msg_0", b"msg_1").replace(b"sig0", b"sig1").replace(b"toolu_0", b"toolu_1") == direct


def test_events_arrive_before_the_last_is_sent(hostile: Path) -> None:
    with (
        Provider([Reply(text="words " * 20, fault=Fault.HANG_STREAM)]) as provider,
        gateway(hostile, provider.url) as opened,
        answer_of(opened.url, opened.key) as answer,
    ):
        assert answer.readline() == b"event: message_start\n", "while the provider still holds the rest"


def test_a_cut_stream_is_cut_for_the_agent_too_and_charged(hostile: Path) -> None:
    with (
        Provider([Reply(text="words " * 20, fault=Fault.CUT, usage=USAGE)]) as provider,
        gateway(hostile, provider.url) as opened,
    ):
        with answer_of(opened.url, opened.key) as answer, pytest.raises(http.client.IncompleteRead):
            answer.read()
        (call,) = opened.calls
        assert (call.input, call.cached, call.estimated, call.limited) == (1000, 600, True, True)
        assert 0 < call.output <= 100


def test_an_overload_inside_a_stream_is_recognised(hostile: Path) -> None:
    with (
        Provider([Reply(text="words " * 20, fault=Fault.OVERLOADED)]) as provider,
        gateway(hostile, provider.url) as opened,
    ):
        with answer_of(opened.url, opened.key) as answer:
            assert b"overloaded_error" in answer.read()
        (call,) = opened.calls
        assert (call.status, call.limited, call.error) == (200, True, "overloaded_error")


def test_limits_pass_through_and_are_recorded(hostile: Path) -> None:
    import anthropic

    script = [limited(3600), limited(status=529), Reply(status=400, error="prompt is too long")]
    with Provider(script) as provider, gateway(hostile, provider.url, usd_left=1.0) as opened:
        with anthropic_client(opened) as client:
            ask: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "x"}]}
            with pytest.raises(anthropic.RateLimitError) as told:
                client.messages.create(**ask)
            assert "retry-after" not in told.value.response.headers, "or its clock would run out while it waits"
            assert 3590 <= float(told.value.response.headers["x-ralph-resume-in"]) <= 3600
            with pytest.raises(anthropic.APIStatusError, match="overloaded"):
                client.messages.create(**ask)
            assert opened.spent.limited
            with pytest.raises(anthropic.BadRequestError, match="too long"):
                client.messages.create(**ask)
        first, second, third = opened.calls
        assert first.resume_at is not None
        assert 3590 <= (first.resume_at - first.at).total_seconds() <= 3610
        assert (first.limited, first.status, second.limited, second.resume_at) == (True, 429, True, None)
        assert (third.limited, third.status, opened.spent.limited, opened.spent.usd) == (False, 400, False, 0.0)


def test_a_provider_that_is_not_there_is_an_outage(hostile: Path) -> None:
    with Provider([]) as provider:
        gone = provider.url
    with gateway(hostile, gone) as opened:
        status, answer = opened.ask()
        assert (status, answer["error"]["type"]) == (502, "ralph_upstream")
        assert REAL_KEY not in str(answer)
        (call,) = opened.calls
        assert (call.limited, call.usd, call.input, call.error) == (True, 0.0, 0, "connection")


def test_a_provider_that_says_nothing_is_an_outage_and_may_have_worked(hostile: Path) -> None:
    with Provider([Reply(fault=Fault.HANG)]) as provider, gateway(hostile, provider.url, agent_s=0.3) as opened:
        status, _ = opened.ask()
        (call,) = opened.calls
        assert (status, call.limited, call.error, call.estimated) == (504, True, "timeout", True)
        assert 30 <= call.output <= 100


BODY_USD = ((BODY_MOST - 100) * 1.0 + 100 * 5.0) / 1e6  # what a call with that body can cost at most


def test_a_cap_in_tokens_refuses_the_next_call_exactly(hostile: Path) -> None:
    most = BODY_MOST
    cost = USAGE.input + USAGE.output
    with Provider([Reply(usage=USAGE)]) as provider, gateway(hostile, provider.url, tokens_left=most + cost) as opened:
        assert [opened.ask()[0] for _ in range(3)] == [200, 200, 402]
        assert len(provider.requests) == 2
        assert [call.refused for call in opened.calls] == [False, False, True]
        assert "could pass the budget" in opened.spent.refused
    name = hostile / "other"
    name.mkdir()
    with Provider([Reply(usage=USAGE)]) as provider, gateway(name, provider.url, tokens_left=most + cost - 1) as opened:
        assert [opened.ask()[0] for _ in range(2)] == [200, 402]


def test_a_cap_in_dollars_refuses_the_next_call_exactly_in_words_that_sdks_pass_on(hostile: Path) -> None:
    import anthropic

    with (
        Provider([Reply(usage=USAGE)]) as provider,
        gateway(hostile, provider.url, usd_left=BODY_USD + HAIKU_USD * 1.5) as opened,
    ):
        assert [opened.ask()[0] for _ in range(2)] == [200, 200]
        with anthropic_client(opened) as client, pytest.raises(anthropic.APIStatusError, match="could pass") as told:
            client.messages.create(**BODY)
        body: Any = told.value.body
        assert (told.value.status_code, body["error"]["type"]) == (402, "ralph_budget")
        assert len(provider.requests) == 2


def test_calls_at_the_same_time_cannot_pass_the_cap_together(hostile: Path) -> None:
    hold, statuses = threading.Event(), list[int]()
    with (
        Provider([Reply(usage=Usage(input=10, output=5), hold=hold)]) as provider,
        gateway(hostile, provider.url, tokens_left=3 * BODY_MOST) as opened,
    ):
        threads = [threading.Thread(target=lambda: statuses.append(opened.ask()[0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(statuses) == 5, "the refusals")
        assert statuses == [402] * 5
        hold.set()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200] * 3 + [402] * 5
        assert len(provider.requests) == 3


def test_an_unknown_model_under_a_cap_in_dollars_is_refused_unless_it_has_a_price(hostile: Path) -> None:
    with Provider([Reply(usage=USAGE)]) as provider:
        with gateway(hostile, provider.url, usd_left=1.0) as opened:
            status, answer = opened.ask(model="my-own-70b")
            assert (status, "price of my-own-70b is not known" in answer["error"]["message"]) == (402, True)
        (named := hostile / "priced").mkdir()
        with gateway(named, provider.url, usd_left=1.0, price=(2.0, 3.0)) as opened:
            assert opened.ask(model="my-own-70b")[0] == 200
            assert opened.spent.usd == pytest.approx((300 * 2 + 600 * 0.2 + 100 * 2.5 + 50 * 3) / 1e6)
        (free := hostile / "free").mkdir()
        with gateway(free, provider.url) as opened:
            assert opened.ask(model="my-own-70b")[0] == 200
            assert (opened.calls[0].usd, opened.spent.tokens) == (None, 1050)


def test_a_wrong_key_is_refused_before_anything_else(hostile: Path) -> None:
    with Provider([Reply()]) as provider, gateway(hostile, provider.url) as opened:
        for headers in ({"x-api-key": "ralph-dummy-0"}, {"x-api-key": REAL_KEY}, {"x-api-key": ""}):
            assert opened.post("/v1/messages", BODY, headers)[0] == 401
        assert opened.post("/nowhere", {}, {"x-api-key": "wrong"})[0] == 401
        for right in ({"authorization": f"Bearer {opened.key}"}, {"x-goog-api-key": opened.key}):
            assert opened.post("/v1/messages", BODY, {"x-api-key": "", **right})[0] == 200
        assert len(provider.requests) == 2
        assert len(opened.calls) == 2


def test_nothing_but_the_list_is_let_through(hostile: Path) -> None:
    with Provider([Reply()]) as provider, gateway(hostile, provider.url) as opened:
        for path in ("/v1/files", "/v1/messages/batches", "/", "/v1/../v1/files"):
            status, answer = opened.post(path, BODY)
            assert (status, answer["error"]["type"]) == (404, "not_found_error")
        for method in ("DELETE", "PUT", "OPTIONS"):
            connection = http.client.HTTPConnection(opened.url.removeprefix("http://"), timeout=PATIENCE_S)
            connection.request(method, "/v1/messages", headers={"x-api-key": opened.key})
            assert connection.getresponse().status == 404
            connection.close()
        assert (provider.requests, provider.others, opened.calls) == ([], [], ())


def test_what_cannot_be_forwarded_is_answered_with_a_reason(hostile: Path) -> None:
    with Provider([Reply()]) as provider, gateway(hostile, provider.url) as opened:
        assert opened.post("/v1/messages", b"{")[0] == 400
        assert opened.post("/v1/messages", {"messages": []})[0] == 400
        assert opened.post("/v1/messages", b"", {"content-length": str(2**40)})[0] == 413
        assert opened.post("/v1/messages", b"", {"content-length": "many"})[0] == 400
        assert provider.requests == []


def test_a_body_in_chunks_arrives_whole(hostile: Path) -> None:
    def pieces() -> Iterator[bytes]:
        data = json.dumps(BODY).encode()
        yield data[:10]
        yield data[10:]

    with Provider([Reply()]) as provider, gateway(hostile, provider.url) as opened:
        connection = http.client.HTTPConnection(opened.url.removeprefix("http://"), timeout=PATIENCE_S)
        connection.request("POST", "/v1/messages?beta=true&key=x", pieces(), {"x-api-key": opened.key})
        assert connection.getresponse().status == 200
        connection.close()
        (request,) = provider.requests
        assert (request.body, request.query) == (BODY, "beta=true")


def test_only_what_belongs_to_the_request_reaches_the_provider(hostile: Path) -> None:
    def echo(request: Request) -> Reply:
        return Reply(headers={"set-cookie": "a=1", "request-id": "req_1"}, text=str(request.number))

    with Provider(echo) as provider, gateway(hostile, provider.url) as opened:
        sent = {
            "anthropic-version": "2023-06-01",
            "cookie": "a=1",
            "authorization": "Bearer me",
            "accept-encoding": "br",
        }
        connection = http.client.HTTPConnection(opened.url.removeprefix("http://"), timeout=PATIENCE_S)
        connection.request("POST", "/v1/messages", json.dumps(BODY), {"x-api-key": opened.key, **sent})
        answer = connection.getresponse()
        assert (answer.headers["request-id"], answer.headers["set-cookie"]) == ("req_1", None)
        connection.close()
        headers = provider.requests[0].headers
        assert (headers["anthropic-version"], headers["accept-encoding"]) == ("2023-06-01", "identity")
        assert {"cookie", "authorization"}.isdisjoint(headers)


def test_gemini_is_metered_and_signed_in_its_own_way(hostile: Path) -> None:
    with Provider([]) as provider, gateway(hostile, provider.url, kind=Kind.GEMINI) as opened:
        path = "/v1beta/models/gemini-2.5-pro:generateContent"
        assert opened.post(path, {"contents": []})[0] == 404, "this provider does not speak it, but it was asked"
        assert provider.others == [f"POST {path}"]
        assert opened.calls[0].model == "gemini-2.5-pro"
