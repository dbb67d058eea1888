"""What a night of verdicts teaches, read off the state: near misses, dead ends, causes of failures, what nobody tried.

Bounded in time as well as in length: the latest thousand experiments are looked at (about a week), totals come from the
state. A delta counts as better or worse by its own standard error: z = sign · delta / se, negative is better.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from heapq import nsmallest
from typing import Any, TypeVar

from ralph.core.decision import chance_of_luck, expected_false_keeps
from ralph.core.fold import State
from ralph.core.shelf import LOOK_BACK
from ralph.core.wording import plain
from ralph.model import Direction, Experiment, JsonValue, Verdict

T = TypeVar("T")
NEAR_Z = -0.25  # a near miss measured better than the incumbent by that many standard errors at least
DEAD_Z = 2.0  # a dead end measured worse each time, and clearly so when the tries are taken together
MOST_NEAR = MOST_DEAD = 12  # are looked for
DEAD_TRIES = 3  # … at least so many for a constant
DEAD_REPEATS = 2  # … and so often for the same idea in words
MOST_DOF = 1000  # degrees of freedom beyond which Student's t does not change any more as far as it is shown
SHARED = 0.6  # of the failures of a kind have a cause in common


def recent(state: State, most: int = LOOK_BACK) -> Iterator[Experiment]:
    """The latest `most` experiments, oldest first, the baseline apart. Ids have no gaps."""
    end = len(state.experiments)
    return (state.experiments[i] for i in range(max(1, end - most), end))


def _since_verdict(state: State, name: str, find: Callable[[State], T]) -> T:
    """What `find` answers, which only a verdict or a new experiment can change; found once for each of these."""
    return _known(state, name, (len(state.experiments), state.judged), find)


def _known(state: State, name: str, stamp: tuple[int, int], find: Callable[[State], T]) -> T:
    """What `find` answers, found once as long as `stamp` is the same."""
    known = state.memo.get(name)
    if isinstance(known, _Found) and known.stamp == stamp:
        found: T = known.value
        return found
    found = find(state)
    state.memo[name] = _Found(stamp=stamp, value=found)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    stamp: tuple[int, int]
    value: Any


def sign(state: State) -> float:
    """+1 where lower is better, -1 where higher is."""
    return (state.arena.direction if state.arena else Direction.MIN).sign


def clearness(state: State, e: Experiment) -> float | None:
    """The z of its delta; infinite without noise; None where there is no delta or the noise is unknown."""
    if e.delta is None or e.delta_se is None:
        return None
    worse = sign(state) * e.delta
    if e.delta_se <= 0:
        return math.copysign(math.inf, worse) if worse else 0.0
    return worse / e.delta_se


def near_misses(state: State, limit: int = 5) -> list[Experiment]:
    """Discards that measured better than the incumbent of their time, though not clearly; the most promising first."""
    return _since_verdict(state, "near misses", _near_misses)[:limit]


def _near_misses(state: State) -> list[Experiment]:
    close = [
        (z, -e.id, e)
        for e in recent(state)
        if e.verdict is Verdict.DISCARD and (z := clearness(state, e)) is not None and z < NEAR_Z
    ]
    return [e for _, _, e in nsmallest(MOST_NEAR, close)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A constant and the way it was changed: higher, lower, or to something else."""

    name: str
    way: str

    def __str__(self) -> str:
        """Its name without the file, and the way."""
        return f"{self.name.rpartition(':')[2]} {self.way}"


def _moves(state: State, e: Experiment) -> Iterator[Move]:
    """What its constants are, compared with what it was made on."""
    below = state.lineage.get(e.base, {})
    return (_move(name, below.get(name), value) for name, value in e.constants.items())


@lru_cache(maxsize=4 * LOOK_BACK, typed=True)
def _move(name: str, old: JsonValue, new: JsonValue) -> Move:
    return Move(name=name, way=_way(old, new))


def _way(old: JsonValue, new: JsonValue) -> str:
    numbers = (int, float)
    if not isinstance(old, numbers) or not isinstance(new, numbers) or isinstance(old, bool) or isinstance(new, bool):
        return f"= {plain(str(new), 24)}"
    return "higher" if new > old else "lower"


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
    return _since_verdict(state, "dead ends", _dead_ends)[:limit]


def _dead_ends(state: State) -> list[DeadEnd]:
    tries: dict[Move | str, list[tuple[int, float]]] = defaultdict(list)
    for e in recent(state):
        if e.verdict not in (Verdict.KEEP, Verdict.DISCARD) or (key := _what(state, e)) is None:
            continue
        z = clearness(state, e)
        if e.verdict is Verdict.KEEP:
            tries.pop(key, None)
        else:
            tries[key].append((e.id, 0.0 if z is None else z))
    dead = [(key, found) for key, found in tries.items() if len(found) >= _enough(key) and _dead([z for _, z in found])]
    dead.sort(key=lambda item: (-len(item[1]), -item[1][-1][0]))
    return [_dead_end(state, key, [i for i, _ in found]) for key, found in dead[:MOST_DEAD]]


def _dead(zs: list[float]) -> bool:
    return min(zs) > 0 and sum(zs) / math.sqrt(len(zs)) >= DEAD_Z


def _enough(key: Move | str) -> int:
    return DEAD_TRIES if isinstance(key, Move) else DEAD_REPEATS


def _what(state: State, e: Experiment) -> Move | str | None:
    if e.proposal is None or len(e.constants) > 1:
        return None
    if e.constants:
        return next(_moves(state, e))
    return _pattern(e.hypothesis) or None


def _dead_end(state: State, key: Move | str, found: list[int]) -> DeadEnd:
    if isinstance(key, Move):
        return DeadEnd(ids=tuple(found), move=key)
    return DeadEnd(ids=tuple(found), idea=state.experiments[found[-1]].hypothesis)


@lru_cache(maxsize=4 * LOOK_BACK)
def _pattern(text: str) -> str:
    """Words alone: the same failure, or the same idea, with other numbers has the same pattern."""
    return re.sub(r"[-+]?\d[\d.,_]*(e[-+]?\d+)?", "N", plain(text, 200).lower())


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
    return _since_verdict(state, "failures", _failures)


def _failures(state: State) -> list[Failure]:
    groups: dict[str, list[Experiment]] = defaultdict(list)
    for e in recent(state):
        if e.verdict is Verdict.CRASH:
            groups[str(e.crash or e.verdict)].append(e)
        elif e.verdict in (Verdict.INVALID, Verdict.VOID):
            groups[str(e.verdict)].append(e)
    found = [_failure(state, kind, group) for kind, group in groups.items()]
    return sorted(found, key=lambda failure: (-failure.total, failure.kind))


def _failure(state: State, kind: str, group: list[Experiment]) -> Failure:
    patterns = Counter(_pattern(e.reason) for e in group)
    pattern, same = patterns.most_common(1)[0]
    example = next(e for e in reversed(group) if _pattern(e.reason) == pattern)
    shared, by = _shared(state, group)
    totals = {**{str(v): n for v, n in state.counts.items()}, **{str(c): n for c, n in state.crashes.items()}}
    return Failure(
        kind=kind,
        total=max(len(group), totals.get(kind, 0)),
        ids=tuple(e.id for e in group),
        reason=example.reason,
        same=same,
        shared=shared,
        shared_by=by,
    )


def _shared(state: State, group: list[Experiment]) -> tuple[Move | None, int]:
    moves = Counter(move for e in group for move in _moves(state, e))
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
    compared = state.counts[Verdict.KEEP] + state.counts[Verdict.DISCARD]
    stamp = (len(state.keeps), state.noise.dof)
    return expected_false_keeps(_known(state, "chances", stamp, _chances), compared)


def _chances(state: State) -> list[float]:
    """Of every keep that claims a gain, the chance that it was luck."""
    claims = [e for k in state.keeps if not (e := state.experiments[k]).lines_delta < 0 or not _unclear(state, e)]
    return [_chance(state, e) for e in claims]


def _unclear(state: State, e: Experiment) -> bool:
    z = clearness(state, e)
    return z is not None and z > -1.0


def _chance(state: State, e: Experiment) -> float:
    z = clearness(state, e)
    return 1.0 if z is None else _luck(-z, min(state.noise.dof, MOST_DOF), len(e.scores))


_luck = lru_cache(maxsize=1 << 14)(chance_of_luck)


def since(ids: Iterable[int], first: int) -> int:
    """How many of `ids` are `first` or later."""
    return sum(i >= first for i in ids)
