"""What each of the latest verdicts says. Verdicts do not change, so each is looked at once and not for every brief."""

import math
import re
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ralph.core.fold import State
from ralph.core.shelf import LOOK_BACK
from ralph.core.wording import plain
from ralph.model import Direction, Experiment, JsonValue, Superseded, Verdict

NEAR_Z = -0.25  # a near miss measured better than the incumbent by that many standard errors at least

_NUMBER = re.compile(r"[-+]?\d[\d.,_]*(e[-+]?\d+)?")


class Move(NamedTuple):  # a tuple, since a thousand are looked up for every brief and tuples are quick to hash
    """A constant and the way it was changed: higher, lower, or to something else."""

    name: str
    way: str

    def __str__(self) -> str:
        """Its name without the file, and the way."""
        return f"{self.name.rpartition(':')[2]} {self.way}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gist:
    """One experiment that has a verdict.

    `z` is the clearness of its delta. It moved the constants `moves`, compared with what it was made on, and counts as
    a try of `tried`: the only one of these, or, where no constant was changed, its hypothesis but for numbers. Of a
    failure there are its kind, `failure`, and the `pattern` of its reason. Its proposal `supersedes` learnings.
    """

    id: int
    verdict: Verdict
    z: float | None
    moves: tuple[Move, ...] = ()
    tried: Move | str | None = None
    failure: str = ""
    pattern: str = ""
    supersedes: tuple[Superseded, ...] = ()

    @property
    def near(self) -> tuple[float, int] | None:
        """Of a near miss, a discard that measured better than the incumbent of its time, its clearness and -`id`."""
        z = self.z
        return (z, -self.id) if self.verdict is Verdict.DISCARD and z is not None and z < NEAR_Z else None


@dataclass(slots=True, kw_only=True)
class Latest:
    """The gists of the latest `LOOK_BACK` experiments that have a verdict, oldest first, the baseline apart.

    The same gists stand in groups: `tries` are those that tried the same, `failed` those that failed in the same way.
    `near` has the clearness and the negative id of each near miss, the most promising first. Of the experiments before
    `next` those `open` had no verdict at the last look.
    """

    gists: list[Gist] = field(default_factory=list)
    near: list[tuple[float, int]] = field(default_factory=list)
    tries: dict[Move | str, list[Gist]] = field(default_factory=dict)
    failed: dict[str, list[Gist]] = field(default_factory=dict)
    open: list[int] = field(default_factory=list)
    next: int = 1

    def add(self, gist: Gist) -> None:
        """One more, whose experiment may be older than others."""
        for group in (self.gists, *self._groups(gist)):
            insort(group, gist, key=_id)
        if (near := gist.near) is not None:
            insort(self.near, near)

    def let_go_before(self, first: int) -> None:
        """Those of experiments before `first`."""
        old = bisect_left(self.gists, first, key=_id)
        for gist in self.gists[:old]:
            for group in self._groups(gist):
                del group[0]  # groups are in the order of ids as well
            if (near := gist.near) is not None:
                del self.near[bisect_left(self.near, near)]
            if gist.tried is not None and not self.tries[gist.tried]:
                del self.tries[gist.tried]
        del self.gists[:old]

    def _groups(self, gist: Gist) -> Iterator[list[Gist]]:
        if gist.tried is not None:
            yield self.tries.setdefault(gist.tried, [])
        if gist.failure:
            yield self.failed.setdefault(gist.failure, [])


def latest(state: State) -> Latest:
    """What the latest verdicts say, as of now."""
    known = state.memo.setdefault("gists", Latest())
    if not isinstance(known, Latest):
        raise TypeError("somebody else's memo goes by the name of gists")
    end = len(state.experiments)
    first = max(1, end - LOOK_BACK)
    looked_at = [state.experiments[i] for i in (*known.open, *range(max(first, known.next), end)) if i >= first]
    for e in looked_at:
        if e.verdict is not None:
            known.add(gist_of(state, e, e.verdict))
    known.open, known.next = [e.id for e in looked_at if e.verdict is None], end
    known.let_go_before(first)
    return known


def _id(gist: Gist) -> int:
    return gist.id


def gist_of(state: State, e: Experiment, verdict: Verdict) -> Gist:
    """What the verdict on `e` says."""
    moves, failure = _moves(state, e), _failure(e, verdict)
    return Gist(
        id=e.id,
        verdict=verdict,
        z=clearness(state, e),
        moves=moves,
        tried=_tried(e, moves),
        failure=failure,
        pattern=_pattern(e.reason) if failure else "",
        supersedes=e.proposal.supersedes if e.proposal is not None else (),
    )


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


def _failure(e: Experiment, verdict: Verdict) -> str:
    if verdict is Verdict.CRASH:
        return str(e.crash or verdict)
    return str(verdict) if verdict in (Verdict.INVALID, Verdict.VOID) else ""


def _tried(e: Experiment, moves: Sequence[Move]) -> Move | str | None:
    if e.proposal is None or len(moves) > 1:
        return None
    return moves[0] if moves else _pattern(e.hypothesis) or None


def _moves(state: State, e: Experiment) -> tuple[Move, ...]:
    """What its constants are, compared with what it was made on."""
    below = state.lineage.get(e.base, {})
    return tuple(_move(name, _way(below.get(name), value)) for name, value in e.constants.items())


@lru_cache(maxsize=4 * LOOK_BACK)  # one object for all that moved the same: they are compared and counted
def _move(name: str, way: str) -> Move:
    return Move(name=name, way=way)


def _way(old: JsonValue, new: JsonValue) -> str:
    numbers = (int, float)
    if not isinstance(old, numbers) or not isinstance(new, numbers) or isinstance(old, bool) or isinstance(new, bool):
        return f"= {plain(str(new), 24)}"
    return "higher" if new > old else "lower"


def _pattern(text: str) -> str:
    """Words alone: the same failure, or the same idea, with other numbers has the same pattern."""
    return _NUMBER.sub("N", plain(text, 200).lower())
