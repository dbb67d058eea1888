"""Stop hopeless runs early: at a few shares of the budget a run is held against all that were scored before it.

The rule. A *contender* is an experiment whose first score did not settle it: it was kept, or run again. Every keep is
one. Of each contender so far it is known how far its first run's loss was behind the reference (curves.py) at each
look; in units of their usual spread at that look, the largest of these is how bad it ever looked. A new run is stopped
when it looks worse than all but the worst `false_stop_rate` of the contenders ever did:

    s_i = max over looks k of (gap_ik − centre_k) / spread_k        stop at look k when  s_k > c
    c = the smallest value with  Σ w_i [s_i ≤ c]  ≥  (1 − rate) · (Σ w_i + 1)

Centre and spread at a look are those of all experiments of the agent and of the run itself: if they were the
contenders' alone, these would look less unusual than a newcomer does, and with few of them too many would be stopped.

That is conformal prediction for the class of contenders (Vovk, Gammerman, Shafer 2005; weights as in Tibshirani
et al. 2019). The maximum over the looks makes it one test, however often a run is looked at.

Promised: a run that would be a contender is stopped with probability at most about `false_stop_rate`, whatever the
distributions, provided it is one of a kind with the contenders so far (exchangeable). Keeps are the better part of the
contenders; as long as they do not look worse than the rest, the same holds for them. Nothing is stopped before
1/rate − 1 experiments of the *same agent* were scored; while fewer of them are contenders, the next best count as such,
which only makes the rule more lenient. Runs that were stopped have no score and would be missing among the worst
contenders, so that the rule would tighten by itself; therefore a share of those to be stopped, drawn by lot, goes on to
the end as a spot check and stands for the others with the weight 1/share. How often a spot check turns out to be a
contender is the measured rate in progress.md.

Not promised: anything for a kind of change that this agent never made before (an idea that starts more slowly than all
others, or one that logs another loss than the incumbent's); the spot checks notice it, later. A lie in the log can save
a run from being stopped; its score is no better for it. Logged losses that are far too high, from a contender, make the
rule lenient for all; far too low ones, of an incumbent, are made up for by the reference.

Pure: the lot is drawn from the names of campaign and experiment.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from ralph.core.curves import LOOKS, Curve, Finished, Past, at_looks
from ralph.model import Direction, EarlyStop

SPREAD_OF_NORMAL = 1.4826  # median deviation to standard deviation
TRACE = 1e-9  # of weight, for sums that are not exact
ALIKE = 7  # experiments that looked alike at a look, from which the outcome of a stopped one is guessed


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneRule:
    """The user's settings for early stops.

    Attributes:
        false_stop_rate: the most probable it may be that a contender is stopped; 0 stops nothing, at most 0.5.
        spot_checks: share of those to be stopped that go on to the end; above 0, at most 1.

    Raises:
        ValueError: a setting is out of its range.
    """

    false_stop_rate: float = 0.1
    spot_checks: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.false_stop_rate <= 0.5:
            raise ValueError(f"false_stop_rate is {self.false_stop_rate}: choose 0 (never stop) to 0.5 (usual: 0.1)")
        if not 0 < self.spot_checks <= 1:
            raise ValueError(f"spot_checks is {self.spot_checks}: choose above 0, at most 1 (usual: 0.1)")

    @property
    def least(self) -> int:
        """Scored experiments of an agent before one of its runs can be stopped.

        >>> [PruneRule(false_stop_rate=rate).least for rate in (0.02, 0.05, 0.1, 0.3)]
        [49, 19, 9, 3]
        """
        return math.ceil(1 / self.false_stop_rate - 1e-9) - 1


def early_stop(
    rule: PruneRule, past: Past, agent: str, curve: Curve, rival: int | None, direction: Direction
) -> EarlyStop | None:
    """The first look at which a run of this agent's, made on the incumbent `rival`, is to be stopped; None if none is.

    What of the curve is still to come is None. Nothing is stopped while the past says too little.
    """
    if not rule.false_stop_rate:
        return None
    own = [f for f in past.finished if f.agent == agent]
    contenders = _contenders(rule, own)
    if len(contenders) < rule.least:
        return None
    gaps = past.gaps(at_looks(curve), rival)
    for k, gap in enumerate(gaps):
        if gap is None or not _far_behind(rule, contenders, k, gap):
            continue
        seen = (*gaps[: k + 1], *(None for _ in gaps[k + 1 :]))
        allowed = _allowed(rule, contenders, [*(f.gaps for f in own), seen], k)
        if allowed is not None and gap > allowed:
            guess = direction.sign * _guess(past.finished, k, gap)
            return EarlyStop(share=LOOKS[k], behind=gap, allowed=allowed, expected=guess)
    return None


def _far_behind(rule: PruneRule, contenders: Sequence[Finished], k: int, gap: float) -> bool:
    """Whether enough contenders looked better at look `k` for this gap to be too large: a quick no, and never a yes."""
    weights = [(_weight(rule, f), (g := f.gaps[k]) is None or g < gap) for f in contenders]
    needed = (1 - rule.false_stop_rate) * (sum(weight for weight, _ in weights) + 1)
    return sum(weight for weight, better in weights if better) >= needed - TRACE


def _allowed(rule: PruneRule, contenders: Sequence[Finished], gaps: Sequence[Curve], k: int) -> float | None:
    """How far behind a run may be at look `k`, if these are the gaps of all, its own included; None: cannot be said."""
    scales = [_scale([gap for each in gaps if (gap := each[look]) is not None]) for look in range(len(LOOKS))]
    looked = [
        (max(zs), _weight(rule, f))
        for f in contenders
        if (zs := [_z(g, s) for g, s in zip(f.gaps, scales, strict=True) if g is not None and s is not None])
    ]
    scale = scales[k]
    if scale is None or len(looked) < rule.least:
        return None
    worst = _quantile(looked, 1 - rule.false_stop_rate)
    return None if worst is None else scale.centre + worst * scale.spread


def with_lot(rule: PruneRule, early: EarlyStop, campaign: str, id: int) -> EarlyStop:  # noqa: A002
    """This stop, unless the lot makes a spot check of the experiment.

    >>> early = EarlyStop(share=0.2, behind=1.0, allowed=0.5)
    >>> sum(with_lot(PruneRule(spot_checks=0.1), early, "lab", number).spared for number in range(1000))
    94
    """
    lot = int.from_bytes(hashlib.sha256(f"{campaign}#{id}".encode()).digest()[:8], "big")
    return replace(early, spared=lot < rule.spot_checks * 2**64)


def reason(early: EarlyStop) -> str:
    """Why a run was stopped, to be read on after that word.

    >>> reason(EarlyStop(share=0.35, behind=0.5123, allowed=0.2, expected=0.031))
    'at 35% of its budget: its loss was 0.512 behind, and contenders may be 0.2'
    """
    return (
        f"at {early.share:.0%} of its budget: its loss was {early.behind:.3g} behind, "
        f"and contenders may be {early.allowed:.3g}"
    )


def _contenders(rule: PruneRule, finished: Sequence[Finished]) -> list[Finished]:
    """The contenders, and the next best while they are too few."""
    found = [f for f in finished if f.contender]
    rest = sorted((f for f in finished if not f.contender), key=lambda f: f.behind)
    return found + rest[: max(0, rule.least - len(found))]


def _weight(rule: PruneRule, f: Finished) -> float:
    return 1 / rule.spot_checks if f.spared else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """Centre and spread of gaps at one look."""

    centre: float
    spread: float


def _scale(gaps: Sequence[float]) -> _Scale | None:
    """By the half above the median, which is the one that matters; None where nothing differs."""
    if not gaps:
        return None
    centre = median(gaps)
    above = [gap - centre for gap in gaps if gap >= centre]
    spread = SPREAD_OF_NORMAL * median(above) or fmean(above)
    return _Scale(centre=centre, spread=spread) if spread > 0 else None


def _z(gap: float, scale: _Scale) -> float:
    return (gap - scale.centre) / scale.spread


def _quantile(weighted: Sequence[tuple[float, float]], share: float) -> float | None:
    """The smallest value that so large a share of the weights, with one of 1 for the run in question, is up to."""
    needed, so_far = share * (sum(weight for _, weight in weighted) + 1), 0.0
    for value, weight in sorted(weighted):
        so_far += weight
        if so_far >= needed - TRACE:
            return value
    return None


def _guess(finished: Sequence[Finished], k: int, gap: float) -> float:
    """How far behind in score those were, in the middle, that looked most like this one, or the worst contender."""
    known = [(abs(g - gap), f.behind) for f in finished if (g := f.gaps[k]) is not None]
    alike = median(behind for _, behind in sorted(known)[:ALIKE])
    return max([alike, *(f.behind for f in finished if f.contender)])
