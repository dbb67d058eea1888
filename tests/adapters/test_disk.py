"""Room on the disk, and the reserve."""

import shutil
from pathlib import Path

from ralph.adapters.disk import BALLAST_BYTES, GB, FolderDisk


def disk(folder: Path, min_free_bytes: int = 0) -> FolderDisk:
    return FolderDisk((folder,), folder / "state" / "ballast", min_free_bytes)


def test_there_is_room_until_there_is_not(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert disk(tmp_path, free // 2).shortage() == ""
    said = disk(tmp_path, 2 * free).shortage()
    assert said.startswith("the disk is nearly full: ")
    assert f"{2 * free / GB:.1f} GB are wanted (limits.spare_disk_gb)" in said
    assert str(tmp_path) in said


def test_a_folder_that_is_not_there_yet_is_measured_where_it_will_be(tmp_path: Path) -> None:
    assert disk(tmp_path / "not" / "yet").shortage() == ""


def test_the_reserve_takes_its_bytes_and_gives_them_back_once(tmp_path: Path) -> None:
    made = disk(tmp_path)
    made.lay_ballast()
    ballast = tmp_path / "state" / "ballast"
    assert ballast.stat().st_size == BALLAST_BYTES
    assert ballast.stat().st_blocks * 512 >= BALLAST_BYTES
    assert made.relieve()
    assert not ballast.exists()
    assert not made.relieve()
    assert "the disk was full for a moment" in made.shortage(), "nothing begins in this loop any more"
    made.lay_ballast()
    assert ballast.exists()


def test_a_reserve_that_cannot_be_laid_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in the way")
    made = disk(tmp_path)
    made.lay_ballast()
    assert not made.relieve()


def test_what_is_being_removed_is_waited_for_before_room_is_called_short(tmp_path: Path) -> None:
    waited: list[str] = []
    assert FolderDisk((tmp_path,), tmp_path / "ballast", 1, lambda: waited.append("?")).shortage() == ""
    assert waited == []
    assert "nearly full" in FolderDisk((tmp_path,), tmp_path / "ballast", 2**62, lambda: waited.append("!")).shortage()
    assert waited == ["!"]
