"""Asking the index: by words and, where the arena names a program for it, by meaning as well."""

from dataclasses import dataclass
from pathlib import Path

from ralph.adapters.recall import embed_command, ranked_again, search
from ralph.core.recall import by_likeness
from ralph.model import Document

POOL = 50  # answers by words that are ranked again by meaning
MOST_TEXT = 2_000  # characters of one experiment whose meaning is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What was found, best first, and what went wrong on the way without spoiling it."""

    found: tuple[Document, ...]
    warning: str = ""


def ask(path: Path, question: str, most: int) -> Answers:
    """The experiments nearest to a question.

    Raises:
        RecallError: the index is missing, damaged or cannot be read.
    """
    command = embed_command(path)
    found = search(path, question, max(most, POOL) if command else most)
    if not command or len(found) < 2:
        return Answers(found=tuple(found[:most]))
    from ralph.adapters.embedding import EmbeddingError, embed

    try:
        asked, *vectors = embed(command, [question, *(_text(each) for each in found)])
    except EmbeddingError as error:
        return Answers(found=tuple(found[:most]), warning=f"{error}. Ranked by words alone")
    alike = by_likeness(asked, {each.id: vector for each, vector in zip(found, vectors, strict=True)})
    return Answers(found=tuple(ranked_again(found, alike)[:most]))


def _text(each: Document) -> str:
    return "\n".join((each.hypothesis, each.reason, *each.learnings))[:MOST_TEXT]
