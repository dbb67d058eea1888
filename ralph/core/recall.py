"""Questions about past experiments: their words, the merging of rankings, and what an answer shows."""

import math
import re
from collections.abc import Mapping, Sequence

from ralph.core.wording import plain
from ralph.model import Document

MOST_WORDS = 12  # of one question
EXCERPT_LINES = 8
LINE = 160  # characters of one line of an excerpt
RRF = 60  # damping of reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009)

_WORD = re.compile(r"\w", re.UNICODE)


def terms(question: str) -> tuple[str, ...]:
    """The words of a question as an FTS5 query names them: quoted, so that no sign has a meaning of its own.

    >>> terms('MATRIX_LR "warm-up" NEAR( — *')
    ('"MATRIX_LR"', '"warm-up"', '"NEAR("')
    """
    found = (word.replace('"', "").replace("\0", "") for word in question.split())
    kept = dict.fromkeys(word for word in found if _WORD.search(word))
    return tuple(f'"{word}"' for word in list(kept)[:MOST_WORDS])


def excerpt(diff: str, question: str) -> tuple[str, ...]:
    """The lines of a diff worth showing: those with a word of the question, then the others, in their own order."""
    lines = [line for line in diff.splitlines() if not line.startswith("+++") and line[1:].strip()]
    wanted = [each.strip('"').lower() for each in terms(question)]
    hits = [n for n, line in enumerate(lines) if any(word in line.lower() for word in wanted)]
    others = [n for n in range(len(lines)) if n not in set(hits)]
    chosen = sorted([*hits, *others][:EXCERPT_LINES])
    shown = tuple(_plain(lines[n]) for n in chosen)
    left_out = len(lines) - len(chosen)
    return (*shown, f"… {left_out} more lines") if left_out else shown


def _plain(line: str) -> str:
    """A changed line that cannot break the page, with its indentation."""
    indent = len(line[1:]) - len(line[1:].lstrip(" "))
    return line[0] + " " * min(indent, LINE // 4) + plain(line[1:], LINE)


def fused(rankings: Sequence[Sequence[int]]) -> list[int]:
    """One ranking of several by reciprocal rank fusion; of equals the one that the first ranking has first.

    >>> fused([[1, 2, 3], [3, 1, 2]])
    [1, 3, 2]
    """
    points: dict[int, float] = {}
    for ranking in rankings:
        for place, id_ in enumerate(ranking, start=1):
            points[id_] = points.get(id_, 0.0) + 1 / (RRF + place)
    return sorted(points, key=lambda id_: -points[id_])


def by_likeness(question: Sequence[float], vectors: Mapping[int, Sequence[float]]) -> list[int]:
    """Ids by the cosine of their vectors with the question's, the most alike first. Without length nothing is alike."""

    def cosine(vector: Sequence[float]) -> float:
        size = math.hypot(*question) * math.hypot(*vector)
        return sum(a * b for a, b in zip(question, vector, strict=True)) / size if size else -1.0

    return sorted(vectors, key=lambda id_: -cosine(vectors[id_]))


def answer(found: Document, question: str) -> dict[str, object]:
    """One answer of `ralph recall --json`."""
    return {
        "id": found.id,
        "verdict": found.verdict,
        "score": found.score,
        "delta": found.delta,
        "delta_se": found.delta_se,
        "agent": found.agent or None,
        "hypothesis": found.hypothesis,
        "reason": found.reason,
        "learnings": list(found.learnings),
        "diff": list(excerpt(found.diff, question)),
    }


def told(found: Document, question: str) -> str:
    """The same for people and agents, as a block of lines; what agents and programs wrote is quoted by `>`."""
    score = f" {found.score:.6g}" if found.score is not None else ""
    error = f" ± {found.delta_se:.2g}" if found.delta_se else ""
    delta = f" (delta {found.delta:+.4g}{error})" if found.delta is not None else ""
    agent = f" [{plain(found.agent, 40)}]" if found.agent else ""
    words = [f"hypothesis: {found.hypothesis}"] if found.hypothesis else []
    words += [f"reason: {found.reason}"] if found.reason else []
    words += [f"learnt: {each}" for each in found.learnings]
    words += [f"  {line}" for line in excerpt(found.diff, question)]
    return "\n".join([f"#{found.id} {found.verdict}{score}{delta}{agent}", *(f"  > {line}" for line in words)])
