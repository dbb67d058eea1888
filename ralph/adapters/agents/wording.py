"""Hypotheses and learnings as sentences, out of what experiments showed."""

import math
from collections.abc import Iterator, Sequence

from ralph.adapters.agents.evidence import Comparison, pooled
from ralph.adapters.agents.moves import Move, Situation
from ralph.core.literals import Literal
from ralph.core.search_space import Dimension
from ralph.model import CrashKind, Direction, Learning

_MOST_LEARNINGS = 3
_FRESH = 3  # verdicts back: a learning whose proposal was lost is said again, an old one is not
_WIDE_ENOUGH = 1.0  # steps that a constant must have gone before it may be called insensitive
_CRASHES = {
    CrashKind.DEADLINE: "hits the deadline",
    CrashKind.OUT_OF_MEMORY: "runs out of memory",
    CrashKind.MEMORY_LIMIT: "takes more memory than a run may",
    CrashKind.NAN: "diverges to NaN",
    CrashKind.KILLED: "gets the run killed",
}


class Wording:
    """Numbers of one campaign as text: differences in the metric's own direction, digits as the noise allows."""

    def __init__(self, direction: Direction, sigma: float) -> None:
        self._sign = direction.sign
        self._digits = max(0, min(9, 1 - math.floor(math.log10(sigma)))) if sigma > 0 else 4

    def difference(self, loss: float) -> str:
        """A signed difference of the metric."""
        rounded = round(self._sign * loss, self._digits)
        return f"{rounded + 0.0:+.{self._digits}f}".replace("-", "−") if rounded else "0"

    def range(self, low: float, high: float) -> str:
        """From the better end to the worse one."""
        return f"{self.difference(low)} to {self.difference(high)}"

    def size(self, loss: float) -> str:
        """A difference without its sign."""
        return f"{abs(loss):.{self._digits}f}"


def hypothesis(situation: Situation, move: Move, shown: Sequence[Comparison], words: Wording) -> str:
    """One sentence: what changes, because of which experiments, and what is expected."""
    by_key = {d.key: d for d in situation.space}
    ambiguous = len({d.name for d in situation.space}) < len(situation.space)
    changes, reasons = [], []
    for key, new in move.values.items():
        old = situation.current[key]
        name = _name(by_key[key], ambiguous)
        changes.append(f"{_verb(by_key[key], old, new)} {name} {show(old)} → {show(new)}")
        told = _telling([c for c in shown if c.dimension.key == key])[: 2 if len(move.values) == 1 else 1]
        reason = _reason(situation, by_key[key], new, told, words)
        reasons.append(f"{name}: {reason}" if len(move.values) > 1 else reason)
    ends = (move.belief.mean - move.belief.sd, move.belief.mean + move.belief.sd)
    return f"{' and '.join(changes)} because {'; '.join(reasons)}; expect {words.range(*ends)}"


def expectation(move: Move, words: Wording) -> str:
    """The expected difference of the metric with its standard deviation."""
    return f"{words.difference(move.belief.mean)} ± {words.size(move.belief.sd)}"


def show(value: Literal) -> str:
    """A value as one reads it in the source."""
    return repr(value)


def learnings(shown: Sequence[Comparison], brief: str, newest: Sequence[int], words: Wording) -> tuple[Learning, ...]:
    """Conclusions whose evidence is new and which the brief does not have yet, freshest first, at most three.

    `newest` are the ids of all verdicts, oldest first.
    """
    fresh = set(newest[-_FRESH:])
    names = {c.dimension.key: c.dimension for c in shown}
    found = [
        learning
        for key, d in names.items()
        for stem, learning in _conclusions(d, [c for c in shown if c.dimension.key == key], words)
        if fresh.intersection(learning.evidence) and stem not in brief
    ]
    ordered = sorted(found, key=lambda item: (-max(item.evidence), item.text))
    return tuple(ordered[:_MOST_LEARNINGS])


def _conclusions(d: Dimension, shown: Sequence[Comparison], words: Wording) -> Iterator[tuple[str, Learning]]:
    for way in (-1, 1):
        yield from _crash_edge(d, [c for c in shown if c.crash in _CRASHES and c.way == way], way)
        yield from _direction(d, [c for c in shown if c.difference is not None and c.way == way], way, words)
    yield from _insensitive(d, [c for c in shown if c.difference is not None], words)


def _crash_edge(d: Dimension, crashed: Sequence[Comparison], way: int) -> Iterator[tuple[str, Learning]]:
    if crashed:
        nearest = min(crashed, key=lambda c: c.steps * way)
        stem = f"{d.name} {'≥' if way > 0 else '≤'} {show(nearest.after)}"
        yield stem, Learning(text=f"{stem} {_crashed(nearest.crash)}", evidence=tuple(c.id for c in crashed))


def _direction(d: Dimension, shown: Sequence[Comparison], way: int, words: Wording) -> Iterator[tuple[str, Learning]]:
    """One way of a constant hurts (or helps) in at least two experiments, beyond noise together."""
    hurts = [c for c in shown if c.difference is not None and c.difference > 0]
    helps = [c for c in shown if c.difference is not None and c.difference < 0]
    verb = "raising" if way > 0 else "lowering"
    nearest = max if way < 0 else min
    if len(hurts) >= 2 and not helps and _beyond_noise(hurts):
        start = nearest((c.before for c in hurts), key=lambda v: d.place(v) or 0.0)
        stem = f"{verb} {d.name} {'beyond' if way > 0 else 'below'}"
        text = f"{stem} {show(start)} hurts: {_list(hurts, words)}"
        yield stem, Learning(text=text, evidence=tuple(c.id for c in hurts))
    if len(helps) >= 2 and not hurts and _beyond_noise(helps):
        end = (min if way < 0 else max)((c.after for c in helps), key=lambda v: d.place(v) or 0.0)
        stem = f"{verb} {d.name} helps"
        text = f"{stem}, down to {show(end)}" if way < 0 else f"{stem}, up to {show(end)}"
        yield stem, Learning(text=f"{text}: {_list(helps, words)}", evidence=tuple(c.id for c in helps))


def _insensitive(d: Dimension, shown: Sequence[Comparison], words: Wording) -> Iterator[tuple[str, Learning]]:
    if d.categorical or len(shown) < 2 or any(c.clear for c in shown):
        return
    together = pooled(shown)
    ends = sorted([v for c in shown for v in (c.before, c.after)], key=lambda v: d.place(v) or 0.0)
    width = (d.place(ends[-1]) or 0.0) - (d.place(ends[0]) or 0.0)
    if abs(together.mean) < together.se and width >= _WIDE_ENOUGH:
        stem = f"{d.name} between"
        text = f"{stem} {show(ends[0])} and {show(ends[-1])} changes nothing beyond noise: {_list(shown, words)}"
        yield stem, Learning(text=text, evidence=tuple(c.id for c in shown))


def _crashed(kind: CrashKind | None) -> str:
    return _CRASHES.get(kind, "crashes") if kind else "crashes"


def _beyond_noise(shown: Sequence[Comparison]) -> bool:
    together = pooled(shown)
    return abs(together.mean) > 2 * together.se


def _list(shown: Sequence[Comparison], words: Wording) -> str:
    return ", ".join(f"#{c.id} {show(c.after)} {words.difference(c.difference or 0.0)}" for c in shown[-4:])


def _verb(d: Dimension, old: Literal, new: Literal) -> str:
    start, end = d.place(old), d.place(new)
    if d.categorical or start is None or end is None:
        return "set"
    return "raise" if end > start else "lower"


def _name(d: Dimension, ambiguous: bool) -> str:
    return d.key if ambiguous else d.name


def _reason(situation: Situation, d: Dimension, new: Literal, shown: Sequence[Comparison], words: Wording) -> str:
    values = [r.constants[d.key] for r in situation.memory.records.values() if d.key in r.moved]
    if not values:
        return "it was never moved"
    parts = [_told(c, words) for c in shown] or ["it moved only together with others"]
    values += [d.origin, situation.current[d.key]]
    target, places = d.place(new), [z for v in values if (z := d.place(v)) is not None]
    if target is not None and places and not d.categorical:
        if target > max(places):
            parts.append("nothing above was tried")
        elif target < min(places):
            parts.append("nothing below was tried")
    return " and ".join(parts)


def _telling(shown: Sequence[Comparison]) -> list[Comparison]:
    """The most telling first: failures, clear differences, then the latest."""
    return sorted(shown, key=lambda c: (c.crash is None, not c.clear, -c.id))


def _told(c: Comparison, words: Wording) -> str:
    where = f"#{c.id} ({show(c.after)})"
    if c.difference is None:
        return f"{where} {_crashed(c.crash)}"
    if not c.clear:
        return f"{where} was within noise at {words.difference(c.difference)}"
    return f"{where} was {'worse' if c.difference > 0 else 'better'} by {words.size(c.difference)}"
