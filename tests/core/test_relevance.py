"""Learnings about what is being worked on come before those about what is not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.core.learnings import LearntLine, format_learning, read_line
from ralph.core.relevance import by_worth, context_of, relevance, words
from ralph.model import Learning
from tests.core.states import Story


def lines(*texts: str) -> list[LearntLine]:
    made = (format_learning("nov23", n, Learning(text=t, evidence=(n,))) for n, t in enumerate(texts, start=1))
    return [found for each in made if (found := read_line(each)) is not None]


def test_identifiers_count_whole_and_in_parts_and_numbers_do_not() -> None:
    assert words("Set MATRIX_LR to 0.05") == {"set", "matrix_lr", "matrix", "lr", "to"}


def test_the_context_is_what_can_be_changed_and_what_was_tried_lately() -> None:
    story = Story().start().baseline(0.998)
    story.discard("longer rotary base", 0.999, constants={"train.py:ROTARY_BASE": 2})
    context = context_of(story.state, {"train.py": "ROTARY_BASE = 1\nDEPTH = 8\n"})
    assert context["rotary"] > context["depth"] > 0
    assert "warmup" not in context


def test_what_all_texts_say_distinguishes_none_and_length_is_no_merit() -> None:
    context = {"depth": 1.0, "rotary": 1.0}
    common, rare, long = relevance(["depth helps", "depth rotary", "depth rotary " + "and more words " * 9], context)
    assert rare > common
    assert rare > long
    assert relevance(["nothing of it"], context) == [0.0]
    assert relevance([], context) == []


@given(pages=st.lists(st.lists(st.sampled_from(("depth helps", "rotary DEPTH", "no word", "helps helps"))), max_size=4))
def test_what_was_weighed_before_changes_nothing(pages: list[list[str]]) -> None:
    context = {"depth": 2.0, "helps": 0.5, "elsewhere": 1.0}
    for texts in pages:
        many = {word: sum(word in words(text) for text in texts) for word in context}
        expected = [
            sum(context[w] * math.log(1 + len(texts) / many[w]) for w in words(text) & context.keys())
            / math.sqrt(1 + len(words(text)))
            for text in texts
        ]
        assert relevance(texts, context) == pytest.approx(expected)


def test_the_newest_the_proven_and_the_relevant_take_turns() -> None:
    old = lines("rotary base matters", *(f"idle remark {n}" for n in range(2, 40)))
    proven = LearntLine(campaign="nov23", id=2, learning=Learning(text="z", evidence=(1, 2, 3)), line="proven")
    order = list(by_worth([proven, *old], {"rotary": 1.0}))
    assert [one.learning.text for one in order[:3]] == ["idle remark 39", "z", "rotary base matters"]
    assert len(order) == len(old) + 1


def test_without_a_context_it_is_recency_and_evidence() -> None:
    valid = lines("a", "b", "c")
    assert [one.id for one in by_worth(valid, {})] == [3, 2, 1]
    assert list(by_worth([], {})) == []
