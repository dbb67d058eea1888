"""Usage and errors are found in every API's answers, however the network cuts them into pieces."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from ralph.adapters.gateway.asked import Api, ask
from ralph.adapters.gateway.meter import Meter
from ralph.adapters.gateway.usage import Usage
from tests.provider import Api as Spoken
from tests.provider import Fault, Reply, Request, chat, messages, responses
from tests.provider import Usage as Told

TOLD = Told(input=1000, output=50, cached=600, written=100)
SPEAK = {Spoken.MESSAGES: messages, Spoken.RESPONSES: responses, Spoken.CHAT: chat}
PATHS = {Spoken.MESSAGES: "/v1/messages", Spoken.RESPONSES: "/v1/responses", Spoken.CHAT: "/v1/chat/completions"}


def meter(api: Api | Spoken = Api.MESSAGES, **body: Any) -> Meter:
    raw = json.dumps({"model": "m", "max_tokens": 1000, "max_output_tokens": 1000, **body}).encode()
    path = PATHS.get(Spoken(api), "") if api != "gemini" else "/v1beta/models/m:generateContent"
    return Meter(ask(Api(str(api)), path, raw, capped=False))


def stream(events: Sequence[tuple[str, Any]]) -> bytes:
    told = [data if isinstance(data, str) else json.dumps(data) for _, data in events]
    lines = [
        (f"event: {name}\r\n" if name else "") + f"data: {data}\r\n\r\n"
        for (name, _), data in zip(events, told, strict=True)
    ]
    return "".join(lines).encode()


def read(one: Meter, data: bytes, *, content_type: str = "text/event-stream; charset=utf-8", size: int = 7) -> Meter:
    one.begin(content_type)
    for at in range(0, len(data), size):
        one.feed(data[at : at + size])
    one.end()
    return one


def request(api: Spoken) -> Request:
    body = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    return Request(number=0, path=PATHS[api], query="", api=api, headers={}, body=body, raw=b"")


def expected(api: Spoken) -> Usage:
    return Usage(input=1000, output=50, cached=600, written=0 if api is Spoken.CHAT else 100)


@pytest.mark.parametrize("api", list(Spoken))
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_stream_tells_its_usage_in_pieces_of_any_size(api: Spoken, size: int) -> None:
    reply = Reply(text="words " * 20, usage=TOLD)
    one = read(meter(api), stream(SPEAK[api].events(request(api), reply)), size=size)
    usage, estimated = one.usage(1.0)
    assert (usage, estimated, one.complete, one.error) == (expected(api), False, True, None)


@pytest.mark.parametrize("api", list(Spoken))
def test_a_plain_answer_tells_its_usage(api: Spoken) -> None:
    data = json.dumps(SPEAK[api].plain(request(api), Reply(text="words", usage=TOLD))).encode()
    assert read(meter(api), data, content_type="application/json").usage(1.0) == (expected(api), False)


@pytest.mark.parametrize("api", list(Spoken))
def test_a_stream_cut_before_its_usage_is_estimated_on_the_high_side_and_within_its_limit(api: Spoken) -> None:
    text = "three letter words are not so many " * 12  # 84 tokens
    events = SPEAK[api].events(request(api), Reply(text=text, usage=TOLD))
    whole = stream(events)
    one = read(meter(api), whole[: whole.rfind(b"so many") + 7])
    usage, estimated = one.usage(0.1)
    assert estimated
    assert 84 <= usage.output <= 1000
    assert usage.input >= (1000 if api is Spoken.MESSAGES else 10), "Messages says what it read at the start"
    assert one.usage(3600.0)[0].output == 1000, "an hour of silence costs what the request allowed"


@pytest.mark.parametrize("api", list(Spoken))
def test_usage_that_is_left_out_or_absurd_is_estimated(api: Spoken) -> None:
    for usage in (None, Told(input=-5, output=3), Told(input=10**12, output=10**12)):
        events = SPEAK[api].events(request(api), Reply(text="words " * 10, usage=usage))
        found, estimated = read(meter(api), stream(events)).usage(0.1)
        assert estimated
        assert 15 <= found.output <= 1000


@pytest.mark.parametrize(
    ("api", "event", "kind"),
    [
        (Spoken.MESSAGES, messages.broken_event(Reply(fault=Fault.OVERLOADED)), "overloaded_error"),
        (Spoken.RESPONSES, responses.broken_event(request(Spoken.RESPONSES), Reply(fault=Fault.OVERLOADED)), None),
        (Spoken.RESPONSES, responses.broken_event(request(Spoken.RESPONSES), Reply(fault=Fault.FAILED)), None),
        (Spoken.CHAT, chat.broken_event(Reply(fault=Fault.OVERLOADED)), None),
    ],
)
def test_an_error_inside_a_stream_is_found(api: Spoken, event: tuple[str, dict[str, Any]], kind: str | None) -> None:
    error = read(meter(api), stream([*SPEAK[api].events(request(api), Reply(text="a"))[:2], event])).error
    assert error is not None
    assert kind is None or error["type"] == kind


def test_an_hour_in_the_cache_is_told_apart() -> None:
    raw = {"type": "message", "usage": {"input_tokens": 5, "output_tokens": 1, "cache_creation_input_tokens": 100,
           "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 70}}}  # fmt: skip
    one = read(meter(), json.dumps(raw).encode(), content_type="application/json")
    assert one.usage(0)[0] == Usage(input=105, output=1, written=100, written_1h=70)


def test_gemini_tells_its_usage_plain_and_streamed() -> None:
    said = {"promptTokenCount": 100, "cachedContentTokenCount": 60, "candidatesTokenCount": 7, "thoughtsTokenCount": 5}
    last = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": said}
    first = {"candidates": [{"content": {"parts": [{"text": "hi"}]}}], "usageMetadata": {"promptTokenCount": 100}}
    whole = Usage(input=100, output=12, cached=60)
    for data, kind in (
        (json.dumps(last).encode(), "application/json"),
        (json.dumps([first, last]).encode(), "application/json"),
        (stream([("", first), ("", last)]), "text/event-stream"),
    ):
        assert read(meter(Api.GEMINI), data, content_type=kind).usage(0.01) == (whole, False)
    assert read(meter(Api.GEMINI), stream([("", first)])).usage(0.01)[1], "the first event does not count the answer"


@pytest.mark.parametrize(
    "junk", [b"", b"{", b"[1, 2]", b'"text"', b"data: {\n\n", b"\xff\xfe\n\n", b"data: [[[[\n\n", b"[" * 5000]
)
def test_junk_is_estimated_and_breaks_nothing(junk: bytes) -> None:
    for kind in ("text/event-stream", "application/json", ""):
        assert read(meter(), junk, content_type=kind).usage(0.01)[1]
