"""Worktrees by hand: a folder and what the repository keeps of it, written as gitrepository-layout(5) describes.

`git worktree add` does the same in three processes, and `git worktree prune` forgets the worktrees of everybody else on
the way, for instance those on a disk that is not mounted at the moment.
"""

import contextlib
from pathlib import Path

from ralph.adapters.files import remove_tree


def admin_folder(common: Path, tree: Path) -> Path | None:
    """The folder of worktree `tree` below `common`, the repository's own; None if it is none of its worktrees.

    git names it after the worktree's folder, with a number behind it when another worktree, of a second arena or of
    the user, had that name first; so it is looked for by what it points to. The worktree's own `.git` is not asked,
    since an agent could have changed it.
    """
    trees = tree.parent.resolve()
    for file in (common / "worktrees").glob("*/gitdir"):
        with contextlib.suppress(OSError):  # pruned meanwhile
            place = (file.parent / file.read_text().rstrip("\n")).parent  # git may have written a relative path
            if place.name == tree.name and place.parent.resolve() == trees:
                return file.parent
    return None


def add_worktree(common: Path, tree: Path, commit: str) -> Path:
    """Make an empty worktree that has `commit`, a full object name, checked out; its folder below `common`.

    Where it is to be, there is nothing or an empty folder.

    Killed before the last line, it leaves a folder that `git worktree prune` takes away, as git itself would.
    """
    admin = _fresh_folder(common / "worktrees", tree.name)
    (admin / "commondir").write_text("../..\n")
    (admin / "HEAD").write_text(f"{commit}\n")
    (admin / "gitdir").write_text(f"{tree / '.git'}\n")
    tree.mkdir(exist_ok=True)
    (tree / ".git").write_text(f"gitdir: {admin}\n")
    return admin


def forget_worktree(common: Path, tree: Path) -> None:
    """Remove what the repository keeps of a worktree; nothing happens if it keeps nothing."""
    admin = admin_folder(common, tree)
    if admin is not None:
        remove_tree(admin)
        with contextlib.suppress(OSError):  # others have theirs in it
            admin.parent.rmdir()


def _fresh_folder(worktrees: Path, name: str) -> Path:
    """A folder that nobody had before: two may ask for the same name at the same moment."""
    number = 0
    while True:
        folder = worktrees / (f"{name}{number}" if number else name)
        worktrees.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
        number += 1
