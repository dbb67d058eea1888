"""The side that the settings name. Only the SDK in use is imported: together they take a second."""

from ralph.adapters.agents.llm.arguments import specs
from ralph.adapters.agents.llm.conversation import Side
from ralph.adapters.agents.llm.settings import Settings


def open_side(s: Settings, silence_s: float) -> Side:
    """Ready to be asked; a stream that says nothing for `silence_s` counts as broken."""
    match s.kind, s.api:
        case "anthropic", _:
            from ralph.adapters.agents.llm.anthropic_side import AnthropicSide

            return AnthropicSide(address=s.address, key=s.key, model=s.model, tools=specs(), silence_s=silence_s)
        case _, "chat":
            from ralph.adapters.agents.llm.chat_side import ChatSide

            return ChatSide(address=s.address, key=s.key, model=s.model, tools=specs(), silence_s=silence_s)
        case _:
            from ralph.adapters.agents.llm.responses_side import ResponsesSide

            return ResponsesSide(address=s.address, key=s.key, model=s.model, tools=specs(), silence_s=silence_s)
