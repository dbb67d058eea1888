import fcntl
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from ralph.adapters.shared_page import append_shared, read_steady


def add(path: Path, chunk: str, patience_s: float = 0.3) -> None:
    append_shared(path, lambda text: "" if chunk in text else chunk, "new page\n", patience_s=patience_s)


def test_appending_keeps_every_byte_the_link_the_mode_and_the_inode(hostile: Path) -> None:
    real = hostile / "real.md"
    real.write_bytes(b"\xff\xfe not utf-8\r\nno newline")
    real.chmod(0o640)
    before = real.stat()
    (hostile / "learnings.md").symlink_to(real)
    add(hostile / "learnings.md", "\nours\n")
    add(hostile / "learnings.md", "\nours\n")
    assert real.read_bytes() == b"\xff\xfe not utf-8\r\nno newline\nours\n"
    assert (real.stat().st_ino, real.stat().st_mode) == (before.st_ino, before.st_mode)


def test_a_missing_page_is_made_first(tmp_path: Path) -> None:
    add(tmp_path / "page", "ours\n", patience_s=0.05)
    assert (tmp_path / "page").read_text() == "new page\nours\n"


def test_an_editor_that_has_the_old_file_open_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text("mine\n")
    with path.open("a") as editor:
        add(path, "ours\n", patience_s=0.1)
        editor.write("more of mine\n")
    assert path.read_text() == "mine\nours\nmore of mine\n"


def test_a_file_moved_over_ours_meanwhile_gets_the_lines_as_well(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text("old\n")
    asked: list[str] = []

    def compose(text: str) -> str:
        if not asked:
            (tmp_path / "other").write_text("saved by an editor\n")
            (tmp_path / "other").replace(path)
        asked.append(text)
        return "ours\n"

    append_shared(path, compose, "", patience_s=5.0)
    assert path.read_text() == "saved by an editor\nours\n"
    assert asked == ["old\n", "saved by an editor\n"]


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="leases are a Linux thing")
def test_nobody_opens_the_file_between_our_look_and_our_append(tmp_path: Path) -> None:
    """An `echo >>` that begins in between waits, though it knows of no lock, and comes after our line."""
    path = tmp_path / "page"
    path.write_text("mine\n")
    started: list[subprocess.Popen[bytes]] = []

    def compose(text: str) -> str:
        started.append(subprocess.Popen(["/bin/sh", "-c", 'echo >> "$1"', "sh", str(path)]))
        blocked = time.monotonic() + 0.2
        while time.monotonic() < blocked and started[0].poll() is None:
            pass
        assert started[0].poll() is None
        return "ours\n"

    append_shared(path, compose, "")
    assert started[0].wait(10) == 0
    assert path.read_text() == "mine\nours\n\n"


def test_a_lock_that_another_holds_for_ever_does_not_stop_us(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text("mine\n")
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        add(path, "ours\n", patience_s=0.1)
    assert path.read_text() == "mine\nours\n"


def test_a_page_that_was_just_emptied_is_waited_for(tmp_path: Path) -> None:
    """An editor truncates and then writes: neither reading nor appending happens in between."""
    path = tmp_path / "page"
    path.write_text("")
    seen: list[str] = []

    def compose(text: str) -> str:
        seen.append(text)
        return "ours\n"

    editor = threading.Timer(0.05, lambda: path.write_text("saved\n"))
    editor.start()
    append_shared(path, compose, "", patience_s=10.0)
    editor.join()
    assert seen == ["saved\n"]
    assert read_steady(path) == "saved\nours\n"


def test_reading_waits_for_a_file_that_is_away_for_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "page"
    appear = threading.Timer(0.05, lambda: path.write_text("back\n"))
    appear.start()
    assert read_steady(path, patience_s=10.0) == "back\n"
    appear.join()


def test_reading_is_bounded_and_forgiving(tmp_path: Path) -> None:
    assert read_steady(tmp_path / "none", patience_s=0.05) is None
    (tmp_path / "empty").touch()
    assert read_steady(tmp_path / "empty", patience_s=0.05) == ""
    (tmp_path / "latin").write_bytes(b"\xef\xbb\xbfgr\xfc\xdfe\n")
    assert read_steady(tmp_path / "latin", patience_s=0.05) == "gr\ufffd\ufffde\n"


def test_an_old_file_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    os.utime(path, (1, 1))
    begun = time.monotonic()
    assert read_steady(path, patience_s=30.0) == ""
    assert time.monotonic() - begun < 5.0
