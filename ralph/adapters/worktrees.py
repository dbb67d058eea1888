"""Worktrees by hand: a folder and what the repository keeps of it, written as gitrepository-layout(5) describes.

`git worktree add` does the same in three processes, and `git worktree prune` forgets the worktrees of everybody else on
the way, for instance those on a disk that is not mounted at the moment.
"""

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT)  # at this very moment; or the folder above it was pruned


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

    Killed before the last line, it leaves a tree that no worktree is. Whatever the user's git does meanwhile, it finds
    all of it or nothing: of half a worktree `git gc` says that it is broken, and `git worktree prune` takes it away.
    """
    made = common / f"ralph-makes-{tree.name}-{os.getpid()}"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    (made / "commondir").write_text("../..\n")
    (made / "HEAD").write_text(f"{commit}\n")
    (made / "gitdir").write_text(f"{tree / '.git'}\n")
    tree.mkdir(exist_ok=True)
    (common / "worktrees").mkdir(exist_ok=True)
    for admin in _names(common / "worktrees", tree.name):
        (tree / ".git").write_text(f"gitdir: {admin}\n")
        try:
            made.rename(admin)
        except OSError as error:
            if error.errno not in TAKEN:
                raise
            (common / "worktrees").mkdir(exist_ok=True)
        else:
            return admin
    raise AssertionError("there is always another name")


def forget_worktree(common: Path, tree: Path) -> None:
    """Remove what the repository keeps of a worktree; nothing happens if it keeps nothing.

    In one move, for the same reason; one of the user's may prune it at the same moment.
    """
    admin = admin_folder(common, tree)
    if admin is None:
        return
    away = common / f"ralph-removes-{admin.name}-{os.getpid()}"
    shutil.rmtree(away, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        admin.rename(away)
    shutil.rmtree(away, ignore_errors=True)
    with contextlib.suppress(OSError):  # others have theirs in it
        admin.parent.rmdir()


def _names(worktrees: Path, name: str) -> Iterator[Path]:
    """Folders that are not there, in the order in which git would name them."""
    for number in itertools.count():
        folder = worktrees / (f"{name}{number}" if number else name)
        if not folder.exists():
            yield folder
