"""Where a repository keeps what it knows of a worktree."""

import contextlib
import shutil
from pathlib import Path


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


def forget(admin: Path) -> None:
    """Remove what a repository knows of one worktree; `git worktree prune` would forget every one that is out of reach.

    In one move: any git of the user's that finds half of it fails. One of them may prune it at the same moment.
    """
    away = admin.parent.with_name(f"ralph-removes-{admin.name}")
    shutil.rmtree(away, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        admin.rename(away)
    shutil.rmtree(away, ignore_errors=True)
