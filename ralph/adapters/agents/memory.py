"""What an agent remembers: the verdicts of RALPH_HISTORY, with the constants of each experiment resolved.

Values are turned so that lower is better, whatever the metric's direction. Lines that cannot be read are skipped, and
most of the old ones of a long history.
"""

import heapq
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ralph.core.constants import same_value
from ralph.core.literals import Literal, literals
from ralph.model import CrashKind, Direction, Verdict

LATEST = 3000  # verdicts that are read at any length of the history …
BEST = 300  # … and so many older ones, beside those that were kept
KEPT, DISCARDED = '"verdict": "keep"', '"verdict": "discard"'  # no text can hold these, its quotes would be escaped
_SCORE = re.compile(r'"score": (-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One experiment. `constants` are all that is known of its values, `moved` those that differ from its base.

    `base` is the experiment that was the incumbent then; `loss` the mean of its scores, lower is better, None without
    one; `guess` what that of a run that was stopped early would have been at least; `code` the last kept experiment up
    to this one whose change no constant shows.
    """

    id: int
    verdict: Verdict
    base: int
    code: int
    constants: Mapping[str, Literal]
    moved: tuple[str, ...]
    loss: float | None = None
    runs: int = 0
    guess: float | None = None
    crash: CrashKind | None = None

    @property
    def counts(self) -> bool:
        """True when its score says something about its constants: it has one, and nothing else was changed unseen."""
        return self.loss is not None and (bool(self.moved) or self.verdict is Verdict.KEEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """All records by id, oldest first; `baseline` are the baseline's constants."""

    records: Mapping[int, Record] = field(default_factory=dict)
    baseline: Mapping[str, Literal] = field(default_factory=dict)
    sigma: float = 0.0

    def kept(self) -> Iterator[Record]:
        """The baseline and every keep, oldest first."""
        return (r for r in self.records.values() if r.verdict is Verdict.KEEP)

    def relevant(self, most: int) -> list[Record]:
        """At most `most` scored records: the best (two fifths) and the most recent, oldest first."""
        scored = [r for r in self.records.values() if r.counts]
        if len(scored) <= most:
            return scored
        best = most * 2 // 5
        older, recent = scored[: best - most], scored[best - most :]
        older.sort(key=lambda r: (math.inf if r.loss is None else r.loss, r.id))
        return sorted(older[:best] + recent, key=lambda r: r.id)

    def guessed(self, most: int) -> list[Record]:
        """The last `most` that were stopped early after a constant was moved."""
        return [r for r in self.records.values() if r.guess is not None and r.moved][-most:]

    def crashes(self, most: int) -> list[Record]:
        """The last `most` crashes of experiments that moved a constant."""
        return [r for r in self.records.values() if r.verdict is Verdict.CRASH and r.moved][-most:]


def read_memory(
    lines: Iterable[str], direction: Direction, current: Mapping[str, Literal], sigma: float = 0.0
) -> Memory:
    """Fold the lines of the history. `current` are the constants of the working directory, for what no line mentions.

    `sigma` is the noise of one run; where it is unknown (0) repeats in the history give it, or else a thousandth of the
    baseline's score stands in.
    """
    records: dict[int, Record] = {}
    origin = dict(current)
    base = code = 0
    squares, freedom = 0.0, 0
    for raw in _objects(_worth_reading(lines, direction)):
        known = literals(raw.get("constants"))
        if raw["id"] == 0:
            origin |= known
        constants = {**origin, **known}
        before = records[base].constants if base in records else origin
        moved = tuple(k for k, v in constants.items() if not same_value(v, before.get(k, origin.get(k))))
        verdict = Verdict.KEEP if raw["id"] == 0 else Verdict(raw["verdict"])
        scores = [direction.sign * s for s in raw.get("scores") or () if _is_number(s)]
        if verdict is Verdict.KEEP and not moved:
            code = raw["id"]
        start = records[base].loss if base in records else None
        mean = sum(scores) / len(scores) if scores and verdict in (Verdict.KEEP, Verdict.DISCARD) else None
        records[raw["id"]] = Record(
            id=raw["id"], verdict=verdict, base=base, code=code, constants=constants, moved=moved, loss=mean,
            runs=len(scores), crash=_crash(raw.get("crash")), guess=_guess(raw.get("early"), start, direction),
        )  # fmt: skip
        if verdict is Verdict.KEEP:
            base = raw["id"]
        if mean is not None:
            squares, freedom = squares + sum((s - mean) ** 2 for s in scores), freedom + len(scores) - 1
    return Memory(records=records, baseline=origin, sigma=sigma or _noise(squares, freedom, records))


def _guess(early: object, base_loss: float | None, direction: Direction) -> float | None:
    """What a stopped run would have come to: no better than the incumbent, whatever the likes of it did."""
    expected = early.get("expected") if isinstance(early, dict) else None
    if base_loss is None or not isinstance(expected, int | float) or not _is_number(expected):
        return None
    return base_loss + max(0.0, direction.sign * expected)


def _noise(squares: float, freedom: int, records: Mapping[int, Record]) -> float:
    if freedom > 0 and squares > 0:
        return math.sqrt(squares / freedom)
    first = next((r.loss for r in records.values() if r.loss is not None), None)
    return abs(first or 1.0) / 1000


def _worth_reading(lines: Iterable[str], direction: Direction) -> list[str]:
    """All lines; of a long history the latest, everything that was kept, and the older ones with the best scores.

    The others are not even parsed: a hundred thousand verdicts would take longer than the proposal.
    """
    every = list(lines)
    older, latest = every[:-LATEST], every[-LATEST:]
    kept = {n for n, line in enumerate(older) if KEPT in line or n == 0}
    lost = ((n, _SCORE.search(line)) for n, line in enumerate(older) if DISCARDED in line)
    scored = ((direction.sign * float(found[1]), n) for n, found in lost if found)
    best = {n for _, n in heapq.nsmallest(BEST, scored)}
    return [*(older[n] for n in sorted(kept | best)), *latest]


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            raw = json.loads(line)
        except ValueError:
            continue
        if isinstance(raw, dict) and type(raw.get("id")) is int and raw.get("verdict") in list(Verdict):
            yield raw


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _crash(value: object) -> CrashKind | None:
    try:
        return CrashKind(str(value))
    except ValueError:
        return None
