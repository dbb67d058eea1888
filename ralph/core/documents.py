"""What is remembered of an experiment for those who ask what was tried."""

from ralph.core.fold import State
from ralph.core.wording import plain
from ralph.model import Document

MOST_DIFF = 8_000  # characters of a diff that are kept


def document(state: State, id: int, diff: str) -> Document:  # noqa: A002 - the word of the ledger
    """What is remembered of an experiment that has a verdict."""
    e = state.experiments[id]
    return Document(
        id=id,
        verdict=str(e.verdict or ""),
        reason=plain(e.reason),
        score=e.score,
        delta=e.delta,
        delta_se=e.delta_se,
        agent=e.agent,
        hypothesis=plain(e.hypothesis),
        learnings=tuple(plain(each.text) for each in e.proposal.learnings) if e.proposal else (),
        diff="\n".join(line for line in _text(diff[:MOST_DIFF]).splitlines() if _told(line)),
    )


def _text(diff: str) -> str:
    """What a database can hold: bytes of a file that are not UTF-8 are surrogates in a diff of git's."""
    return diff.encode("utf-8", "replace").decode()


def _told(line: str) -> bool:
    """The lines of a diff that were added or removed, and the names of the files."""
    return line.startswith(("+", "-")) and not line.startswith("---")
