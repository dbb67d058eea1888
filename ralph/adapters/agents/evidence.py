"""What single changes showed: each experiment that moved one constant, compared with the incumbent it started from."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ralph.adapters.agents.memory import Memory
from ralph.core.literals import Literal
from ralph.core.search_space import Dimension
from ralph.model import CrashKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One constant moved from `before` to `after`. `difference` of the losses is None after a crash."""

    id: int
    dimension: Dimension
    before: Literal
    after: Literal
    steps: float
    difference: float | None
    se: float
    crash: CrashKind | None

    @property
    def way(self) -> int:
        """+1 where the constant was raised, -1 where it was lowered, 0 where it has no order."""
        return 0 if self.dimension.categorical else (self.steps > 0) - (self.steps < 0)

    @property
    def clear(self) -> bool:
        """True for a difference beyond two standard errors."""
        return self.difference is not None and abs(self.difference) > 2 * self.se


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """Several differences as one, weighted by their precision."""

    mean: float
    se: float


def comparisons(memory: Memory, space: Iterable[Dimension]) -> list[Comparison]:
    """Every experiment that moved exactly one constant of `space` and nothing else, oldest first."""
    by_key = {d.key: d for d in space}
    found = []
    for record in memory.records.values():
        base = memory.records.get(record.base)
        if len(record.moved) != 1 or record.moved[0] not in by_key or base is None or base.loss is None:
            continue
        d = by_key[record.moved[0]]
        before, after = base.constants.get(d.key, d.origin), record.constants[d.key]
        start, end = d.place(before), d.place(after)
        if start is None or end is None or (record.loss is None and record.crash is None):
            continue
        found.append(
            Comparison(
                id=record.id, dimension=d, before=before, after=after, steps=end - start, crash=record.crash,
                difference=None if record.loss is None else record.loss - base.loss,
                se=memory.sigma * math.sqrt(1 / max(1, record.runs) + 1 / max(1, base.runs)),
            )
        )  # fmt: skip
    return found


def pooled(items: Sequence[Comparison]) -> Pooled:
    """The precision-weighted mean of the differences; the shared error of a common base is not taken off."""
    weights = [1 / c.se**2 for c in items if c.difference is not None]
    total = sum(w * c.difference for w, c in zip(weights, items, strict=True) if c.difference is not None)
    return Pooled(mean=total / sum(weights), se=1 / math.sqrt(sum(weights)))
