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
