"""Writing a value the way its predecessor was written: `2**18` stays a power of two, `1_000` keeps its underscore."""

import math
import re

Literal = int | float | bool | str

_POWER = re.compile(r"2(\s*)\*\*(\s*)\d+\Z")
_PRODUCT = re.compile(r"(\d+)(\s*\*\s*)(\d+)\Z")
_PREFIXED = re.compile(r"0[xXoObB]")
_KINDS = {bool: "a truth value", int: "a whole number", float: "a float", str: "a text"}
_QUOTES = ("'", '"')


def write_literal(text: str, old: Literal, new: Literal) -> str:
    """The literal for `new`, in place of `text`, which says `old`. It reads back as exactly `new`.

    >>> write_literal("2**19", 2**19, 2**18), write_literal("5 * 1024", 5120, 6144), write_literal("1e-3", 1e-3, 2e-5)
    ('2**18', '6 * 1024', '2e-5')

    Raises:
        ValueError: when `new` is of another type than `old`.
    """
    fits = type(old) is type(new) or (isinstance(old, float) and type(new) is int)
    if isinstance(old, int) and isinstance(new, float) and new.is_integer():
        fits = not isinstance(old, bool)
    if not fits:
        raise ValueError(f"{text} is {_KINDS[type(old)]}; {new!r} is not")
    if isinstance(new, bool):
        return str(new)
    if isinstance(new, str):
        return _write_str(text, new)
    if not math.isfinite(new):
        raise ValueError(f"{new!r} in place of {text} is no finite number")
    return _write_int(text, int(new)) if isinstance(old, int) else _write_float(float(new))


def _write_int(text: str, new: int) -> str:
    if (match := _POWER.match(text)) and new > 0 and new & (new - 1) == 0:
        return f"2{match[1]}**{match[2]}{new.bit_length() - 1}"
    if (match := _PRODUCT.match(text)) and int(match[3]) and new > 0 and new % int(match[3]) == 0:
        return f"{new // int(match[3])}{match[2]}{match[3]}"
    if _PREFIXED.match(text) and new >= 0:
        return f"{text[:2]}{new:{text[1].lower()}}"
    return f"{new:_}" if "_" in text else str(new)


def _write_float(new: float) -> str:
    digits = repr(new)
    mantissa, mark, exponent = digits.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else digits


def _write_str(text: str, new: str) -> str:
    quoted = repr(new)
    wanted = text.lstrip("rRuU")[:1]
    if wanted in _QUOTES and wanted != quoted[0] and not any(q in new for q in _QUOTES):
        return wanted + quoted[1:-1] + wanted
    return quoted


def literals(raw: object) -> dict[str, Literal]:
    """The literals among the values of a JSON object by name; nothing if it is none."""
    if not isinstance(raw, dict):
        return {}
    return {name: value for name, value in raw.items() if isinstance(value, int | float | bool | str)}
