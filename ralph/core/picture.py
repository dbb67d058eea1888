"""What the picture of a campaign shows: scores over experiments, the incumbents' staircase, and where to cut the axis.

Pure data of bounded size for `ralph.adapters.plot`, which draws it in a process of its own. Where many were discarded,
an even selection stands for all of them, also for where the axis ends.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ralph.core.figures import Estimate, estimate, estimates_of_rows, figures_of, gain_of
from ralph.core.fold import State
from ralph.core.gist import sign
from ralph.core.wording import counted, plain
from ralph.model import Direction, Verdict

SCHEMA = 1
MOST_POINTS = 2000  # discarded ones; keeps are never left out
MOST_FAILED = 500
MOST_LABELS = 16
LABEL_WIDTH = 34
_CLAUSE = re.compile(r"(?i)[,;:.]? because |[:;] |, (?:since|as|so that|to) |; expect|\. ")


def picture_data(state: State) -> dict[str, Any]:
    """Everything that is drawn, as JSON values.

    `points` are the judged experiments with a score, `failed` those without; `stairs` are the incumbents, each at the
    mean of all its runs, re-measurements included, from its own experiment to the next keep; `ylim` is where the axis
    ends, and what lies beyond is marked at its edge.
    """
    arena, direction = state.arena, state.arena.direction if state.arena else Direction.MIN
    rows = state.experiments.rows
    kept = _points(state, _incumbents(state), Verdict.KEEP)
    discarded = _points(state, thinned(rows.discarded, MOST_POINTS), Verdict.DISCARD)
    shown = sorted([*kept, *discarded], key=lambda point: point.id)
    return {
        "schema": SCHEMA,
        "title": _title(state),
        "subtitle": _subtitle(state),
        "metric": plain(arena.metric if arena else "score", 40),
        "direction": str(direction),
        "last": max(state.experiments.last, 0),
        "points": [{"id": p.id, "score": p.at.mean, "se": p.at.se, "verdict": str(p.verdict)} for p in shown],
        "failed": [{"id": i, "verdict": str(rows.verdict(i))} for i in thinned(rows.failed, MOST_FAILED)],
        "stairs": _stairs(state, kept),
        "labels": _labels(state, kept),
        "ylim": _limits(state, kept, discarded),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    id: int
    verdict: Verdict
    at: Estimate


def _points(state: State, ids: Sequence[int], verdict: Verdict) -> list[_Point]:
    estimates = estimates_of_rows(state, ids)
    return [_Point(id=id_, verdict=verdict, at=at) for id_, at in zip(ids, estimates, strict=True)]


def _incumbents(state: State) -> list[int]:
    """The baseline, if it was kept, and every keep, as far as they were measured."""
    rows = state.experiments.rows
    return [i for i in (0, *state.keeps) if rows.verdict(i) is Verdict.KEEP and rows.runs[i]]


T = TypeVar("T")


def thinned(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of them, evenly spread, the first and the last among them.

    >>> thinned(range(10), 4)
    [0, 3, 6, 9]
    """
    total = len(items)
    if total <= most:
        return list(items)
    return [items[i * (total - 1) // (most - 1)] for i in range(most)]


def _stairs(state: State, kept: Sequence[_Point]) -> list[dict[str, Any]]:
    ends = [*(p.id for p in kept[1:]), max(state.experiments.last, 0)]
    return [
        {"from": p.id, "to": until, "score": p.at.mean, "se": p.at.se} for p, until in zip(kept, ends, strict=False)
    ]


def _labels(state: State, kept: Sequence[_Point]) -> list[dict[str, Any]]:
    """Words for the keeps, the latest and the largest gains first, as many as can be read."""
    latest = {p.id for p in kept[-3:]}
    claims = [(p.id not in latest, sign(state) * (state.experiments[p.id].delta or 0.0), p) for p in kept if p.id]
    claims.sort(key=lambda claim: claim[:2])
    return [
        {"id": p.id, "score": p.at.mean, "text": f"#{p.id} {short(state.experiments[p.id].hypothesis)}"}
        for _, _, p in claims[:MOST_LABELS]
    ]


def short(hypothesis: str) -> str:
    """The first clause of a hypothesis, what was done, without why.

    >>> short("value-embedding weight decay 0.001: the largest tables were overfitting")
    'value-embedding weight decay 0.001'
    >>> short("batch 262K, because more steps fit; expect -0.01")
    'batch 262K'
    """
    line = plain(hypothesis, 300)
    clause = _CLAUSE.split(line, maxsplit=1)[0].strip(" ,;:.")
    return plain(clause or line, LABEL_WIDTH)


def _limits(state: State, kept: Sequence[_Point], discarded: Sequence[_Point]) -> list[float] | None:
    """Ends of the axis. The incumbents and the baseline are always inside; the bulk of the discarded is, outliers are
    not. Computed where lower is better, and mirrored for the other direction.
    """
    way = sign(state)
    steps = [way * p.at.mean for p in kept]
    others = sorted(way * p.at.mean for p in discarded)
    if not steps:
        return None
    best, worst = min(steps), max(steps)
    sigma = state.noise.sigma or 0.0
    spread = _quantile(others, 0.75) - _quantile(others, 0.25) if others else 0.0
    reach = max(worst - best, 8 * sigma, 1e-3 * abs(best)) or 1.0
    if len(steps) == 1:
        reach = max(reach, min(4 * spread, 40 * sigma) if sigma else 4 * spread)
    bad_end = max(worst, min(_quantile(others, 0.9), worst + 0.5 * reach) if others else worst)
    good_end = min(best, max(others[0], best - 0.2 * reach)) if others else best
    height = max(bad_end - good_end, 0.05 * reach)
    low, high = good_end - max(0.06 * height, 2 * sigma), bad_end + max(0.08 * height, 2 * sigma)
    return sorted((way * low, way * high))


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))]


def _title(state: State) -> str:
    if state.arena is None:
        return "no campaign yet"
    better = "lower" if state.arena.direction is Direction.MIN else "higher"
    return plain(f"{state.campaign} · {state.arena.name} · {state.arena.metric}, {better} is better", 100)


def _subtitle(state: State) -> str:
    baseline, incumbent = state.baseline, state.incumbent
    if baseline is None or incumbent is None:
        return "no baseline yet"
    digits = figures_of(state)
    counts = f"{len(state.keeps):,} kept of {counted(state.judged, 'experiment')}"
    if incumbent.id == 0:
        return f"baseline {digits.show(estimate(state, baseline))} · {counts}"
    first: Estimate = estimate(state, baseline)
    best = estimate(state, incumbent)
    return f"{digits.score(first.mean)} → {digits.score(best.mean)} ({digits.show_change(gain_of(state))}) · {counts}"
