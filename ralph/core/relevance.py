"""Which learnings are worth their room in a brief: the recent, the proven, and those about what is being worked on."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from ralph.core.constants import constants_of
from ralph.core.findings import near_misses, recent
from ralph.core.fold import State
from ralph.core.learnings import LearntLine

LAST = 12  # experiments whose hypotheses tell what is being worked on

_WORD = re.compile(r"[^\W\d]\w+")


def by_worth(valid: Sequence[LearntLine], context: Mapping[str, float]) -> Iterator[LearntLine]:
    """In turn the most recent, the one with the most evidence, and the most relevant: those that fit are taken."""
    newest = range(len(valid) - 1, -1, -1)
    score, evidence = (
        relevance([one.learning.text for one in valid], context),
        [len(o.learning.evidence) for o in valid],
    )
    proven, relevant = (sorted(newest, key=worth.__getitem__, reverse=True) for worth in (evidence, score))
    taken = set[int]()
    for n in chain.from_iterable(zip(newest, proven, relevant, strict=True)):
        if n not in taken:
            taken.add(n)
            yield valid[n]


def context_of(state: State, files: Mapping[str, str]) -> dict[str, float]:
    """Words that matter now, with their weights: constants that are there to be changed, and recent hypotheses.

    A constant that no experiment has changed yet says little; one that is no longer in the files says nothing.
    """
    weights = Counter[str]()
    for name in constants_of(files):
        for word in words(name.rpartition(":")[2]):
            weights[word] += 2 if name in state.touched else 1
    said = [e.hypothesis for e in (*recent(state, LAST), *near_misses(state))]
    told = Counter(word for text in said for word in words(text))
    return {word: min(weights[word], 2) + min(told[word], 4) / 2 for word in (*weights, *told)}


def relevance(texts: Sequence[str], context: Mapping[str, float]) -> list[float]:
    """How much each text speaks of the context; what all texts say distinguishes none, and length is no merit."""
    index, much = _index(tuple(texts)), [0.0 for _ in texts]
    for word in sorted(index.where.keys() & context.keys()):  # sums of floats depend on the order
        where = index.where[word]
        weight = context[word] * math.log(1 + len(texts) / len(where))
        for n in where:
            much[n] += weight
    return [each / length for each, length in zip(much, index.lengths, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """Which texts have each word, by their place, and what the length of each text divides its worth by."""

    where: Mapping[str, Sequence[int]]
    lengths: Sequence[float]


@lru_cache(maxsize=2)  # the same learnings are weighed for every brief until something is learnt
def _index(texts: tuple[str, ...]) -> _Index:
    said, where = [words(text) for text in texts], defaultdict[str, list[int]](list)
    for n, each in enumerate(said):
        for word in each:
            where[word].append(n)
    return _Index(where=dict(where), lengths=[math.sqrt(1 + len(each)) for each in said])


@lru_cache(maxsize=4096)  # most learnings are weighed again when one was added
def words(text: str) -> frozenset[str]:
    """The words of a text in small letters; `MATRIX_LR` counts as itself, as `matrix` and as `lr`.

    >>> sorted(words("MATRIX_LR at 0.05 hurts"))
    ['at', 'hurts', 'lr', 'matrix', 'matrix_lr']
    """
    return frozenset(_parts(_WORD.findall(text.lower())))


def _parts(found: Iterable[str]) -> Iterable[str]:
    for word in found:
        yield word
        if "_" in word:
            yield from (part for part in word.split("_") if len(part) > 1)
