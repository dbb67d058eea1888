"""Words that strangers wrote, on a page that must not break."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ralph.core.wording import code, counted, ids, md, moment, offset, plain, span

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NASTY = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from("|`*_<>[]()#!~$&\\\n\r\t -+=1.:/@\x1b\u202e\u2028w"))
)


@given(NASTY, st.integers(min_value=2, max_value=60))
def test_plain_text_is_one_line_of_visible_characters_and_no_longer_than_asked(text: str, width: int) -> None:
    shown = plain(text, width)
    assert len(shown) <= width
    assert shown.isprintable()
    assert shown == " ".join(shown.split())


@given(NASTY)
def test_escaped_text_reads_letter_by_letter_in_a_table(text: str) -> None:
    tokens = READER.parse(f"| a | b |\n|---|---|\n| {md(text)} | end |\n")
    kinds = [t.type for t in tokens]
    assert kinds.count("td_open") == 2, "no cell appears or vanishes"
    cell = tokens[kinds.index("td_open") + 1]
    assert {child.type for child in cell.children or []} <= {"text", "text_special"}
    assert cell.content.count("\n") == 0
    assert "".join(child.content for child in cell.children or []) == plain(text)


@pytest.mark.parametrize("link", ["http://evil.example", "see www.evil.example now", "HTTPS://x.y", "a@b.example"])
def test_bare_links_are_broken_up_for_readers_that_make_links_of_them(link: str) -> None:
    assert link not in md(link)
    assert "://" not in md(link)
    assert "www." not in md(link)


def test_a_cut_never_leaves_half_an_escape() -> None:
    assert md("|" * 50, 10) == r"\|" * 9 + "…"


def test_text_of_any_size_is_cheap_to_show() -> None:
    assert len(plain("x" * 10_000_000, 80)) == 80


def test_code_cannot_be_left() -> None:
    assert code("a` <b> | `` c") == r"`a' <b> \| '' c`"
    assert code(" \n ") == ""


def test_moments_are_in_the_zone_of_the_reader() -> None:
    now = datetime(2026, 11, 23, 7, 0, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))
    assert moment(datetime(2026, 11, 23, 2, 0, tzinfo=UTC), now) == "22:30"
    assert moment(datetime(2026, 11, 1, 2, 0, tzinfo=UTC), now) == "31 Oct 22:30"
    assert offset(now) == "UTC-03:30"


def test_numbers_of_things_are_grammatical() -> None:
    assert [counted(n, "run") for n in (0, 1, 2, 12_000)] == ["0 runs", "1 run", "2 runs", "12,000 runs"]
    assert ids([1, 2], most=2) == "#1, #2"
    assert [span(s) for s in (-5, 119, 120, 3600, 172_800)] == ["0 s", "119 s", "2 min", "1 h 0 min", "2 d 0 h"]
