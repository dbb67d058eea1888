"""The side that the settings name. Only the SDK in use is imported: together they take a second."""

from typing import TYPE_CHECKING, Any

from ralph.adapters.agents.llm.arguments import specs
from ralph.adapters.agents.llm.conversation import Side
from ralph.adapters.agents.llm.settings import Settings

if TYPE_CHECKING:
    import httpx2


def open_side(s: Settings, silence_s: float, transport: "httpx2.BaseTransport | None" = None) -> Side:
    """Ready to be asked; a stream that says nothing for `silence_s` counts as broken.

    Its calls go through `transport`, by default to the address of the settings.
    """
    import httpx2

    # Not the SDKs' own clients, which heed HTTP_PROXY come what may. To load the certificates of all authorities takes
    # a tenth of a second, and the way to the gateway, over the loopback, has none to check.
    http = httpx2.Client(trust_env=False, verify=not s.address.startswith("http://"), transport=transport)
    given: dict[str, Any] = {
        "address": s.address, "key": s.key, "model": s.model, "tools": specs(), "silence_s": silence_s, "http": http,
    }  # fmt: skip
    match s.kind, s.api:
        case "anthropic", _:
            from ralph.adapters.agents.llm.anthropic_side import AnthropicSide

            return AnthropicSide(**given)
        case _, "chat":
            from ralph.adapters.agents.llm.chat_side import ChatSide

            return ChatSide(**given)
        case _:
            from ralph.adapters.agents.llm.responses_side import ResponsesSide

            return ResponsesSide(**given)
