"""Values of ours as JSON and back, by their annotated types: what an index of the state is written in.

A dataclass becomes the list of its fields in their order, so that whoever reads must have the very classes that whoever
wrote had. Covers: dataclasses, enums, datetimes, tuples, lists, sets, mappings, unions with None, and what JSON has
itself. Whatever is not of the annotated type is refused; nothing in the data names a class or runs code.
"""

import types
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Coder = Callable[[Any], Any]

_PLAIN = (str, int, float, bool, types.NoneType)
_PAIRS = (dict, Mapping, Counter)


class CodecError(ValueError):
    """A value that is not of its type, or a type that has no form here."""


def encode(kind: Any, value: Any, leave_out: frozenset[str] = frozenset()) -> Any:
    """`value`, which is of type `kind`, as values that JSON has. `leave_out` are fields of the outermost dataclass."""
    return (
        _encoder(kind)(value) if not leave_out else [_encoder(t)(getattr(value, n)) for n, t in _shape(kind, leave_out)]
    )


def decode(kind: Any, raw: Any) -> Any:
    """The value of type `kind` that `encode` turned into `raw`. Raises CodecError when it is none."""
    return _decoder(kind)(raw)


def decode_fields(kind: type[Any], raw: Any, leave_out: frozenset[str]) -> dict[str, Any]:
    """The fields of a dataclass that was encoded without some of them. Raises CodecError."""
    shape = _shape(kind, leave_out)
    if not isinstance(raw, list) or len(raw) != len(shape):
        raise CodecError(f"this is no {kind.__name__}")
    return {name: _decoder(type_)(each) for (name, type_), each in zip(shape, raw, strict=True)}


def _shape(kind: type[Any], leave_out: frozenset[str] = frozenset()) -> list[tuple[str, Any]]:
    hints = get_type_hints(kind)
    return [(f.name, hints[f.name]) for f in fields(kind) if f.name not in leave_out]


@cache
def _encoder(kind: Any) -> Coder:
    if kind in _PLAIN or get_origin(kind) is Literal or _all_plain(kind):
        return lambda value: value
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value: value.value
    if kind is datetime:
        return lambda value: value.isoformat()
    if is_dataclass(kind):
        shape = [(name, _encoder(type_)) for name, type_ in _shape(kind)]  # type: ignore[arg-type]
        return lambda value: [coder(getattr(value, name)) for name, coder in shape]
    return _encoder_of_many(kind)


def _encoder_of_many(kind: Any) -> Coder:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        one = _encoder(_of_optional(kind))
        return lambda value: None if value is None else one(value)
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        coders = [_encoder(each) for each in args]
        return lambda value: [coder(each) for coder, each in zip(coders, value, strict=True)]
    if origin in (tuple, list):
        item = _encoder(args[0])
        return lambda value: [item(each) for each in value]
    if origin in (set, frozenset):
        item = _encoder(args[0])
        return lambda value: sorted(item(each) for each in value)
    if _is_pairs(origin):
        key, each_of = _encoder(args[0]), _encoder(args[1] if len(args) > 1 else int)
        return lambda value: [[key(k), each_of(v)] for k, v in value.items()]
    raise CodecError(f"{kind} has no form here")


@cache
def _decoder(kind: Any) -> Coder:
    if _all_plain(kind) or kind in _PLAIN or get_origin(kind) is Literal:
        return _checked(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        members = {member.value: member for member in kind}
        return lambda raw: _must(members.get(raw) if isinstance(raw, str | int) else None, kind)
    if kind is datetime:
        return _moment
    if is_dataclass(kind):
        return _dataclass_decoder(kind)
    return _decoder_of_many(kind)


def _dataclass_decoder(kind: Any) -> Coder:
    shape = [(name, _decoder(type_)) for name, type_ in _shape(kind)]

    def made(raw: Any) -> Any:
        if not isinstance(raw, list) or len(raw) != len(shape):
            raise CodecError(f"this is no {kind.__name__}")
        return kind(**{name: coder(each) for (name, coder), each in zip(shape, raw, strict=True)})

    return made


def _decoder_of_many(kind: Any) -> Coder:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        one = _decoder(_of_optional(kind))
        return lambda raw: None if raw is None else one(raw)
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        coders = [_decoder(each) for each in args]
        return lambda raw: tuple(coder(each) for coder, each in zip(coders, _list(raw, len(coders)), strict=True))
    if origin in (tuple, list, set, frozenset):
        item, collected = _decoder(args[0]), origin
        return lambda raw: collected(item(each) for each in _list(raw))
    if _is_pairs(origin):
        key, each_of = _decoder(args[0]), _decoder(args[1] if len(args) > 1 else int)
        made: Coder = Counter if origin is Counter else dict
        return lambda raw: made({key(k): each_of(v) for k, v in (_list(pair, 2) for pair in _list(raw))})
    raise CodecError(f"{kind} has no form here")


def _is_pairs(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _all_plain(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType) and all(each in _PLAIN for each in get_args(kind))


def _of_optional(kind: Any) -> Any:
    """What a union is of beside None; unions of anything else have no form, since the data could not tell which."""
    others = [each for each in get_args(kind) if each is not types.NoneType]
    if len(others) != 1:
        raise CodecError(f"{kind} has no form here")
    return others[0]


def _checked(kind: Any) -> Coder:
    """A value that JSON has itself, if it is of the type: a float may have been written as a whole number."""
    if get_origin(kind) is Literal:
        allowed = get_args(kind)
        return lambda raw: raw if raw in allowed else _must(None, kind)
    wanted = get_args(kind) or (kind,)
    accepted = {*wanted, int} if float in wanted else {*wanted}
    return lambda raw: raw if type(raw) in accepted else _must(None, kind)


def _moment(raw: Any) -> datetime:
    try:
        return datetime.fromisoformat(raw)
    except (TypeError, ValueError):
        raise CodecError(f"{raw!r:.40} is no moment") from None


def _list(raw: Any, length: int | None = None) -> list[Any]:
    if not isinstance(raw, list) or (length is not None and len(raw) != length):
        raise CodecError(f"{raw!r:.40} is no list of that kind")
    return raw


def _must(found: Any, kind: Any) -> Any:
    if found is None:
        raise CodecError(f"this is no {kind}")
    return found
