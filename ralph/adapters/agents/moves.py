"""Choosing the next change: a few constants of the incumbent, a step each.

Candidates are single steps of moderate size, values drawn by Optuna's TPE, and combinations of the steps that look
best; the surrogate's expected improvement ranks them. A constant that was never moved is moved alone first. What was
tried before, and what lies beyond a crash, is no candidate.
"""

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ralph.adapters.agents.memory import Memory, Record
from ralph.adapters.agents.sampler import Observation, Sampler
from ralph.adapters.agents.surrogate import Belief, Row, Surrogate, fit
from ralph.core.literals import Literal
from ralph.core.search_space import Dimension, salience
from ralph.model import CrashKind

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FIRST_STEP = 1.0
_PROMISING = 3.0  # sigmas: an expected gain that goes before the first moves of constants not tried yet
_PER_KEY = 3
_MODELLED = 160  # records in the surrogate, whose cost is cubic
_SAMPLED = 400  # records told to the sampler
_STEPS = (0.35, 0.6, 1.0, 1.5)
_LONGEST_STEP = 2.0
_EXPECTED_SIZES = (1.0, 1.0, 0.5)  # by salience
_DRAWN_KEYS = 8
_DRAWS = 2
_DRAWN_SETS = 6
_COMBINED = 8
_AT_MOST = 3
_PER_EXTRA_CONSTANT = 0.93
_LEAST_GAIN = 0.5  # sigmas: less cannot be told from noise at a sensible price
_CRASH_LOSS = 8.0  # sigmas
_CRASH_RUNS = 0.25  # a crash counts as a quarter of a run: which of its constants is to blame is unsure
_GUESS_RUNS = 0.25  # nor is a run that was stopped early more than a hint
_BEYOND = (
    CrashKind.DEADLINE, CrashKind.OUT_OF_MEMORY, CrashKind.MEMORY_LIMIT, CrashKind.NAN, CrashKind.KILLED,
)  # fmt: skip

Point = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a choice is made from. `current` are the values in the working directory, `incumbent` its coordinates.

    `reach` stretches the steps, for the time when everything near was tried. `under_way` are the moves of others that
    have no verdict yet: these are not made again, and until it is known better they are believed to do what is expected
    of them.
    """

    space: tuple[Dimension, ...]
    memory: Memory
    current: Mapping[str, Literal]
    incumbent: Point
    loss: float
    code: int
    seed: int
    reach: float = 1.0
    under_way: tuple[Mapping[str, Literal], ...] = ()

    def point(self, record: Record) -> dict[str, float] | None:
        """Coordinates of an experiment, None when one of its values has none."""
        found = {d.key: d.place(record.constants.get(d.key, self.current[d.key])) for d in self.space}
        return None if None in found.values() else {k: z for k, z in found.items() if z is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """New values for a few constants, and what to expect of them."""

    values: Mapping[str, Literal]
    point: Point
    belief: Belief


def choose(situation: Situation, skip: int = 0) -> Move | None:
    """The best move, or the one that follows `skip` better ones; None when every neighbour was tried."""
    chooser = _Chooser(situation)
    ranked = chooser.ranked()
    return ranked[min(skip, len(ranked) - 1)] if ranked else None


class _Chooser:
    def __init__(self, situation: Situation) -> None:
        self.s = situation
        self.random = random.Random(situation.seed)
        self.by_key = {d.key: d for d in situation.space}
        said = [r for r in situation.memory.records.values() if r.counts or r.crash or r.guess is not None]
        self.touched = {k for r in said for k in r.moved}
        self.tried = {self._signature(r.constants) for r in situation.memory.records.values()}
        self.tried.add(self._signature(situation.current))
        self.tried |= {self._signature({**situation.current, **moved}) for moved in situation.under_way}
        self.crashed = [p for r in situation.memory.crashes(_SAMPLED) if (p := self._forbidden(r))]
        self.model = self._fit()

    def ranked(self) -> list[Move]:
        singles = self._judge(itertools.chain(self._steps(), self._drawn()))
        singles = _best_by_key(sorted(singles, key=lambda m: -self._worth(m)), _PER_KEY)
        known = [m for m in singles if self.touched.issuperset(m.values)][:_COMBINED]
        sets = self._judge(itertools.chain(self._combined(known), self._drawn_sets(known)))
        jitter = {id(m): 1 + 0.02 * self.random.random() for m in (*singles, *sets)}
        ranked = sorted((*singles, *sets), key=lambda m: -self._worth(m) * jitter[id(m)])
        if ranked and ranked[0].belief.mean < -_PROMISING * self.s.memory.sigma:
            return ranked
        return [*self._judge(self._first_moves()), *ranked]

    def _worth(self, move: Move) -> float:
        return move.belief.improvement(_LEAST_GAIN * self.s.memory.sigma) * _PER_EXTRA_CONSTANT ** (
            len(move.values) - 1
        )

    def _fit(self) -> Surrogate:
        bad = self.s.loss + _CRASH_LOSS * self.s.memory.sigma
        here = Row(point=self._row(self.s.incumbent), loss=self.s.loss, runs=1, code=self.s.code)
        scored = [
            Row(point=self._row(p), loss=r.loss, runs=r.runs, code=r.code)
            for r in self.s.memory.relevant(_MODELLED)
            if (p := self.s.point(r)) is not None and r.loss is not None
        ]
        guessed = [
            Row(point=self._row(p), loss=r.guess, runs=_GUESS_RUNS, code=r.code)
            for r in self.s.memory.guessed(_MODELLED // 2)
            if (p := self.s.point(r)) is not None and r.guess is not None
        ]
        crashed = [
            Row(point=self._row(p), loss=bad, runs=_CRASH_RUNS, code=r.code)
            for r in self.s.memory.crashes(_MODELLED // 4)
            if (p := self.s.point(r)) is not None
        ]
        known = [*(scored or [here]), *guessed, *crashed]
        model = self._fitted(known, here)
        believed = [
            Row(point=row, loss=self.s.loss + belief.mean, runs=1, code=self.s.code)
            for row in self._under_way()
            for belief in model.beliefs(_matrix([row]))
        ]
        return self._fitted([*known, *believed], here) if believed else model

    def _fitted(self, rows: Sequence[Row], here: Row) -> Surrogate:
        return fit(
            rows,
            categorical=[d.categorical for d in self.s.space],
            expected=[_EXPECTED_SIZES[salience(d.name)] for d in self.s.space],
            incumbent=here,
            sigma=self.s.memory.sigma,
        )

    def _under_way(self) -> Iterator[list[float]]:
        for moved in self.s.under_way:
            point = {d.key: d.place(moved[d.key]) for d in self.s.space if d.key in moved}
            if point and None not in point.values():
                yield self._row({key: z for key, z in point.items() if z is not None})

    def _row(self, point: Point) -> list[float]:
        return [point.get(d.key, self.s.incumbent[d.key]) for d in self.s.space]

    def _sampler(self) -> Sampler:
        memory = self.s.memory
        seen = [
            Observation(point=p, loss=loss)
            for r in (*memory.relevant(_SAMPLED), *memory.guessed(_SAMPLED // 2))
            if (p := self.s.point(r)) is not None and (loss := r.loss if r.loss is not None else r.guess) is not None
        ]
        losses = [o.loss for o in seen] or [self.s.loss]
        bad = max(losses) + max(max(losses) - min(losses), memory.sigma)
        crashed = [
            Observation(point=p, loss=bad) for r in memory.crashes(_SAMPLED // 4) if (p := self.s.point(r)) is not None
        ]
        return Sampler(self.s.space, [*seen, *crashed], self.s.seed)

    def _steps(self) -> Iterator[Point]:
        for d in self.s.space:
            z = self.s.incumbent[d.key]
            if d.categorical:
                yield from ({d.key: float(i)} for i in range(len(d.choices)) if i != z)
                continue
            lengths = (
                (1.0, 2.0) if d.whole and d.key in self.touched else _STEPS if d.key in self.touched else (_FIRST_STEP,)
            )
            yield from ({d.key: z + sign * length * self.s.reach} for length in lengths for sign in (-1, 1))

    def _first_moves(self) -> Iterator[Point]:
        """One moderate step of each constant that was never moved, the most salient first; the seed says which way."""
        known = self.touched.union(*self.s.under_way)
        untouched = (d for d in self.s.space if d.key not in known)
        for d in sorted(untouched, key=lambda d: salience(d.name)):
            z = self.s.incumbent[d.key]
            places = [z - _FIRST_STEP, z + _FIRST_STEP]
            if d.categorical:
                places = [float(i) for i in range(len(d.choices)) if i != z]
            yield from ({d.key: place} for place in self.random.sample(places, len(places)))

    def _drawn(self) -> Iterator[Point]:
        """TPE's own values for the constants that seem to matter most."""
        known = [
            (float(size), d.key)
            for d, size in zip(self.s.space, self.model.sizes, strict=True)
            if d.key in self.touched
        ]
        if len(self.s.memory.records) < 2 or not known:
            return
        self.sampler = self._sampler()
        for _, key in sorted(known, reverse=True)[:_DRAWN_KEYS]:
            for draw in self.sampler.draw([key], self.s.incumbent, _DRAWS):
                yield {key: self._near(key, draw[key])}

    def _drawn_sets(self, known: Sequence[Move]) -> Iterator[Point]:
        keys = sorted({k for m in known for k in m.values})
        if len(keys) < 2:
            return
        for _ in range(_DRAWN_SETS):
            chosen = sorted(self.random.sample(keys, self.random.randint(2, min(_AT_MOST, len(keys)))))
            for draw in self.sampler.draw(chosen, self.s.incumbent, 1):
                yield {k: self._near(k, z) for k, z in draw.items()}

    def _combined(self, known: Sequence[Move]) -> Iterator[Point]:
        for count in range(2, _AT_MOST + 1):
            for moves in itertools.combinations(known, count):
                if len({k for m in moves for k in m.values}) == count:
                    yield {k: z for m in moves for k, z in m.point.items()}

    def _near(self, key: str, z: float) -> float:
        if self.by_key[key].categorical:
            return z
        here = self.s.incumbent[key]
        longest = _LONGEST_STEP * self.s.reach
        return min(max(z, here - longest), here + longest)

    def _judge(self, points: Iterable[Point]) -> list[Move]:
        """Candidates that are new and not forbidden, in the order given."""
        new: dict[tuple[Literal | None, ...], tuple[dict[str, Literal], dict[str, float]]] = {}
        for wanted in points:
            values = {k: self.by_key[k].value(z) for k, z in wanted.items()}
            values = {k: v for k, v in values.items() if v != self.s.current[k]}
            placed = {k: z for k, v in values.items() if (z := self.by_key[k].place(v)) is not None}
            signature = self._signature({**self.s.current, **values})
            if values and len(placed) == len(values) and signature not in self.tried and not self._is_forbidden(placed):
                new.setdefault(signature, (values, placed))
        if not new:
            return []
        beliefs = self.model.beliefs(_matrix([self._row(p) for _, p in new.values()]))
        return [Move(values=v, point=p, belief=b) for (v, p), b in zip(new.values(), beliefs, strict=True)]

    def _signature(self, constants: Mapping[str, Literal]) -> tuple[Literal | None, ...]:
        return tuple(constants.get(key, value) for key, value in self.s.current.items())

    def _forbidden(self, record: Record) -> dict[str, tuple[float, int]]:
        """Per constant that a crash moved: where it went and which way from here; 0 stands for that place alone."""
        found = {}
        for key in record.moved:
            d = self.by_key.get(key)
            z = None if d is None else d.place(record.constants[key])
            if d is None or z is None:
                return {}
            way = (z > self.s.incumbent[key]) - (z < self.s.incumbent[key])
            found[key] = (z, 0 if d.categorical or record.crash not in _BEYOND else way)
        return found if all(z != self.s.incumbent[k] for k, (z, _) in found.items()) else {}

    def _is_forbidden(self, placed: Point) -> bool:
        """True where a crash went no further than this, in every constant that it moved."""
        return any(
            all(
                k in placed and ((placed[k] - z) * way >= 0 if way else placed[k] == z) for k, (z, way) in crash.items()
            )
            for crash in self.crashed
        )


def _matrix(rows: Sequence[Sequence[float]]) -> "npt.NDArray[np.float64]":
    import numpy as np

    return np.array(rows, dtype=float)


def _best_by_key(moves: Sequence[Move], count: int) -> list[Move]:
    """The best `count` moves of each constant, best first."""
    left = {next(iter(m.values)): count for m in moves}
    kept = []
    for move in moves:
        key = next(iter(move.values))
        left[key] -= 1
        if left[key] >= 0:
            kept.append(move)
    return kept
