"""The sealed copy: whatever is changed in it is noticed and put right."""

import shutil
from pathlib import Path

import pytest

from ralph.adapters.seal import Seal

FILES = {"language_model.py": b"score = 1\n", "arena/prepare.py": b"FIXED = True\n"}


@pytest.fixture
def seal(tmp_path: Path) -> Seal:
    made = Seal(tmp_path / "sealed")
    made.make(FILES)
    return made


def whole(seal: Seal) -> bool:
    return all((seal.folder / name).read_bytes() == data for name, data in FILES.items())


def tamper(seal: Seal, how: str) -> str:
    """Change something; the name that must be said."""
    scorer, arena = seal.folder / "language_model.py", seal.folder / "arena"
    match how:
        case "edit":
            scorer.write_text("score = 0\n")
        case "remove":
            scorer.unlink()
        case "add":
            (seal.folder / "numpy.py").write_text("evil = True\n")
            return "numpy.py"
        case "symlink":
            scorer.unlink()
            scorer.symlink_to("/etc/hostname")
        case "folder in place of a file":
            scorer.unlink()
            scorer.mkdir()
        case "symlink in place of a folder":
            shutil.rmtree(arena)
            arena.symlink_to("/tmp")
            return "arena"
        case _:
            raise AssertionError(how)
    return "language_model.py"


@pytest.mark.parametrize(
    "how", ["edit", "remove", "add", "symlink", "folder in place of a file", "symlink in place of a folder"]
)
def test_a_change_in_the_copy_is_named_and_put_right(seal: Seal, how: str) -> None:
    assert seal.broken() == ""
    name = tamper(seal, how)
    said = seal.broken()
    assert name in said
    assert "put right" in said
    assert whole(seal)
    assert seal.broken() == ""


def test_making_it_again_keeps_what_is_there_and_gives_the_same_digest(seal: Seal) -> None:
    digest = seal.make(FILES)
    (seal.folder / "language_model.py").write_text("score = 0\n")
    assert Seal(seal.folder).make(FILES) == digest
    assert whole(seal)
