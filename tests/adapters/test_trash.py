"""What is thrown away is out of the way at once, and gone in the end."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ralph.adapters.trash import Trash


@contextlib.contextmanager
def trash(folder: Path) -> Iterator[tuple[Trash, list[str]]]:
    complaints: list[str] = []
    with Trash(folder, complaints.append) as made:
        yield made, complaints


def full(folder: Path) -> Path:
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "file").write_text("x")
    return folder


def test_what_is_thrown_away_is_gone_at_once_and_from_the_disk_at_the_end(hostile: Path) -> None:
    with trash(hostile / "trash") as (bin_, complaints):
        for name in ("a", "b", "a"):
            bin_.throw(full(hostile / name))
            assert not (hostile / name).exists()
        bin_.throw(hostile / "never-there")
    assert list((hostile / "trash").iterdir()) == []
    assert complaints == []


def test_what_a_killed_supervisor_left_is_removed_by_the_next(hostile: Path) -> None:
    full(hostile / "trash" / "1")
    with trash(hostile / "trash") as (bin_, _):
        bin_.throw(full(hostile / "a"))
    assert list((hostile / "trash").iterdir()) == []


def test_a_folder_that_was_made_unwritable_goes_too(hostile: Path) -> None:
    full(hostile / "a").chmod(0o000)
    with trash(hostile / "trash") as (bin_, complaints):
        bin_.throw(hostile / "a")
    assert not (hostile / "a").exists()
    assert list((hostile / "trash").iterdir()) == []
    assert complaints == []


def test_what_cannot_be_moved_is_removed_where_it_is(hostile: Path) -> None:
    """Such as a folder on another file system."""
    with trash(hostile / "trash") as (bin_, _):
        (hostile / "trash").rename(hostile / "moved")
        (hostile / "trash").write_text("no folder")
        bin_.throw(full(hostile / "a"))
        assert not (hostile / "a").exists()


def test_whoever_needs_the_room_can_wait_for_it(hostile: Path) -> None:
    with trash(hostile / "trash") as (bin_, _):
        for number in range(20):
            bin_.throw(full(hostile / str(number)))
        bin_.settle()
        assert list((hostile / "trash").iterdir()) == []
    bin_.settle()


def test_before_the_trash_is_opened_things_are_removed_where_they_are(hostile: Path) -> None:
    bin_ = Trash(hostile / "trash", print)
    bin_.throw(full(hostile / "a"))
    bin_.settle()
    assert not (hostile / "a").exists()
