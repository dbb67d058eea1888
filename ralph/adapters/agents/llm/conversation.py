"""A conversation with a model, in words that no provider owns. The sides render it into their APIs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

LEFT_OUT = "(left out for want of room; ask again if it is needed)"
KEPT_RESULTS = 2  # the latest ones survive when room is made


class Stop(StrEnum):
    """Why an answer ended."""

    END = "end"  # of itself, tool calls included
    LENGTH = "length"
    REFUSAL = "refusal"
    CONTEXT = "context"  # there was no room left for the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as the model is told of it; `schema` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """What the model wants. `arguments` is the text it wrote, JSON or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What it gets."""

    call: str
    text: str
    error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the provider counted them; `read` includes those `cached`, that came from its cache."""

    read: int = 0
    cached: int = 0
    wrote: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(read=self.read + other.read, cached=self.cached + other.cached, wrote=self.wrote + other.wrote)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One whole answer. `raw` is what the side sends back as this turn, in its API's own form."""

    text: str
    calls: tuple[ToolCall, ...]
    stop: Stop
    usage: Usage
    raw: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The answer to an answer: results of its tool calls, and words of ours."""

    results: tuple[ToolResult, ...] = ()
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Conversation:
    """What a model is told, the most lasting first, so that providers find the beginning in their caches.

    `stable` are the parts of the brief that outlive an iteration, `news` is the rest of it.
    """

    system: str
    stable: tuple[str, ...]
    news: str
    turns: list[Reply | Results] = field(default_factory=list)

    def make_room(self) -> bool:
        """Leave out all results but the latest; False if that leaves out nothing."""
        spots = [(n, m) for n, turn in enumerate(self.turns) if isinstance(turn, Results)
                 for m in range(len(turn.results))]  # fmt: skip
        cut = False
        for n, m in spots[:-KEPT_RESULTS]:
            turn = self.turns[n]
            if isinstance(turn, Results) and len(turn.results[m].text) > len(LEFT_OUT):
                results = list(turn.results)
                results[m] = replace(results[m], text=LEFT_OUT)
                self.turns[n], cut = replace(turn, results=tuple(results)), True
        return cut


class Side(Protocol):
    """One provider's API."""

    def ask(self, conversation: Conversation, answer_tokens: int) -> Reply:
        """One call, streamed to its end. Raises what `waiting` defines; nothing is tried twice here."""
        ...


def arguments_of(text: str) -> dict[str, Any] | None:
    """The object that the model wrote as arguments; None when it is not one. No text at all is an empty object."""
    try:
        value = json.loads(text) if text.strip() else {}
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def sound_arguments(text: str) -> str:
    """`text`, or an empty object in its place: servers that parse the history fail on anything else."""
    return "{}" if arguments_of(text) is None or not text.strip() else text


def joined(parts: Sequence[str]) -> str:
    """The parts that have something in them, a blank line between."""
    return "\n\n".join(part for part in parts if part)
