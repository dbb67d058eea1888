"""JSON that an agent's code wrote: it may be malformed, bottomless, huge, or hold what no ledger could.

Covers: syntax errors, nesting deeper than the parser goes, integers too long to convert, NaN and infinities, lone
surrogates, which no file can hold, and more than anybody wants to read. Does not cover: lies.
"""

import json
import math

from ralph.model import JsonValue

MOST_KEYS = 50
KEY_CHARS = 80
MOST_INTEGER = 2**63


def parse_object(text: str | bytes) -> dict[str, object] | None:
    """The JSON object that `text` is; None if it is anything else.

    >>> parse_object('{"a": [1]}'), parse_object("[1]"), parse_object("[" * 100_000), parse_object("{")
    ({'a': [1]}, None, None, None)
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def number(value: object) -> float | None:
    """A number as a float; None for anything else, and for what is too large for one. It may be NaN or infinite.

    >>> number(3), number(True), number("3"), number(10**400)
    (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def flat(raw: object) -> dict[str, JsonValue]:
    """The part of an object that a ledger can hold: at most fifty plain values, clean strings, finite numbers.

    >>> flat({"a": 1, "b": [2], "c": float("nan"), "d": "x" + chr(0xD800), "e": 10**400, "f": None})
    {'a': 1, 'd': 'x?', 'f': None}
    """
    if not isinstance(raw, dict):
        return {}
    found: dict[str, JsonValue] = {}
    for key, value in raw.items():
        match value:
            case str():
                found[clean(str(key))[:KEY_CHARS]] = clean(value)
            case None | bool():
                found[clean(str(key))[:KEY_CHARS]] = value
            case int() if abs(value) < MOST_INTEGER:
                found[clean(str(key))[:KEY_CHARS]] = value
            case float() if math.isfinite(value):
                found[clean(str(key))[:KEY_CHARS]] = value
        if len(found) == MOST_KEYS:
            break
    return found


def clean(text: str) -> str:
    """Without what no file could hold."""
    return text.encode("utf-8", "replace").decode()
