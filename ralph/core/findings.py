"""What a night of verdicts teaches, read off the state: near misses, dead ends, causes of failures, what nobody tried.

Bounded in time as well as in length: the latest thousand experiments are looked at (about a week), totals come from the
state. A delta counts as better or worse by its own standard error: z = sign · delta / se, negative is better.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ralph.core.decision import chance_of_luck, expected_false_keeps
from ralph.core.fold import State
from ralph.core.gist import Gist, Move, clearness, latest
from ralph.core.memo import known, since_verdict
from ralph.core.shelf import LOOK_BACK
from ralph.model import Experiment, Verdict

DEAD_Z = 2.0  # a dead end measured worse each time, and clearly so when the tries are taken together
MOST_NEAR = MOST_DEAD = 12  # are looked for
DEAD_TRIES = 3  # … at least so many for a constant
DEAD_REPEATS = 2  # … and so often for the same idea in words
MOST_DOF = 1000  # degrees of freedom beyond which Student's t does not change any more as far as it is shown
SHARED = 0.6  # of the failures of a kind have a cause in common


def recent(state: State, most: int = LOOK_BACK) -> list[Experiment]:
    """The latest `most` experiments, oldest first, the baseline apart. Ids have no gaps."""
    end = len(state.experiments)
    return state.experiments.several(range(max(1, end - most), end))


def near_misses(state: State, limit: int = 5) -> list[Experiment]:
    """Discards that measured better than the incumbent of their time, though not clearly; the most promising first."""
    return since_verdict(state, "near misses", _near_misses)[:limit]


def _near_misses(state: State) -> list[Experiment]:
    return [state.experiments[-minus] for _, minus in latest(state).near[:MOST_NEAR]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadEnd:
    """Something that was tried again and again and never helped: a move of one constant, or an idea in words."""

    ids: tuple[int, ...]
    move: Move | None = None
    idea: str = ""


def dead_ends(state: State, limit: int = 5) -> list[DeadEnd]:
    """The most often repeated moves and ideas of which every try was worse, since the last keep of that kind.

    Tries are taken together as Σz / √n (Stouffer). A constant counts where it was changed alone; an idea where no
    constant was changed and the words are the same but for numbers.
    """
    return since_verdict(state, "dead ends", _dead_ends)[:limit]


def _dead_ends(state: State) -> list[DeadEnd]:
    tries = ((key, _in_vain(group)) for key, group in latest(state).tries.items() if len(group) >= _enough(key))
    dead = [(key, [gist.id for gist in found]) for key, found in tries if len(found) >= _enough(key) and _clear(found)]
    dead.sort(key=lambda item: (-len(item[1]), -item[1][-1]))
    return [_dead_end(state, key, ids) for key, ids in dead[:MOST_DEAD]]


def _in_vain(tries: Sequence[Gist]) -> list[Gist]:
    """The discards since the last keep, if every one of them was worse."""
    found = list[Gist]()
    for gist in reversed(tries):
        if gist.verdict is Verdict.KEEP:
            break
        if gist.verdict is Verdict.DISCARD:
            if not gist.z or gist.z < 0:
                return []
            found.append(gist)
    return found[::-1]


def _clear(found: Sequence[Gist]) -> bool:
    return sum(gist.z or 0.0 for gist in found) / math.sqrt(len(found)) >= DEAD_Z


def _enough(key: Move | str) -> int:
    return DEAD_TRIES if isinstance(key, Move) else DEAD_REPEATS


def _dead_end(state: State, key: Move | str, found: list[int]) -> DeadEnd:
    if isinstance(key, Move):
        return DeadEnd(ids=tuple(found), move=key)
    return DeadEnd(ids=tuple(found), idea=state.experiments[found[-1]].hypothesis)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The experiments that ended in one kind of failure, `total` in all, and what most of the latest have in common.

    Of those in `ids`, `same` have the reason `reason` but for its numbers; `shared` is a change that most of them made.
    """

    kind: str
    total: int
    ids: tuple[int, ...]
    reason: str
    same: int
    shared: Move | None = None
    shared_by: int = 0


def failures(state: State) -> list[Failure]:
    """Crashes by kind, invalid and void experiments; the most frequent first."""
    return since_verdict(state, "failures", _failures)


def _failures(state: State) -> list[Failure]:
    found = [_failure(state, kind, group) for kind, group in latest(state).failed.items() if group]
    return sorted(found, key=lambda failure: (-failure.total, failure.kind))


def _failure(state: State, kind: str, group: Sequence[Gist]) -> Failure:
    pattern, same = Counter(gist.pattern for gist in group).most_common(1)[0]
    example = next(gist.id for gist in reversed(group) if gist.pattern == pattern)
    shared, by = _shared(group)
    totals = {**{str(v): n for v, n in state.counts.items()}, **{str(c): n for c, n in state.crashes.items()}}
    return Failure(
        kind=kind,
        total=max(len(group), totals.get(kind, 0)),
        ids=tuple(gist.id for gist in group),
        reason=state.experiments[example].reason,
        same=same,
        shared=shared,
        shared_by=by,
    )


def _shared(group: Sequence[Gist]) -> tuple[Move | None, int]:
    moves = Counter(move for gist in group for move in gist.moves)
    if not moves:
        return None, 0
    move, by = moves.most_common(1)[0]
    return (move, by) if by >= 2 and by >= SHARED * len(group) else (None, 0)


def untried(state: State) -> list[str]:
    """Constants of the baseline that no experiment has changed."""
    return [name for name in state.constants if name not in state.touched]


def false_keeps(state: State) -> float:
    """How many keeps are expected to be no gain at all, at most: `expected_false_keeps` of those that claim one.

    A keep of unknown noise is written off; one for simplicity's sake claims no gain and is left out.
    """
    return known(state, "false keeps", (state.judged, state.noise.dof), _false_keeps)


def _false_keeps(state: State) -> float:
    compared = state.counts[Verdict.KEEP] + state.counts[Verdict.DISCARD]
    stamp = (len(state.keeps), state.noise.dof)
    return expected_false_keeps(known(state, "chances", stamp, _chances), compared)


def _chances(state: State) -> list[float]:
    """Of every keep that claims a gain, the chance that it was luck."""
    claims = [e for k in state.keeps if not (e := state.experiments[k]).lines_delta < 0 or not _unclear(state, e)]
    dof = min(state.noise.dof, MOST_DOF)
    return [1.0 if (z := clearness(state, e)) is None else _luck(-z, dof, len(e.scores)) for e in claims]


def _unclear(state: State, e: Experiment) -> bool:
    z = clearness(state, e)
    return z is not None and z > -1.0


_luck = lru_cache(maxsize=1 << 14)(chance_of_luck)


def since(ids: Sequence[int], first: int) -> int:
    """How many of `ids` are `first` or later."""
    return len(ids) - bisect_left(sorted(ids), first)  # nearly in order, which makes sorting them cheap
