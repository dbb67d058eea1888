"""Fixtures for everybody: a folder with a hostile name, a repository in it, and the proof that no process is left."""

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before numpy and torch are imported: threads that wait for each other on two busy cores cost fifty times the work.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

HOSTILE = 'it\'s a "hostile" näme; $(touch x) & more'


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder whose name has blanks, quotes and shell syntax."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    return folder


def git(folder: Path, *args: str) -> str:
    """Run git as a user would."""
    identity = ["-c", "user.name=A User", "-c", "user.email=user@example.org"]
    done = subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(hostile: Path) -> Path:
    """A repository with one committed arena at its top: train.py (editable), prepare.py (fixed), program.md."""
    git(hostile, "init", "-q", "-b", "main")
    (hostile / "train.py").write_text("LEARNING_RATE = 0.1  # per step\nprint('val_bpb:', 1.0 + LEARNING_RATE)\n")
    (hostile / "prepare.py").write_text("FIXED = True\n")
    (hostile / "program.md").write_text("Make val_bpb small.\n")
    git(hostile, "add", ".")
    git(hostile, "commit", "-q", "-m", "An arena")
    return hostile


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[int]]]:
    """Every process that the test starts inherits a mark; the fixture proves that none is left at the end."""
    mark = f"RALPH_TEST_MARK={uuid.uuid4().hex}"
    monkeypatch.setenv(*mark.split("="))

    def left() -> list[int]:
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                try:
                    environment = Path("/proc", name, "environ").read_bytes()
                except OSError:
                    continue
                if mark.encode() in environment:
                    found.append(int(name))
        return found

    yield left
    assert left() == [], "processes of this test are still alive"
