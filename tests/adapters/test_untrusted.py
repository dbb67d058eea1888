"""What an agent or a run left in place of a file: each thing that could hang, mislead or fill the reader."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.adapters.agents.proposal import read_proposal
from ralph.adapters.untrusted import UntrustedFileError, read_untrusted, read_untrusted_tail
from ralph.errors import RefusedError

NAME = "out/report.json"


def link(path: Path) -> None:
    (path.parent / "real").write_text("{}")
    path.symlink_to("real")


def link_of_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("elsewhere")
    path.write_text("{}")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)  # as `ls` sees it; the disk holds nothing


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def socket_file(path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket(socket.AF_UNIX).bind('report.json')"],
        cwd=path.parent,
        check=True,
    )


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (link, "is a symbolic link"),
    "a link to nothing": (dangling, "is a symbolic link"),
    "a link on the way": (link_of_folder, "is behind a symbolic link"),
    "a FIFO": (os.mkfifo, "is not a regular file"),
    "a folder": (Path.mkdir, "is not a regular file"),
    "a socket": (socket_file, "cannot be read: No such device or address"),
    "a huge file": (huge, "is 1,099,511,627,776 bytes long; at most 100 are read"),
}


@pytest.fixture
def root(hostile: Path) -> Path:
    (hostile / "out").mkdir()
    return hostile


@pytest.mark.timeout(10)
@pytest.mark.parametrize("how", WRONG)
def test_what_is_no_plain_file_of_a_sane_size_is_an_error_that_says_what_it_is(how: str, root: Path) -> None:
    make, says = WRONG[how]
    make(root / NAME)
    with pytest.raises(UntrustedFileError) as caught:
        read_untrusted(root, NAME, 100)
    assert str(caught.value) == says


@pytest.mark.timeout(10)
@pytest.mark.parametrize("how", sorted(set(WRONG) - {"a huge file"}))
def test_the_end_of_such_a_thing_is_not_read_either(how: str, root: Path) -> None:
    WRONG[how][0](root / NAME)
    with pytest.raises(UntrustedFileError):
        read_untrusted_tail(root, NAME, 100)


def test_a_file_is_read_whole_up_to_the_bound_and_its_end_beyond_it(root: Path) -> None:
    (root / NAME).write_bytes(b"0123456789")
    assert read_untrusted(root, NAME, 10) == b"0123456789"
    assert read_untrusted_tail(root, NAME, 3) == b"789"
    assert read_untrusted_tail(root, NAME, 99) == b"0123456789"
    with pytest.raises(UntrustedFileError, match="10 bytes long"):
        read_untrusted(root, NAME, 9)


def test_of_a_huge_file_only_the_end_is_held(root: Path) -> None:
    huge(root / NAME)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_untrusted_tail(root, NAME, 1000) == bytes(1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "KiB"


def test_a_missing_file_or_folder_is_told_apart_from_a_wrong_one(root: Path) -> None:
    for name in (NAME, "gone/report.json"):
        with pytest.raises(FileNotFoundError):
            read_untrusted(root, name, 100)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_an_error_that_says_so(root: Path) -> None:
    (root / NAME).touch(mode=0)
    with pytest.raises(UntrustedFileError, match="cannot be read: Permission denied"):
        read_untrusted(root, NAME, 100)


def test_no_descriptor_is_left_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    os.mkfifo(root / NAME)
    for name in (NAME, "out/none", "out/report.json/below"):
        with pytest.raises((UntrustedFileError, FileNotFoundError)):
            read_untrusted(root, name, 100)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (link, "proposal.json is a symbolic link"),
        (link_of_folder, "proposal.json is behind a symbolic link"),
        (os.mkfifo, "proposal.json is not a regular file"),
        (huge, "at most 262,144 are read"),
        (lambda path: path.write_bytes(b"[" * 200_000), "not usable: Invalid JSON"),
        (lambda path: path.write_bytes(b'{"hypothesis": "\\ud800"}'), "not usable"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not usable"),
        (lambda path: None, "the agent wrote no"),
    ],
    ids=["link", "link of folder", "fifo", "huge", "bottomless", "surrogate", "no UTF-8", "nothing"],
)
def test_a_proposal_that_is_something_else_is_refused_with_the_reason(
    make: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    (tmp_path / ".ralph").mkdir()
    make(tmp_path / ".ralph" / "proposal.json")
    with pytest.raises(RefusedError, match=says):
        read_proposal(tmp_path)
