"""What the picture of a campaign shows: scores over experiments, the incumbents' staircase, and where to cut the axis.

Pure data of bounded size for `ralph.adapters.plot`, which draws it in a process of its own. Of many an even selection
stands for all, of the discarded ones also for where the axis ends.
"""

import math
import re
from collections.abc import Sequence
from heapq import nsmallest
from typing import Any, TypeVar

from ralph.core.figures import Estimate, errors_of, estimate, figures_of, gain_of, means_of
from ralph.core.fold import State
from ralph.core.gist import sign
from ralph.core.memo import known
from ralph.core.wording import counted, plain
from ralph.model import Direction, Verdict

SCHEMA = 2
MOST_POINTS = 800  # discarded ones: of more, one would cover the other
MOST_KEPT = 400  # steps; of more, some would be narrower than a line
MOST_BARS = 250  # discarded points above which their error bars only blur
MOST_FAILED = 400
FAILED = (Verdict.CRASH, Verdict.INVALID, Verdict.VOID)
MOST_LABELS = 16
LABEL_WIDTH = 34
_CLAUSE = re.compile(r"(?i)[,;:.]? because |[:;] |, (?:since|as|so that|to) |; expect|\. ")


def picture_data(state: State) -> dict[str, Any]:
    """Everything that is drawn, as JSON values.

    `kept` are the incumbents, each at the mean of all its runs, re-measurements included, and one from its own
    experiment to the next; `discarded` have a score, `failed` none. All three are in columns. `ylim` is where the axis
    ends, and what lies beyond is marked at its edge.
    """
    arena, direction = state.arena, state.arena.direction if state.arena else Direction.MIN
    rows = state.experiments.rows
    keeps = _incumbents(state)
    labelled = known(state, "labels", tuple(keeps), _labelled)
    shown = {*labelled, *thinned(keeps, MOST_KEPT)}
    kept, discarded = [n for n in keeps if n in shown], thinned(rows.discarded, MOST_POINTS)
    steps, others = means_of(state, kept), means_of(state, discarded)
    bars = errors_of(state, discarded) if len(discarded) <= MOST_BARS else [None] * len(discarded)
    failed = [(id_, rows.verdict(id_)) for id_ in thinned(rows.failed, MOST_FAILED)]
    return {
        "schema": SCHEMA,
        "title": _title(state),
        "subtitle": _subtitle(state),
        "metric": plain(arena.metric if arena else "score", 40),
        "direction": str(direction),
        "last": max(state.experiments.last, 0),
        "kept": {"id": kept, "score": steps, "se": errors_of(state, kept)},
        "discarded": {"id": discarded, "score": others, "se": bars},
        "failed": {str(verdict): [id_ for id_, its in failed if its is verdict] for verdict in FAILED},
        "labels": _labels(state, labelled),
        "ylim": _limits(state, means_of(state, keeps), others),
    }


def _incumbents(state: State) -> list[int]:
    """The baseline, if it was kept, and every keep, as far as they were measured."""
    rows = state.experiments.rows
    first = [0] if rows.verdict(0) is Verdict.KEEP else []
    return [id_ for id_ in (*first, *state.keeps) if rows.runs[id_]]


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


def _labels(state: State, ids: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {"id": n, "score": score, "text": f"#{n} {short(state.experiments[n].hypothesis)}"}
        for n, score in zip(ids, means_of(state, ids), strict=True)
    ]


def _labelled(state: State) -> list[int]:
    """The keeps that get words, the latest and the largest gains first, as many as can be read."""
    kept = _incumbents(state)
    latest = set(kept[-3:])
    claims = ((id_ not in latest, sign(state) * (state.experiments[id_].delta or 0.0), id_) for id_ in kept if id_)
    return [id_ for _, _, id_ in nsmallest(MOST_LABELS, claims)]


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


def _limits(state: State, kept: Sequence[float], discarded: Sequence[float]) -> list[float] | None:
    """Ends of the axis. The incumbents and the baseline are always inside; the bulk of the discarded is, outliers are
    not. Computed where lower is better, and mirrored for the other direction.
    """
    way = sign(state)
    steps = [way * score for score in kept]
    others = sorted(way * score for score in discarded)
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
