"""Events as the ledger has them, JSON objects with a name for each field, and back.

Kinds only grow, and any old ledger replays: a field that is not there has its default, one that is not known is left
out. A number counts for a float or an int that it is equal to. Whatever else is not of the annotated type is refused.
Written out here, since `ralph status` would spend most of its time on loading a library that does the same.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ralph.events import Event
from ralph.model import Superseded

_Coder = Callable[[Any], Any]
_PLAIN = (str, int, float, bool, types.NoneType)


class FormError(ValueError):
    """A value that is not of its type."""


def event_form(event: Event) -> dict[str, Any]:
    """The fields of an event by name, as values that JSON has."""
    kind: Any = type(event)
    form: dict[str, Any] = _writer(kind)(event)
    return form


def event_of(raw: Any) -> Event:
    """The event of which `raw` is the form. Raises FormError when it is none, or none that is known."""
    name = raw.get("kind") if isinstance(raw, dict) else None
    kind = _kinds().get(name) if isinstance(name, str) else None
    if kind is None:
        raise FormError(f"there is no kind of event by the name of {name!r:.40}")
    event: Event = _reader(kind)(raw)
    return event


@cache
def _kinds() -> Mapping[str, Any]:
    return {str(f.default): each for each in get_args(Event) for f in fields(each) if f.name == "kind"}


def _shape(kind: type[Any]) -> list[tuple[str, Any]]:
    hints = get_type_hints(kind)
    return [(f.name, hints[f.name]) for f in fields(kind)]


def _is_plain(kind: Any) -> bool:
    return kind in _PLAIN or (_is_union(kind) and set(get_args(kind)) <= {*_PLAIN})


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _of(kind: Any) -> Any:
    """What a union with None, a tuple of any length, or a mapping from words is of."""
    (one,) = [each for each in get_args(kind) if each not in (types.NoneType, Ellipsis)][-1:]
    return one


@cache
def _writer(kind: Any) -> _Coder:
    if _is_plain(kind) or get_origin(kind) is Literal:
        return lambda value: value
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value: value.value
    if kind is datetime:
        return lambda value: value.isoformat().replace("+00:00", "Z")
    if is_dataclass(kind):
        shape = [(name, _writer(type_)) for name, type_ in _shape(kind)]  # type: ignore[arg-type]
        return lambda value: {name: write(getattr(value, name)) for name, write in shape}
    item = _writer(_of(kind))
    if _is_union(kind):
        return lambda value: None if value is None else item(value)
    if get_origin(kind) is tuple:
        return lambda value: [item(each) for each in value]
    return lambda value: {name: item(each) for name, each in value.items()}


@cache
def _reader(kind: Any) -> _Coder:
    if _is_plain(kind):
        accepted = _accepted(kind)
        return lambda raw: raw if type(raw) in accepted else _number(raw, accepted, kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda raw: kind(_must(raw, isinstance(raw, str), kind))
    if kind is datetime:
        return lambda raw: datetime.fromisoformat(_must(raw, isinstance(raw, str), kind))
    if is_dataclass(kind):
        return _dataclass_reader(kind)
    item = _reader(_of(kind))
    if _is_union(kind):
        return lambda raw: None if raw is None else item(raw)
    if get_origin(kind) is tuple:
        return lambda raw: tuple([item(each) for each in _must(raw, isinstance(raw, list), kind)])
    return lambda raw: {name: item(each) for name, each in _must(raw, isinstance(raw, dict), kind).items()}


def _accepted(kind: Any) -> frozenset[type]:
    """The types of values that are taken as they are."""
    return frozenset(get_args(kind) or (kind,)) if _is_plain(kind) else frozenset()


def _number(raw: Any, accepted: frozenset[type], kind: Any) -> int | float:
    """A whole number may have been written for a float, and the other way round."""
    if isinstance(raw, int | float) and float in accepted:
        return float(raw)
    whole = isinstance(raw, int) or (isinstance(raw, float) and raw.is_integer())
    return int(_must(raw, whole and int in accepted, kind))


def _dataclass_reader(kind: Any) -> _Coder:
    # the kind of an event is known; most fields are plain, and no function is called for them
    shape = [(name, _accepted(type_), _reader(type_)) for name, type_ in _shape(kind) if name != "kind"]

    def made(raw: Any) -> Any:
        if kind is Superseded and isinstance(raw, str):  # the first ledgers have only the name of what is superseded
            return Superseded(learning=raw)
        found: dict[str, Any] = {}
        try:
            for name, accepted, read in shape:
                if name in raw:
                    value = raw[name]
                    found[name] = value if type(value) in accepted else read(value)
            return kind(**found)
        except (TypeError, ValueError, OverflowError) as error:
            raise FormError(f"this is no {kind.__name__}: {error}") from None

    return made


def _must(raw: Any, fits: bool, kind: Any) -> Any:
    if not fits:
        raise FormError(f"{raw!r:.40} is no {getattr(kind, '__name__', kind)}")
    return raw
