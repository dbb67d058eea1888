"""Events as the ledger has them, held against what a library for such things makes of them."""

import json
import math
import re
from datetime import UTC
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ralph.core.ledger_form import FormError, event_form, event_of
from ralph.events import AgentEnded, Committed, Event, Scored, Settled
from ralph.model import Superseded
from tests.core.states import night

LATER = st.none() | st.datetimes(timezones=st.just(UTC))
EVENTS: st.SearchStrategy[Any] = st.one_of(
    [st.builds(kind, resume_at=LATER) if kind is AgentEnded else st.builds(kind) for kind in get_args(Event)]
)
NUMBERS = st.floats(-1e15, 1e15) | st.sampled_from((math.nan, math.inf))  # beyond 2**63 only ours makes an int of them
VALUES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text() | st.just([]) | st.just({})
)


def shown(event: Any) -> str:
    """All of it, with types; NaN is not equal to itself. The library has a class of its own for UTC."""
    return re.sub(r"TzInfo\(\w+\)", "datetime.timezone.utc", repr(event))


@given(event=EVENTS)
def test_any_event_has_the_form_that_the_library_gives_it_and_comes_back(event: Any) -> None:
    library = TypeAdapter(type(event))
    line = json.dumps(event_form(event))
    back = event_of(json.loads(line))
    assert shown(back) == shown(library.validate_python(json.loads(line)))
    assert json.dumps(library.dump_python(back, mode="json")) == json.dumps(event_form(back)) == line


@given(event=EVENTS, data=st.data())
def test_a_value_that_is_not_of_its_type_is_refused_and_never_taken_for_another_than_the_library_takes_it_for(
    event: Any, data: st.DataObject
) -> None:
    form = event_form(event)
    name = data.draw(st.sampled_from(sorted(form.keys() - {"kind"}) or ["unknown"]))
    if data.draw(st.booleans()):
        form.pop(name, None)
    else:
        form[name] = data.draw(VALUES)
    try:
        ours = event_of(form)
    except FormError:
        return
    assert shown(ours) == shown(TypeAdapter(type(event)).validate_python(form))


def test_every_event_of_a_night_comes_back_as_it_was() -> None:
    for entry in night().entries:
        assert event_of(json.loads(json.dumps(event_form(entry.event)))) == entry.event


def test_a_field_that_is_missing_has_its_default_and_an_unknown_one_is_left_out() -> None:
    assert event_of({"kind": "settled", "id": 3, "colour": "red"}) == Settled(id=3)
    form = {"kind": "scored", "id": 1, "run": 1, "outcome": "ok", "score": 2, "seconds": 1}
    scored = event_of(form)
    assert scored == TypeAdapter(Scored).validate_python(form)
    assert isinstance(scored, Scored)
    assert isinstance(scored.score, float)


def test_a_whole_float_counts_for_an_int() -> None:
    assert event_of({"kind": "settled", "id": 3.0}) == Settled(id=3)


def test_the_first_ledgers_have_only_the_name_of_what_is_superseded() -> None:
    old = {"kind": "committed", "id": 1, "commit": "c", "hypothesis": "x", "expected": "", "supersedes": ["#3"]}
    committed = event_of(old)
    assert isinstance(committed, Committed)
    assert committed.supersedes == (Superseded(learning="#3"),)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {},
        {"kind": "gone"},
        {"kind": ["settled"], "id": 1},
        {"kind": "settled"},
        {"kind": "settled", "id": "1"},
        {"kind": "settled", "id": 1.5},
        {"kind": "settled", "id": float("inf")},
        {"kind": "settled", "id": None},
        {"kind": "scored", "id": 1, "run": 1, "outcome": "ok", "score": 10**400},
        {"kind": "scored", "id": 1, "run": 1, "outcome": "fine"},
        {"kind": "briefed", "id": 1, "base": "b", "agent": "a", "guidance": "no list"},
        {"kind": "committed", "id": 1, "commit": "c", "hypothesis": "x", "expected": "", "learnings": ["no learning"]},
        {"kind": "committed", "id": 1, "commit": "c", "hypothesis": "x", "expected": "", "constants": {"A": [1]}},
    ],
    ids=str,
)
def test_what_is_no_event_is_refused(raw: Any) -> None:
    with pytest.raises(FormError):
        event_of(raw)
