"""A repository that a hundred thousand experiments leave as quick as ten: refs in one file, objects in packs.

Every experiment leaves a ref and some seven objects, each a file of its own. By itself that slows none of our commands
down, but everything that lists refs (`git log --all`, a fetch, `git gc`): seconds with a hundred thousand files, a
fraction of one when they are packed. Automatic collection is off for our commands, so that none of them ever begins to
collect in the middle of an experiment; this is done in its place, now and then.

Safe beside whatever the user does meanwhile: it is what `git maintenance` does in the background. Nothing unreachable
is dropped, refs move under git's own locks, and where such a lock is taken the next time will do. A git that is killed
meanwhile leaves its lock behind; one that is a day old is nobody's any more, and goes.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from ralph.errors import GitError

EVERY = 512  # loose refs of experiments
STALE_S = 86_400.0  # the age of a lock that nobody holds any more
TASKS = ("--task=loose-objects", "--task=incremental-repack")


class Housekeeping:
    """Counts what has become loose in the repository at `common`; `git` runs one git command there."""

    def __init__(self, common: Path, git: Callable[..., str]) -> None:
        self._common, self._git, self._loose = common, git, 0

    def begin(self, refs: Path) -> None:
        """A campaign is entered whose experiments' refs are files below `refs`, as far as they are not packed."""
        for lock in (self._common / "packed-refs.lock", self._common / "objects" / "maintenance.lock"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - lock.stat().st_mtime > STALE_S:
                    lock.unlink()
        self._loose = sum(1 for _ in refs.iterdir()) if refs.is_dir() else 0
        self._tidy()

    def pinned(self) -> None:
        """One more experiment has its ref."""
        self._loose += 1
        self._tidy()

    def _tidy(self) -> None:
        if self._loose < EVERY:
            return
        self._loose = 0
        for command in (("pack-refs", "--all"), ("maintenance", "run", "--quiet", *TASKS)):
            try:
                self._git(*command)
            except GitError:  # a lock that somebody holds, or a git from before maintenance: it stays loose till later
                return
