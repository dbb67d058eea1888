"""Contents of objects, wherever git keeps them."""

import hashlib
import subprocess
from pathlib import Path
from typing import BinaryIO

import pytest

from ralph.adapters.git_command import run
from ralph.adapters.git_objects import Objects
from ralph.errors import GitError
from tests.conftest import git

TEXTS = (b"one\n", b"", b"\x00\xff" * 70_000)


def objects_of(repository: Path, asked: list[tuple[str, ...]] | None = None) -> Objects:
    def command(*args: str, stdin: BinaryIO | None = None) -> bytes:
        if asked is not None:
            asked.append(args)
        return run(repository, args, env={}, stdin=stdin)

    return Objects(repository / ".git", command)


def written(repository: Path, texts: tuple[bytes, ...] = TEXTS) -> list[str]:
    """Their names, once they are loose objects."""
    command = ["git", "hash-object", "-w", "--stdin"]
    done = (subprocess.run(command, input=each, cwd=repository, capture_output=True, check=True) for each in texts)
    return [each.stdout.decode().strip() for each in done]


def test_new_ones_are_read_without_a_process(repository: Path) -> None:
    asked: list[tuple[str, ...]] = []
    assert objects_of(repository, asked).read([*written(repository), written(repository)[0]]) == [*TEXTS, TEXTS[0]]
    assert asked == []


def test_packed_borrowed_and_new_ones_come_in_the_order_of_their_names(repository: Path, tmp_path: Path) -> None:
    (repository / "two.txt").write_text("two\n")
    git(repository, "add", "two.txt")
    git(repository, "commit", "-qm", "two")
    packed = git(repository, "rev-parse", "HEAD:two.txt")
    git(repository, "repack", "-qad")
    git(tmp_path, "clone", "-q", "--shared", str(repository), "borrower")
    one, empty, large = written(tmp_path / "borrower")
    asked: list[tuple[str, ...]] = []
    objects = objects_of(tmp_path / "borrower", asked)
    assert objects.read([large, packed, one, empty, packed]) == [TEXTS[2], b"two\n", TEXTS[0], TEXTS[1], b"two\n"]
    assert len(asked) == 1


def test_what_is_missing_is_named(repository: Path) -> None:
    with pytest.raises(GitError, match="e" * 40):
        objects_of(repository).read([written(repository)[0], "e" * 40])


@pytest.mark.parametrize("damage", ["nonsense", "cut", "a bit"])
def test_what_is_broken_is_an_error_and_never_other_contents(repository: Path, damage: str) -> None:
    text = bytes(hashlib.shake_128(b"seed").digest(30_000))
    (name,) = written(repository, (text,))
    file = repository / ".git" / "objects" / name[:2] / name[2:]
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    broken = {"nonsense": b"nonsense", "cut": file.read_bytes()[:4096], "a bit": bytes(whole)}
    file.chmod(0o644)
    file.write_bytes(broken[damage])
    with pytest.raises(GitError):
        objects_of(repository).read([name])
