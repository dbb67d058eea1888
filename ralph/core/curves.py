"""The curve of a run: its loss at fixed shares of the budget, and the few that a campaign keeps in mind.

A curve is the run's own word. Whoever writes nonsense has a curve of gaps, or a wrong one; what that can and cannot do
is in pruning.py. Each run's curve is in the ledger. The state holds them at the looks only, and of a number of runs
that is bounded at any age of the campaign: the incumbent's, those of experiments in flight, and the first of each of
the last `KEPT` experiments that were scored.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median

from ralph.events import RunEnded
from ralph.model import ArenaRecord, Experiment, Outcome, Verdict

POINTS = 20  # of a curve, one for every twentieth of the budget
SMOOTHED = 2  # points: each is the mean over what was logged in so many twentieths before it
LOOKS = (0.2, 0.35, 0.5, 0.65, 0.8)  # shares of the budget at which a run is looked at
KEPT = 400  # scored experiments that are kept in mind
RIVALS = 16  # contenders, the latest, that are a yardstick beside the incumbent …
RIVALS_ABOVE = 0.2  # … and the best share of them, which it is not believed to outdo by far
INCUMBENTS = 4  # the latest, whose curves are kept, since a candidate may have been made on an older one …
INCUMBENT_RUNS = 16  # … and the latest runs of each
MOST_LOSS = 1e6  # a loss beyond this counts as this

Curve = tuple[float | None, ...]


def resample(logged: Iterable[tuple[float, float]], budget_s: float) -> Curve:
    """The curve of what was logged, as pairs of seconds and loss in any order; None where nothing was lately.

    >>> resample([(1.0, 4.0), (2.0, 3.0), (2.5, math.nan), (-3.0, 9.0), (4.0, 2.0)], 10.0)[:10]
    (None, 4.0, 4.0, 3.0, 3.0, None, None, 2.0, 2.0, None)
    """
    bins: list[list[float]] = [[] for _ in range(POINTS)]
    for seconds, loss in logged:
        if math.isfinite(loss) and 0 < seconds <= budget_s:
            bins[min(POINTS, math.ceil(seconds / budget_s * POINTS)) - 1].append(max(-MOST_LOSS, min(MOST_LOSS, loss)))
    return tuple(_mean(bins[max(0, k + 1 - SMOOTHED) : k + 1]) for k in range(POINTS))


def _mean(bins: Sequence[Sequence[float]]) -> float | None:
    losses = [loss for each in bins for loss in each]
    return float(f"{fmean(losses):.5g}") if losses else None


def at_looks(curve: Curve) -> Curve:
    """The values at `LOOKS`; a curve of any other number of points has none."""
    return tuple(curve[round(look * POINTS) - 1] if len(curve) == POINTS else None for look in LOOKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The curves of an experiment in flight, at the looks, and how far its first good run was behind the reference.

    `spared`: it was to be stopped, and went on as a spot check.
    """

    curves: tuple[Curve, ...]
    gaps: Curve
    spared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An experiment that was scored: the losses of its first good run at the looks, and how far behind they were.

    `behind` is the same of its score: less the incumbent's of that time, as a loss, so that above 0 is worse.
    `contender`: its first score did not settle it. `spared` as in `Begun`.
    """

    agent: str
    losses: Curve
    gaps: Curve
    behind: float
    contender: bool
    spared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The curves that a campaign keeps in mind, and what early stops have come to.

    `kept` are those of the latest incumbents, by experiment. Of `spared` spot checks that were scored, `mistaken`
    turned out to be contenders. `saved_s` is training time.
    """

    kept: Mapping[int, tuple[Curve, ...]] = field(default_factory=dict)
    begun: Mapping[int, Begun] = field(default_factory=dict)
    finished: tuple[Finished, ...] = ()
    stopped: int = 0
    spared: int = 0
    mistaken: int = 0
    saved_s: float = 0.0

    def gaps(self, losses: Curve, rival: int | None) -> Curve:
        """How far losses at the looks are above those of the incumbent `rival`; None where either is not known.

        That is the median over its runs, but no lower than the best fifth of the latest contenders had it: an incumbent
        which logs less than its loss shall be no bar to others. (The middle of the contenders would be safer still, but
        they lag behind while a campaign improves fast, and little would be stopped.)
        """
        theirs = self.kept.get(-1 if rival is None else rival, ())
        contenders = [f.losses for f in self.finished if f.contender][-RIVALS:]
        return tuple(
            None if mine is None or (known := _median(theirs, k)) is None else mine - _higher(known, contenders, k)
            for k, mine in enumerate(losses)
        )


def _median(curves: Sequence[Curve], k: int) -> float | None:
    known = [loss for curve in curves if (loss := curve[k]) is not None]
    return median(known) if known else None


def _higher(known: float, contenders: Sequence[Curve], k: int) -> float:
    theirs = sorted(loss for curve in contenders if (loss := curve[k]) is not None)
    return max(known, theirs[int(len(theirs) * RIVALS_ABOVE)]) if theirs else known


def after_run(past: Past, event: RunEnded, rival: int | None) -> Past:
    """Remember the curve of a run that is over, or the time that was saved by ending it.

    `rival` is the incumbent that its experiment was made on.
    """
    if event.outcome is Outcome.STOPPED and event.early is not None:
        saved_s = past.saved_s + event.train_s * (1 / event.early.share - 1)
        return replace(past, stopped=past.stopped + 1, saved_s=saved_s)
    if event.outcome is not Outcome.OK or not event.curve:
        return past
    losses = at_looks(event.curve)
    if (theirs := past.kept.get(event.id)) is not None:
        return replace(past, kept={**past.kept, event.id: (*theirs, losses)[-INCUMBENT_RUNS:]})
    before = past.begun.get(event.id)
    now = (
        replace(before, curves=(*before.curves, losses))
        if before
        else Begun(curves=(losses,), gaps=past.gaps(losses, rival), spared=event.early is not None)
    )
    return replace(past, begun={**past.begun, event.id: now})


def after_rebase(past: Past, id: int) -> Past:  # noqa: A002 - the word of the ledger
    """Forget the runs of an experiment that has become another program."""
    return replace(past, begun={id_: begun for id_, begun in past.begun.items() if id_ != id})


def after_verdict(past: Past, e: Experiment, rival: Experiment | None, arena: ArenaRecord | None) -> Past:
    """Remember how an experiment came out against the incumbent that it was made on."""
    begun = past.begun.get(e.id)
    kept = e.verdict is Verdict.KEEP
    past = after_rebase(past, e.id)
    best = rival.score if rival else None
    if begun and e.scores and best is not None and arena is not None and (kept or e.verdict is Verdict.DISCARD):
        one = Finished(
            agent=e.agent,
            losses=begun.curves[0],
            gaps=begun.gaps,
            behind=arena.direction.sign * (e.scores[0] - best),
            contender=kept or len(e.scores) > 1,
            spared=begun.spared,
        )
        mistaken = past.mistaken + (one.spared and one.contender)
        finished = (*past.finished, one)[-KEPT:]
        past = replace(past, finished=finished, spared=past.spared + one.spared, mistaken=mistaken)
    if kept:
        latest = dict(list(past.kept.items())[1 - INCUMBENTS :])
        past = replace(past, kept={**latest, e.id: begun.curves if begun else ()})
    return past
