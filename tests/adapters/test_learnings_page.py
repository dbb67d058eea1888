from pathlib import Path

import pytest

from ralph.adapters.learnings_page import LearningsPage
from ralph.core.learnings import HEADING, NEW_PAGE

A, B = "- [c#1] a (evidence: #0)", "- [c#2] b (no evidence given)"


@pytest.fixture
def folder(hostile: Path) -> Path:
    return hostile


def page(folder: Path) -> LearningsPage:
    """A page as a supervisor that starts afresh sees it."""
    return LearningsPage(folder / "learnings.md", folder / "learned.jsonl")


def text(folder: Path) -> str:
    return (folder / "learnings.md").read_text()


def test_the_page_is_made_with_a_place_for_guidance_and_read_back(folder: Path) -> None:
    assert page(folder).read().human == ()
    assert text(folder) == NEW_PAGE
    (folder / "learnings.md").write_text(NEW_PAGE.replace("## Guidance\n", "## Guidance\n- shorter windows\n"))
    assert page(folder).read().human == ("- shorter windows",)


def test_a_repeated_call_after_a_restart_adds_nothing(folder: Path) -> None:
    page(folder).add("c", [A, B])
    page(folder).add("c", [A, B])
    assert text(folder) == f"{NEW_PAGE}{A}\n{B}\n"


def test_a_crash_between_the_append_and_its_memory_adds_nothing(folder: Path) -> None:
    page(folder).add("c", [A])
    (folder / "learned.jsonl").write_text('{"line": "torn')
    page(folder).add("c", [A])
    assert text(folder).count(A) == 1


def test_lines_that_an_editor_saved_over_come_back_with_the_next_ones(folder: Path) -> None:
    page(folder).add("c", [A])
    (folder / "learnings.md").write_text("the older copy, edited\n")
    page(folder).add("c", [B])
    assert text(folder) == f"the older copy, edited\n\n{HEADING}\n\n{A}\n{B}\n"


def test_lines_that_an_editor_saved_over_come_back_before_the_next_brief(folder: Path) -> None:
    ours = page(folder)
    ours.add("c", [A])
    (folder / "learnings.md").write_text("mine\n")
    assert [each.line for each in ours.read().learnings] == [A]


def test_a_line_deleted_twice_stays_away_also_after_a_restart(folder: Path) -> None:
    ours = page(folder)
    for _ in range(2):
        ours.add("c", [A])
        (folder / "learnings.md").write_text("mine\n")
    ours.add("c", [A])
    assert ours.read().learnings == ()
    page(folder).add("c", [A, B])
    assert text(folder) == f"mine\n\n{HEADING}\n\n{B}\n"


def test_a_line_in_the_humans_wording_stays_as_it_is(folder: Path) -> None:
    ours = page(folder)
    ours.add("c", [A])
    (folder / "learnings.md").write_text(text(folder).replace(A, "- [c#1] a, on a CPU (evidence: #0)"))
    ours.add("c", [B])
    assert A not in text(folder)


def test_lines_of_an_older_campaign_that_were_cleared_away_stay_away(folder: Path) -> None:
    page(folder).add("old", ["- [old#1] x (no evidence given)"])
    (folder / "learnings.md").write_text(NEW_PAGE)
    ours = page(folder)
    ours.read()
    ours.add("c", [A])
    assert text(folder) == f"{NEW_PAGE}{A}\n"


def test_two_campaigns_write_to_one_page_without_minding_each_other(folder: Path) -> None:
    one, other = page(folder), LearningsPage(folder / "learnings.md", folder / "other.jsonl")
    other_line = "- [d#1] a (evidence: #0)"
    one.add("c", [A])
    other.add("d", [other_line])
    one.add("c", [B])
    assert text(folder) == f"{NEW_PAGE}{A}\n{other_line}\n{B}\n"


def test_a_page_that_nobody_touched_is_not_read_again(folder: Path) -> None:
    ours = page(folder)
    ours.add("c", [A])
    first = ours.read()
    assert ours.read() is first
    (folder / "learnings.md").write_text(text(folder) + "- mine\n")
    assert ours.read().learnings == first.learnings


def test_what_is_appended_to_a_known_page_is_what_a_new_reader_finds(folder: Path) -> None:
    ours = page(folder)
    ours.add("c", [A])
    ours.read()
    for n in range(3, 9):
        ours.add("c", [f"- [c#{n}] line {n} (evidence: #{n - 1})"])
        assert ours.read() == page(folder).read()
    ours.add("c", [B, B, A])
    assert ours.read() == page(folder).read()
    assert (text(folder).count(A), text(folder).count(B)) == (1, 1)


def test_an_edit_between_two_learnings_is_seen_and_kept(folder: Path) -> None:
    ours = page(folder)
    ours.add("c", [A])
    ours.read()
    (folder / "learnings.md").write_text(text(folder).replace("## Guidance\n", "## Guidance\n- wider\n"))
    ours.add("c", [B])
    assert ours.read().human == ("- wider",)
    assert [each.line for each in ours.read().learnings] == [A, B]


def test_a_line_that_closes_a_comment_makes_the_page_be_read_anew(folder: Path) -> None:
    ours = page(folder)
    ours.add("c", [A])
    (folder / "learnings.md").write_text("<!-- open\n" + text(folder))
    ours.read()
    ours.add("c", ["- [c#3] closes --> it (no evidence given)"])
    assert ours.read() == page(folder).read()


def test_a_crash_between_the_append_and_its_memory_adds_nothing_to_a_known_page(folder: Path) -> None:
    page(folder).add("c", [A])
    (folder / "learned.jsonl").unlink()
    ours = page(folder)
    ours.add("c", [B])
    ours.read()
    ours.add("c", [A])
    assert text(folder).count(A) == 1


def test_the_first_learning_of_a_supervisor_that_knows_the_page_brings_lost_lines_back(folder: Path) -> None:
    page(folder).add("c", [A])
    (folder / "learnings.md").write_text(text(folder).replace(f"{A}\n", ""))
    ours = page(folder)
    assert ours.read().learnings == ()
    ours.add("c", [B])
    assert [each.line for each in ours.read().learnings] == [A, B]
    assert ours.read() == page(folder).read()
    ours.add("d", [])
    assert ours.read() == page(folder).read()
