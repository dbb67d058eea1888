"""Values as JSON and back."""

import json
from collections import Counter
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, get_type_hints

import pytest

from ralph.core.codec import CodecError, decode, encode
from ralph.core.fold import State
from ralph.core.weather import Weather
from ralph.model import Cost, Direction, Experiment, JsonValue, Verdict
from tests.core.states import night

NOW = datetime(2026, 11, 26, 1, 2, 3, 456000, tzinfo=UTC)
VALUES: list[tuple[Any, Any]] = [
    (int, 3),
    (float, 1e300),
    (float, 2),
    (str, "“ü”\n"),
    (bool, True),
    (JsonValue, None),
    (JsonValue, 0.25),
    (Verdict, Verdict.KEEP),
    (Verdict | None, None),
    (datetime, NOW),
    (tuple[int, ...], (1, 2)),
    (tuple[int, float | None], (1, None)),
    (dict[str, Cost], {"claude": Cost(usd=0.5, tokens=7)}),
    (dict[tuple[int, int], float | None], {(1, 2): None, (3, 4): 0.5}),
    (Counter[Verdict], Counter({Verdict.DISCARD: 3})),
    (set[str], {"a"}),
    (Direction, Direction.MAX),
]


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=str)
def test_a_value_comes_back_as_it_was(kind: Any, value: Any) -> None:
    back = decode(kind, json.loads(json.dumps(encode(kind, value))))
    assert (back, type(back)) == (value, type(value))


def test_every_experiment_of_a_night_comes_back_as_it_was() -> None:
    for e in night().state.experiments.values():
        assert decode(Experiment, json.loads(json.dumps(encode(Experiment, e)))) == e


def test_every_field_of_a_state_has_a_form_but_for_the_tables() -> None:
    hints, state = get_type_hints(State), night().state
    for field in fields(State):
        if field.name not in ("experiments", "meanings", "memo"):
            value = getattr(state, field.name)
            assert decode(hints[field.name], json.loads(json.dumps(encode(hints[field.name], value)))) == value


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (int, "3"),
        (int, True),
        (str, 3),
        (Verdict, "perhaps"),
        (Verdict, None),
        (datetime, "yesterday"),
        (datetime, 3),
        (tuple[int, ...], {"a": 1}),
        (tuple[int, int], [1]),
        (Cost, [0.5]),
        (Cost, {"usd": 0.5, "tokens": 7}),
        (Weather, ["x", "y", "z", 1, 2, 3]),
        (dict[str, int], [["a"]]),
    ],
    ids=str,
)
def test_what_is_not_of_the_type_is_refused(kind: Any, raw: Any) -> None:
    with pytest.raises(CodecError):
        decode(kind, raw)


def test_a_type_that_the_data_could_not_tell_apart_has_no_form() -> None:
    with pytest.raises(CodecError, match="has no form"):
        encode(Cost | Verdict, Verdict.KEEP)
