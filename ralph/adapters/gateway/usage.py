"""Tokens of one call, as the four APIs report them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BELIEVABLE = 1_000_000_000  # tokens; more is a mistake of the server's


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens. Of `input`, all that was read, `cached` came from a cache and `written` went into one.

    Of `written`, `written_1h` stay there for an hour, which costs more.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    written_1h: int = 0


def of_messages(raw: Mapping[str, Any]) -> Usage | None:
    """Anthropic's: `input_tokens` leaves out what the cache had part in."""
    fresh, cached = _count(raw, "input_tokens"), _count(raw, "cache_read_input_tokens") or 0
    written = _count(raw, "cache_creation_input_tokens") or 0
    if fresh is None:
        return None
    return Usage(
        input=fresh + cached + written,
        output=_count(raw, "output_tokens") or 0,
        cached=cached,
        written=written,
        written_1h=min(written, _count(_table(raw, "cache_creation"), "ephemeral_1h_input_tokens") or 0),
    )


def of_responses(raw: Mapping[str, Any]) -> Usage | None:
    """OpenAI's Responses: `input_tokens` is everything."""
    return _openai(raw, "input_tokens", "output_tokens", "input_tokens_details")


def of_chat(raw: Mapping[str, Any]) -> Usage | None:
    """Chat completions."""
    return _openai(raw, "prompt_tokens", "completion_tokens", "prompt_tokens_details")


def of_gemini(raw: Mapping[str, Any]) -> Usage | None:
    """Gemini's: thoughts are counted apart."""
    read = _count(raw, "promptTokenCount")
    if read is None:
        return None
    read += _count(raw, "toolUsePromptTokenCount") or 0
    return Usage(
        input=read,
        output=(_count(raw, "candidatesTokenCount") or 0) + (_count(raw, "thoughtsTokenCount") or 0),
        cached=min(read, _count(raw, "cachedContentTokenCount") or 0),
    )


def _openai(raw: Mapping[str, Any], read: str, wrote: str, details: str) -> Usage | None:
    everything, output = _count(raw, read), _count(raw, wrote)
    if everything is None or output is None:
        return None
    more = _table(raw, details)
    cached = min(everything, _count(more, "cached_tokens") or 0)
    written = min(everything - cached, _count(more, "cache_write_tokens") or 0)
    return Usage(input=everything, output=output, cached=cached, written=written)


def _count(raw: Mapping[str, Any], key: str) -> int | None:
    """A believable number of tokens, else None."""
    value = raw.get(key)
    return value if type(value) is int and 0 <= value <= BELIEVABLE else None


def _table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}
