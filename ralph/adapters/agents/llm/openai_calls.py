"""What OpenAI's two APIs share: the client, fields that a server may not know, errors."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ralph.adapters.agents.llm.conversation import Reply
from ralph.adapters.agents.llm.waiting import CallError, RejectedError, WeatherError, error_of

if TYPE_CHECKING:
    import httpx2

Item = dict[str, Any]


class Caller:
    """The client, which retries nothing, and what its server was found not to know.

    `optional` names fields that may be left out, each with the pattern by which a server complains of it.
    """

    def __init__(
        self, *, address: str, key: str, silence_s: float, http: "httpx2.Client", optional: Mapping[str, str]
    ) -> None:
        import openai

        self.client: Any = openai.OpenAI(
            base_url=f"{address}/v1",
            api_key=key,
            max_retries=0,
            timeout=openai.Timeout(silence_s, connect=10.0),
            http_client=http,
        )
        self._optional = optional
        self._unknown: set[str] = set()

    def answer(
        self,
        create: Callable[..., Any],
        request: Callable[[frozenset[str]], Item],
        read: Callable[[Iterable[Item]], Reply],
    ) -> Reply:
        """One call, again only where the server refused a field; `request` is told which ones to leave out."""
        while True:
            try:
                return self._stream(create, request(frozenset(self._unknown)), read)
            except RejectedError as error:
                blamed = {
                    name
                    for name, pattern in self._optional.items()
                    if name not in self._unknown and re.search(pattern, str(error), re.IGNORECASE)
                }
                if not blamed:
                    raise
                self._unknown |= blamed

    def _stream(self, create: Callable[..., Any], request: Item, read: Callable[[Iterable[Item]], Reply]) -> Reply:
        import httpx2
        import openai

        try:
            with create(**request, stream=True) as stream:
                return read(event.to_dict(mode="json", warnings=False) for event in stream)
        except openai.APIStatusError as error:
            raise status_error(error.status_code, error.body, error.message, error.response.headers) from None
        except (openai.APIConnectionError, httpx2.HTTPError, ValueError) as error:
            raise WeatherError(f"no whole answer: {type(error).__name__}: {error.__cause__ or error}") from None
        except openai.APIError as error:
            raise status_error(200, error.body, error.message, {}) from None
        except openai.OpenAIError as error:
            raise RejectedError(f"{type(error).__name__}: {error}") from None


def status_error(status: int, body: object, words: str, headers: Mapping[str, str]) -> CallError:
    """What an error body says; servers put it below `error`, or do without."""
    told = body.get("error", body) if isinstance(body, dict) else None
    told = told if isinstance(told, dict) else {}
    kind = " ".join(str(told[key]) for key in ("type", "code") if told.get(key))
    return error_of(status, kind, str(told.get("message") or words), headers)
