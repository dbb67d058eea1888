"""What nobody waits for: done when whoever works needs nothing of the supervisor, with the ledger on disk.

All of it may be lost with this process. A checkout that stays is removed by the next start (`Experiments`), or before
another takes its place; what the index of experiments lacks is brought in by the next start as well.
"""

from ralph.core import documents
from ralph.core.fold import State
from ralph.ports import World

MOST_LEFT = 8  # things; when nobody ever has nothing to do, so many may wait


class SpareTime:
    """Checkouts that are done with, and experiments that the index does not know yet."""

    def __init__(self, world: World, state: State) -> None:
        self._world, self._state = world, state
        self._spent_trees: dict[str, None] = {}
        self._settled: list[int] = []

    def discard(self, tree: str) -> None:
        """Have a checkout go some time."""
        self._spent_trees[tree] = None

    def checkout(self, tree: str, commit: str) -> None:
        """Make one now, which none of that name that was to go can take along."""
        self._spent_trees.pop(tree, None)
        self._world.repo.checkout(tree, commit)

    def remember(self, id: int) -> None:  # noqa: A002 - the word of the ledger
        """Have an experiment that is settled put into the index some time; every brief tells of the latest anyway."""
        self._settled.append(id)

    @property
    def is_behind(self) -> bool:
        """Whether more is left than may be."""
        return len(self._settled) + len(self._spent_trees) > MOST_LEFT

    def use(self) -> bool:
        """Do one of these things, so that nobody waits for two; whether there was one."""
        if self._settled:
            e = self._state.experiments[self._settled.pop(0)]
            diff = self._world.repo.diff(e.base, e.commit) if e.commit and e.id else ""
            self._world.papers.remember(documents.document(self._state, e.id, diff))
            self._world.reach("remembered")
            return True
        if self._spent_trees:
            self._world.repo.discard(self._spent_trees.popitem()[0])
            return True
        return False
