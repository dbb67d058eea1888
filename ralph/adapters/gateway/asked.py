"""What a request asks for: which API, which model, and the most that its answer can cost.

`MOST_OUTPUT` is written into a request that names no limit of its own while a budget is to be kept, since an answer
of unknown length has no price. Reading cannot cost more than one token per byte of the request, plus what providers
add on their own (`HIDDEN_INPUT`). Not covered: what the provider fetches itself (images and documents by address, web
searches of server-side tools), and the surcharge of a faster service tier.
"""

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, assert_never

from ralph.adapters.gateway.usage import Usage

MOST_OUTPUT = 32_000
HIDDEN_INPUT = 1_024  # tokens: the provider's own words around tools and messages
LISTED_TOKENS = 1_000_000  # what an answer could have at all; for a limit that is no number
GEMINI = re.compile(r"/v1(?:beta)?/models/([A-Za-z0-9._-]+):(generateContent|streamGenerateContent|countTokens)")


class Api(StrEnum):
    """What the gateway lets through, and nothing else."""

    MESSAGES = "messages"
    RESPONSES = "responses"
    CHAT = "chat"
    GEMINI = "gemini"
    COUNT = "count"  # of tokens; free
    MODELS = "models"  # their list; free


POSTS = {
    "/v1/messages": Api.MESSAGES,
    "/v1/messages/count_tokens": Api.COUNT,
    "/v1/responses": Api.RESPONSES,
    "/v1/chat/completions": Api.CHAT,
}


class BadRequestError(Exception):
    """A request that the gateway cannot forward; the message is for whoever sent it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request. `most` is an upper bound of its tokens; `body` what to send; `path` without its query."""

    api: Api
    path: str
    model: str
    body: bytes
    most: Usage = field(default_factory=Usage)

    @property
    def free(self) -> bool:
        """Whether it costs nothing."""
        return self.api in (Api.COUNT, Api.MODELS)


def api_of(method: str, path: str, *, gemini: bool) -> Api | None:
    """The API that a request is for; None for all that is not let through."""
    if gemini:
        if method == "GET" and path in ("/v1beta/models", "/v1/models"):
            return Api.MODELS
        found = GEMINI.fullmatch(path) if method == "POST" else None
        return None if found is None else Api.COUNT if found[2] == "countTokens" else Api.GEMINI
    if method == "GET" and path == "/v1/models":
        return Api.MODELS
    return POSTS.get(path) if method == "POST" else None


def ask(api: Api, path: str, body: bytes, *, capped: bool, carried: int = 0, old_name: bool = False) -> Asked:
    """Read a request, and complete it where the meter and the budget need more than it says.

    Args:
        api: as `api_of` says.
        path: without its query.
        body: as the agent sent it.
        capped: whether a budget is to be kept.
        carried: tokens that an earlier call of this agent has put on the provider's side, at most.
        old_name: the server is not OpenAI's own, and may know the limit of chat completions by its first name only.

    Raises:
        BadRequestError: it is no JSON object, names no model, or asks for work after the answer.
    """
    if api is Api.MODELS:
        return Asked(api=api, path=path, model="", body=b"")
    raw = _object(body)
    model = found[1] if (found := GEMINI.fullmatch(path)) else raw.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequestError("the request names no model")
    if api is Api.COUNT:
        return Asked(api=api, path=path, model=model, body=body)
    if raw.get("background"):
        raise BadRequestError("background answers cannot be metered; leave `background` out")
    changed = _limited(api, raw, capped=capped, old_name=old_name)
    if api is Api.CHAT and raw.get("stream"):
        options = raw.get("stream_options")
        wanted = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        changed = changed or wanted != options
        raw["stream_options"] = wanted
    if raw.get("previous_response_id") is None and raw.get("conversation") is None:
        carried = 0
    read = len(body) + HIDDEN_INPUT + carried
    write = read if b'"cache_control"' in body else 0
    most = Usage(input=read, output=_most_output(api, raw), written=write, written_1h=write if b'"1h"' in body else 0)
    return Asked(api=api, path=path, model=model, body=json.dumps(raw).encode() if changed else body, most=most)


def _object(body: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequestError("the request is not JSON") from None
    if not isinstance(raw, dict):
        raise BadRequestError("the request is not a JSON object")
    return raw


def _limited(api: Api, raw: dict[str, Any], *, capped: bool, old_name: bool) -> bool:
    """Write a limit into a request that has none; whether that was needed."""
    place, names = _limit_place(api, raw)
    if not capped or any(place.get(name) is not None for name in names):
        return False
    place[names[-1] if old_name else names[0]] = MOST_OUTPUT
    return True


def _limit_place(api: Api, raw: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The table of a request that holds its limit, and the names it may have there, today's first."""
    match api:
        case Api.MESSAGES:
            return raw, ("max_tokens",)
        case Api.RESPONSES:
            return raw, ("max_output_tokens",)
        case Api.CHAT:
            return raw, ("max_completion_tokens", "max_tokens")
        case Api.GEMINI:
            if not isinstance(raw.get("generationConfig"), dict):
                raw["generationConfig"] = {}
            return raw["generationConfig"], ("maxOutputTokens",)
        case Api.COUNT | Api.MODELS:
            return {}, ("",)
        case _:
            assert_never(api)


def _most_output(api: Api, raw: dict[str, Any]) -> int:
    place, names = _limit_place(api, raw)
    given = [place[name] for name in names if place.get(name) is not None] or [MOST_OUTPUT]
    answers = [raw.get("n"), place.get("candidateCount"), 1]
    times = max(n for n in answers if type(n) is int)
    return times * max(n if type(n) is int and n >= 0 else LISTED_TOKENS for n in given)
