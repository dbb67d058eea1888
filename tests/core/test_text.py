import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ralph.core.text import fence_for, fenced, head, one_line, tail, tokens

WORDS = st.text(alphabet="ab `~\n<!->é漢(", max_size=300)


@settings(deadline=None)
@given(WORDS, st.integers(0, 80))
def test_a_cut_text_fits_and_keeps_whole_lines_from_the_asked_end(text: str, limit: int) -> None:
    for cut in (head, tail):
        short = cut(text, limit)
        assert tokens(short) <= limit or (short == "" and limit == 0)
        if short != "\n".join(text.splitlines()) and short:
            assert "lines left out" in short


def test_a_line_without_end_is_cut_before_it_is_left_out() -> None:
    assert head("x" * 5000 + "\nend", 400).startswith("x" * 1000 + "…\n")


@settings(deadline=None)
@given(WORDS)
def test_nothing_inside_closes_its_fence(text: str) -> None:
    first, *body, last = fenced(text, "data").split("\n")
    assert first == last + "data"
    assert not any(line.strip().startswith(last) for line in body)
    assert fence_for(text)[0] in "`~"


@settings(deadline=None)
@given(WORDS, st.integers(0, 40))
def test_a_line_is_one_line_of_bounded_length_without_comment_marks(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert "\n" not in line
    assert "<!--" not in line
    assert "-->" not in line
    assert not limit or len(line) <= limit


@pytest.mark.parametrize(
    ("text", "at_least"),
    [
        ("The quick brown fox jumps over the lazy dog. " * 20, 200),  # about 10 a sentence in common vocabularies
        ("x = self.norm(x + self.attention(x, mask=None))\n" * 20, 300),  # about 15 a line
        ("漢字" * 100, 200),
        ("0123456789" * 20, 66),  # digits in threes
    ],
)
def test_the_estimate_does_not_fall_short(text: str, at_least: int) -> None:
    assert tokens(text) >= at_least


def test_the_estimate_of_a_whole_is_no_more_than_that_of_its_lines() -> None:
    lines = ["a b c", "((((", "", "漢", "word " * 50]
    assert tokens("\n".join(lines)) <= sum(tokens(line + "\n") for line in lines)


@settings(deadline=None)
@given(st.text(alphabet="ab_ \t\n\r\x1c\x85\u2028é漢—(1", max_size=300))
def test_words_and_marks_are_counted_line_by_line_as_in_the_whole(text: str) -> None:
    pieces = len(re.findall(r"\w+|[^\w\s]", text))
    assert tokens(text) == max(-(-len(text.encode()) // 3), -(-pieces * 13 // 10))
