"""What git says is read to the byte, also of paths and contents that look like its own punctuation."""

import pytest

from ralph.adapters.git_output import read_changes, read_objects
from ralph.errors import GitError

BLOB, OTHER, NONE = "1" * 40, "2" * 40, "0" * 40


def test_changes_have_modes_blobs_and_lines_of_the_newer_side() -> None:
    out = (
        f":100644 100755 {BLOB} {OTHER} M\0:odd name\n\0:100644 000000 {BLOB} {NONE} D\0gone\0"
        f":000000 100644 {NONE} {OTHER} A\0picture\0"
        "3\t1\t:odd name\n\0" + "0\t7\tgone\0" + "-\t-\tpicture\0"
    )
    changes = read_changes(out)
    assert {path: (c.mode, c.exists, c.lines_added, c.lines_removed) for path, c in changes.items()} == {
        ":odd name\n": ("100755", True, 3, 1),
        "gone": ("000000", False, 0, 7),
        "picture": ("100644", True, 0, 0),
    }


def test_no_change_is_no_path() -> None:
    assert read_changes("") == {}


def test_objects_come_in_the_order_of_the_question_whatever_is_in_them() -> None:
    tricky = b"b blob 3\nxyz\n"
    out = b"a blob %d\n%s\nb blob 0\n\n" % (len(tricky), tricky)
    assert read_objects(out, ["a", "b"]) == [tricky, b""]


@pytest.mark.parametrize("out", [b"", b"a missing\n", b"a"])
def test_an_object_that_is_missing_is_named(out: bytes) -> None:
    with pytest.raises(GitError, match="object a cannot be read"):
        read_objects(out, ["a"])
