"""Requests are read, limited and bounded before they may cost anything."""

import json
from typing import Any

import pytest

from ralph.adapters.gateway.asked import HIDDEN_INPUT, MOST_OUTPUT, Api, Asked, BadRequestError, api_of, ask


def asked(api: Api, *, capped: bool = True, old_name: bool = False, carried: int = 0, **body: Any) -> Asked:
    raw = json.dumps({"model": "m", **body}).encode()
    path = "/v1beta/models/m:generateContent" if api is Api.GEMINI else "/v1/x"
    return ask(api, path, raw, capped=capped, old_name=old_name, carried=carried)


@pytest.mark.parametrize(
    ("line", "api"),
    [
        ("POST /v1/messages", Api.MESSAGES),
        ("POST /v1/messages/count_tokens", Api.COUNT),
        ("POST /v1/responses", Api.RESPONSES),
        ("POST /v1/chat/completions", Api.CHAT),
        ("GET /v1/models", Api.MODELS),
        ("GET /v1/messages", None),
        ("POST /v1/messages/", None),
        ("POST //v1/messages", None),
        ("POST /v1/messages/batches", None),
        ("POST /v1/files", None),
        ("POST /v1/responses/../files", None),
        ("GET /v1/responses/resp_1", None),
        ("DELETE /v1/models/m", None),
        ("POST /v1beta/models/m:generateContent", None),
    ],
)
def test_only_the_list_is_let_through(line: str, api: Api | None) -> None:
    method, path = line.split()
    assert api_of(method, path, gemini=False) is api


@pytest.mark.parametrize(
    ("line", "api"),
    [
        ("POST /v1beta/models/gemini-2.5-pro:generateContent", Api.GEMINI),
        ("POST /v1beta/models/gemini-2.5-pro:streamGenerateContent", Api.GEMINI),
        ("POST /v1beta/models/gemini-2.5-pro:countTokens", Api.COUNT),
        ("GET /v1beta/models", Api.MODELS),
        ("POST /v1beta/models/../x:generateContent", None),
        ("POST /v1beta/models/m:batchGenerateContent", None),
        ("POST /v1beta/cachedContents", None),
        ("POST /v1/messages", None),
    ],
)
def test_gemini_has_a_list_of_its_own(line: str, api: Api | None) -> None:
    method, path = line.split()
    assert api_of(method, path, gemini=True) is api


@pytest.mark.parametrize(
    ("api", "place"),
    [
        (Api.MESSAGES, ("max_tokens",)),
        (Api.RESPONSES, ("max_output_tokens",)),
        (Api.CHAT, ("max_completion_tokens",)),
        (Api.GEMINI, ("generationConfig", "maxOutputTokens")),
    ],
)
def test_under_a_budget_an_answer_gets_a_limit_and_a_limit_of_its_own_is_left_alone(
    api: Api, place: tuple[str, ...]
) -> None:
    def limit(body: bytes) -> Any:
        found = json.loads(body)
        for key in place:
            found = found.get(key, {})
        return found

    free = asked(api)
    assert (limit(free.body), free.most.output) == (MOST_OUTPUT, MOST_OUTPUT)
    assert asked(api, capped=False).body == json.dumps({"model": "m"}).encode()
    own: Any = 700
    for key in reversed(place):
        own = {key: own}
    limited = asked(api, **own)
    assert (limited.body, limited.most.output) == (json.dumps({"model": "m", **own}).encode(), 700)


def test_other_servers_than_openais_get_the_name_that_they_know() -> None:
    assert json.loads(asked(Api.CHAT, old_name=True).body)["max_tokens"] == MOST_OUTPUT
    assert "max_tokens" not in json.loads(asked(Api.CHAT, old_name=True, max_completion_tokens=5).body)


def test_a_limit_that_is_no_number_allows_everything() -> None:
    for limit in ("5", -1, 5.5, True, [5]):
        assert asked(Api.MESSAGES, max_tokens=limit).most.output >= MOST_OUTPUT


def test_several_answers_cost_as_many_times() -> None:
    assert asked(Api.CHAT, n=4, max_tokens=10).most.output == 40


def test_chat_streams_are_asked_for_their_usage() -> None:
    body = json.loads(asked(Api.CHAT, capped=False, stream=True, stream_options={"x": 1}).body)
    assert body["stream_options"] == {"x": 1, "include_usage": True}
    assert "stream_options" not in json.loads(asked(Api.CHAT, stream=False).body)
    assert "stream_options" not in json.loads(asked(Api.RESPONSES, stream=True).body)


def test_reading_is_bounded_by_the_bytes_and_what_the_provider_remembers() -> None:
    plain = asked(Api.RESPONSES, capped=False, carried=5000)
    assert plain.most.input == len(plain.body) + HIDDEN_INPUT
    later = asked(Api.RESPONSES, capped=False, carried=5000, previous_response_id="resp_1")
    assert later.most.input == len(later.body) + HIDDEN_INPUT + 5000


def test_what_goes_into_a_cache_is_bounded_at_the_price_of_writing_there() -> None:
    block = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    short = asked(Api.MESSAGES, system=[block]).most
    assert (short.written, short.written_1h) == (short.input, 0)
    block["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
    assert (long := asked(Api.MESSAGES, system=[block]).most).written_1h == long.input


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"messages": []}', b'{"model": 5}', b'{"model": ""}', b"[" * 100_000]
)
def test_what_cannot_be_read_is_not_forwarded(body: bytes) -> None:
    with pytest.raises(BadRequestError):
        ask(Api.MESSAGES, "/v1/messages", body, capped=False)


def test_work_after_the_answer_cannot_be_metered() -> None:
    with pytest.raises(BadRequestError, match="background"):
        asked(Api.RESPONSES, background=True)
