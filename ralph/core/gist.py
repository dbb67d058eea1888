"""What each of the latest verdicts says. Verdicts do not change, so each is looked at once and not for every brief."""

import math
import re
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ralph.core.fold import State
from ralph.core.shelf import LOOK_BACK
from ralph.core.wording import plain
from ralph.model import Direction, Experiment, JsonValue, Verdict

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
    failure there are its kind, `failure`, and the `pattern` of its reason.
    """

    id: int
    verdict: Verdict
    z: float | None
    moves: tuple[Move, ...] = ()
    tried: Move | str | None = None
    failure: str = ""
    pattern: str = ""


@dataclass(slots=True, kw_only=True)
class _Latest:
    """The gists so far, by id; of the experiments before `next` those `open` had no verdict at the last look."""

    gists: list[Gist] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    next: int = 1


def latest_gists(state: State) -> Sequence[Gist]:
    """Of the latest `LOOK_BACK` experiments those that have a verdict, oldest first, the baseline apart."""
    latest = state.memo.setdefault("gists", _Latest())
    if not isinstance(latest, _Latest):
        raise TypeError("somebody else's memo goes by the name of gists")
    end = len(state.experiments)
    first = max(1, end - LOOK_BACK)
    looked_at = [state.experiments[i] for i in (*latest.open, *range(max(first, latest.next), end)) if i >= first]
    for e in looked_at:
        if e.verdict is not None:
            insort(latest.gists, gist_of(state, e, e.verdict), key=_id)
    latest.open, latest.next = [e.id for e in looked_at if e.verdict is None], end
    del latest.gists[: bisect_left(latest.gists, first, key=_id)]
    return latest.gists


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
