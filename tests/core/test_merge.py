"""Line-for-line merges: what neighbouring constants need, and nothing more."""

import pytest

from ralph.core.merge import line_for_line

BASE = "A = 1\nB = 2\nC = 3\n"


@pytest.mark.parametrize(
    ("ours", "theirs", "merged"),
    [
        ("A = 9\nB = 2\nC = 3\n", "A = 1\nB = 8\nC = 3\n", "A = 9\nB = 8\nC = 3\n"),
        ("A = 9\nB = 2\nC = 3\n", "A = 9\nB = 2\nC = 7\n", "A = 9\nB = 2\nC = 7\n"),
        (BASE, "A = 1\nB = 8\nC = 3\n", "A = 1\nB = 8\nC = 3\n"),
        ("A = 1\nB = 2\nC = 7", "A = 5\nB = 2\nC = 3\n", "A = 5\nB = 2\nC = 7"),
    ],
)
def test_lines_that_one_side_changed_are_that_sides(ours: str, theirs: str, merged: str) -> None:
    assert line_for_line(BASE, ours, theirs) == merged
    assert line_for_line(BASE, theirs, ours) == merged


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("A = 9\nB = 2\nC = 3\n", "A = 8\nB = 2\nC = 3\n"),  # one line, two values
        ("A = 1\nB = 2\nC = 3\nD = 4\n", "A = 9\nB = 2\nC = 3\n"),  # a line came
        ("A = 1\nC = 3\n", "A = 9\nB = 2\nC = 3\n"),  # a line went
        ("", "A = 9\nB = 2\nC = 3\n"),
    ],
)
def test_what_contradicts_itself_or_moves_lines_is_left_to_a_person(ours: str, theirs: str) -> None:
    assert line_for_line(BASE, ours, theirs) is None
