import contextlib
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ralph.adapters.files import append_line, create, last_lines, remove_tree, write_atomic


def test_a_whole_file_is_replaced_with_its_mode_kept_and_nothing_left_beside_it(hostile: Path) -> None:
    path = hostile / "sub" / "progress.md"
    write_atomic(path, "one\n")
    path.chmod(0o600)
    write_atomic(path, b"two\n", durable=False)
    assert path.read_bytes() == b"two\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["progress.md"]


def test_a_link_keeps_pointing_where_it_did(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_reader_never_sees_half_a_file_whenever_the_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "page"
    program = """
        import sys; from pathlib import Path; from ralph.adapters.files import write_atomic
        for n in range(10**9):
            write_atomic(Path(sys.argv[1]), f"{n % 10}" * 300_000, durable=False)
            if n == 0: print("begun", flush=True)
    """
    seen: set[str] = set()
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), str(path)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            end, reads = time.monotonic() + 30, 0
            while (reads < 40 or len(seen) < 2) and time.monotonic() < end:  # until the writer had its turn
                text = path.read_text()
                seen.add(text[:1])
                reads += 1
                assert text == text[:1] * 300_000
            child.kill()
        assert path.read_text() == path.read_text()[:1] * 300_000
    assert len(seen) > 1
    write_atomic(path, "whole")
    assert os.listdir(tmp_path) == ["page"]


def test_when_the_disk_is_full_the_old_file_stays_and_the_error_is_raised(tmp_path: Path) -> None:
    """A limit on the size of files stands for the end of the disk."""
    program = """
        import resource, signal, sys; from pathlib import Path
        from ralph.adapters.files import append_line, write_atomic
        page, rows = Path(sys.argv[1], "page"), Path(sys.argv[1], "rows")
        write_atomic(page, "old"); append_line(rows, "one")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        for write in (lambda: write_atomic(page, "x" * 1000), lambda: append_line(rows, "y" * 1000)):
            try: write()
            except OSError: print("refused")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert done.stdout == "refused\nrefused\n"
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"page": "old", "rows": "one\n"}


def test_creating_never_replaces(tmp_path: Path) -> None:
    assert create(tmp_path / "a", "mine")
    assert not create(tmp_path / "a", "yours")
    assert (tmp_path / "a").read_text() == "mine"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("torn", ["", '{"half', "x" * 200_000])
def test_a_torn_last_row_is_cut_before_the_next_one(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "rows"
    path.write_text("one\ntwo\n" + torn)
    append_line(path, "three")
    assert path.read_text() == "one\ntwo\nthree\n"


def test_a_file_that_is_nothing_but_a_torn_row_starts_again(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("torn")
    append_line(tmp_path / "rows", "one")
    assert (tmp_path / "rows").read_text() == "one\n"


def test_a_row_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than one line"):
        append_line(tmp_path / "rows", "a\nb")


@pytest.mark.parametrize(
    ("most", "expected"), [(9, ["three"]), (10, ["two", "three"]), (1000, ["one", "two", "three"])]
)
def test_the_last_rows_are_whole_ones(tmp_path: Path, most: int, expected: list[str]) -> None:
    (tmp_path / "rows").write_text("one\ntwo\nthree\ntorn"[:-4])
    assert last_lines(tmp_path / "rows", most) == expected
    with (tmp_path / "rows").open("a") as file:
        file.write("torn")
    assert last_lines(tmp_path / "rows", most + 4) == expected
    assert last_lines(tmp_path / "none") == []


def test_trees_without_permissions_go_and_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    deep = tmp_path / "gone" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    (deep / "link").symlink_to(kept)
    for folder in (deep, deep.parent):
        folder.chmod(0)
    remove_tree(tmp_path / "gone")
    remove_tree(tmp_path / "gone")
    (tmp_path / "link").symlink_to(kept)
    remove_tree(tmp_path / "link")
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").exists()


def test_whatever_a_payload_made_goes(tmp_path: Path) -> None:
    """FIFOs, which would make a reader wait; locked folders; names that no path is long enough for; links."""
    place, outside = tmp_path / "place", tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").touch()
    (place / "locked" / "inner" / ".removing-1").mkdir(parents=True)
    (place / ".removing-1").mkdir()
    (place / "locked" / "inner" / "link").symlink_to(outside)
    os.mkfifo(place / "locked" / "fifo")
    for folder in (place / "locked" / "inner", place / "locked"):
        folder.chmod(0)
    with contextlib.chdir(place):
        for _ in range(1500):
            Path("d" * 100).mkdir()
            os.chdir("d" * 100)
    remove_tree(place)
    os.mkfifo(tmp_path / "fifo")
    remove_tree(tmp_path / "fifo")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "outside"]
