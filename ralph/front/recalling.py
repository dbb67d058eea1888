"""`ralph recall`: in a folder of the user's, and inside an agent's sandbox, where only the index can be seen."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import compress, count
from pathlib import Path
from typing import TYPE_CHECKING

from ralph.adapters.asking import Answers, ask
from ralph.adapters.files import last_lines
from ralph.adapters.recall import RecallIndex, is_behind
from ralph.errors import ConfigError, GitError
from ralph.layout import Layout, locate
from ralph.model import Document

if TYPE_CHECKING:  # the answer to an agent does not wait for what only a rebuild needs
    from ralph.adapters.git import GitRepo
    from ralph.core.fold import State

VARIABLE = "RALPH_RECALL"


def recall(folder: Path, question: str, most: int) -> Answers:
    """Answer from the index that the environment names, or from the folder's own, built anew if it is behind.

    Raises:
        ConfigError: the question has no words, or the folder no campaign.
        RecallError: there is no index, or it cannot be read.
    """
    if not any(c.isalnum() for c in question):
        raise ConfigError('ask with words: ralph recall "warm-up learning rate"')
    if given := os.environ.get(VARIABLE):
        return ask(Path(given), question, most)
    layout = locate(folder)
    campaign = _campaign(layout.ledger)
    if is_behind(layout.recall, campaign, _last_ids(layout.history)):
        _catch_up(layout, campaign)
    return ask(layout.recall, question, most)


def _campaign(ledger: Path) -> str:
    """The campaign's name from the first line of the ledger; a long one is not read to the end for a question."""
    with suppress(OSError, ValueError, KeyError, TypeError), ledger.open("rb") as file:
        return str(json.loads(file.readline())["event"]["campaign"])
    raise ConfigError(f"there is no campaign in {ledger}; `ralph loop` begins one")


def _last_ids(history: Path) -> list[int]:
    ids = []
    for row in last_lines(history):
        with suppress(ValueError, KeyError, TypeError):
            ids.append(int(json.loads(row)["id"]))
    return ids


def _catch_up(layout: Layout, campaign: str) -> None:
    from ralph.config import load
    from ralph.front.look import open_repo, read_state

    state, repo = read_state(layout), open_repo(layout)
    command = load(layout.arena_toml).recall.embed_command
    source = JudgedExperiments(lambda: state, repo)
    RecallIndex(layout.recall, campaign=campaign, source=source, embed_command=command).catch_up()


class JudgedExperiments:
    """The source of the index: the state as `state` answers it, and git for what was changed."""

    def __init__(self, state: "Callable[[], State]", repo: "GitRepo") -> None:
        self._state, self._repo = state, repo

    def judged(self) -> AbstractSet[int]:
        """The experiments that have a verdict."""
        return set(compress(count(), self._state().experiments.rows.verdicts))

    def documents(self, ids: Sequence[int]) -> Iterator[Document]:
        """What is remembered of them; without its diff where git has lost the commit."""
        from ralph.core.documents import document

        state = self._state()
        changed = [e for id_ in ids if (e := state.experiments[id_]).commit and e.id]
        pairs = {e.id: (e.base, e.commit) for e in changed}
        diffs = self._diffs(pairs)
        return (document(state, id_, diffs.get(id_, "")) for id_ in ids)

    def _diffs(self, pairs: dict[int, tuple[str, str]]) -> dict[int, str]:
        try:
            return dict(zip(pairs, self._repo.diffs(pairs.values()), strict=True))
        except GitError:
            found = {}
            for id_, (old, new) in pairs.items():
                with suppress(GitError):
                    found[id_] = self._repo.diff(old, new)
            return found
