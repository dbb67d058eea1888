"""An arena in a folder of its own: the fixed files and train.py, with a corpus that is ready in a second."""

import shutil
from pathlib import Path

WORKSPACE = Path(__file__).parents[2] / "workspace"
OPTIONS = """
corpus = "files"
paths = ["texts"]
vocab_size = 300
sequence_len = 32
score_batch = 4
val_bytes = 4000
"""


def make_texts(folder: Path) -> Path:
    """Some text: our own sources."""
    texts = folder / "texts"
    texts.mkdir(parents=True)
    for path in WORKSPACE.glob("*.py"):
        shutil.copy(path, texts / f"{path.stem}.txt")
    return texts


def make_arena(folder: Path, options: str = OPTIONS) -> Path:
    """A copy of the default arena at folder/workspace, with other data options."""
    arena = folder / "workspace"
    arena.mkdir()
    for path in WORKSPACE.glob("*.py"):
        shutil.copy(path, arena)
    (arena / "arena.toml").write_text(f"[run]\nbudget_s = 7\n[run.cpu]\nbudget_s = 1.5\n[data.options]\n{options}")
    make_texts(arena)
    return arena
