"""Does the gain hold on text that nobody chose by? The audit: keeps against the baseline on a split of its own.

The rule. The newest audited keep and the baseline are compared twice, on the same artifacts: by their scores on the
validation set, by which it was chosen, and by those on the audit split. The gains differ by an excess, whose standard
error is sigma·√2·√(1/n + 1/m) for n and m artifacts: as if the noise of the two splits had nothing in common.

- The excess is within noise unless it passes Student's t at level 0.05/(k·(k + 1)) for the k-th keep. Over all keeps
  together these levels add up to 0.05: the more often one looks, the more it takes.
- The campaign is over-fitting if the excess is beyond noise and less than three quarters of the gain are left: what a
  change is worth differs a little from one text to the next, even where nothing was chosen.

Promised: a campaign whose keeps are worth the same on both splits is accused with probability 5% at most, over one look
for each keep, if the noise is what statistics.py covers.
Not promised: anything while sigma is unknown. Artifacts measured again bring further looks, which are not counted. The
luck by which a keep was chosen is excess as well, some 0.7 standard errors of it in simulation. Noise that the splits
share is counted twice, so that a small excess is found late. The two splits are of one source: what over-fits that
source, or the seeds, gains on both.

Pure: the same numbers give the same finding.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from ralph.core.fold import State
from ralph.core.statistics import Noise, mean, t_tail
from ralph.model import Experiment

ALARM_RATE = 0.05  # how probable a false accusation may be, over all keeps of a campaign
SHARE_LEFT = 0.75  # of the gain: with so much left on another text, nothing is said to be over-fitted
STEP = 0.05  # shares are shown in steps of this, so that an agent that reads progress.md cannot follow single keeps


class Finding(StrEnum):
    """What the audit says."""

    AGREES = "agrees"  # within noise, or better on the audit split
    LESS = "less"  # beyond noise, but most of the gain is left
    OVERFITTING = "overfitting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Gains of the newest audited keep over the baseline, above 0 where better; `se` is that of their difference."""

    keeps: int
    search_gain: float
    audit_gain: float
    se: float | None
    dof: int = 0

    @property
    def finding(self) -> Finding | None:
        """What the rule says of the numbers; None while the noise is unknown.

        >>> def audit(search, on_audit, se=0.001, keeps=4, dof=20):
        ...     return Audit(keeps=keeps, search_gain=search, audit_gain=on_audit, se=se, dof=dof)
        >>> str(audit(0.0100, 0.0085).finding), str(audit(0.0100, 0.0120).finding)
        ('agrees', 'agrees')
        >>> str(audit(0.0300, 0.0240).finding), str(audit(0.0100, 0.0040).finding)
        ('less', 'overfitting')
        >>> str(audit(0.0100, 0.0060, keeps=1).finding), str(audit(0.0100, 0.0060, keeps=40).finding)
        ('overfitting', 'agrees')
        >>> str(audit(0.0100, 0.0040, se=0.0, dof=3).finding), audit(0.01, 0.0, se=None, dof=0).finding
        ('overfitting', None)
        """
        if self.se is None or not self.dof:
            return None
        excess = self.search_gain - self.audit_gain
        level = ALARM_RATE / (self.keeps * (self.keeps + 1))
        beyond = excess > 0 if self.se == 0 else t_tail(excess / self.se, self.dof) < level
        if not beyond:
            return Finding.AGREES
        return Finding.OVERFITTING if self.audit_gain < SHARE_LEFT * self.search_gain else Finding.LESS

    @property
    def share(self) -> float:
        """How much of the gain is left on the audit split, in whole steps of a twentieth; 0 where there is none.

        >>> Audit(keeps=1, search_gain=0.010, audit_gain=0.0042, se=None).share
        0.4
        >>> Audit(keeps=1, search_gain=0.010, audit_gain=-0.001, se=None).share
        0.0
        """
        if self.search_gain <= 0 or self.audit_gain <= 0:
            return 0.0
        return round(round(self.audit_gain / self.search_gain / STEP) * STEP, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Scores of the same artifacts on the two splits."""

    search: tuple[float, ...]
    audit: tuple[float, ...]


def compare(baseline: Pairs, kept: Pairs, *, keeps: int, sign: float, noise: Noise) -> Audit:
    """The gains of `kept` over `baseline` on the two splits; `sign` is +1 where lower scores are better.

    >>> first, best = Pairs(search=(1.00, 1.02), audit=(1.11, 1.09)), Pairs(search=(0.95,), audit=(1.08,))
    >>> found = compare(first, best, keeps=2, sign=1.0, noise=Noise(sigma=0.01, dof=5))
    >>> round(found.search_gain, 3), round(found.audit_gain, 3), round(found.se, 4)
    (0.06, 0.02, 0.0173)
    """
    return Audit(
        keeps=keeps,
        search_gain=sign * (mean(baseline.search) - mean(kept.search)),
        audit_gain=sign * (mean(baseline.audit) - mean(kept.audit)),
        se=difference_error(noise, len(baseline.search), len(kept.search)),
        dof=noise.dof,
    )


def difference_error(noise: Noise, artifacts: int, others: int) -> float | None:
    """Standard error of the excess: two gains, each a difference of two means."""
    return None if noise.sigma is None else noise.sigma * math.sqrt(2 * (1 / artifacts + 1 / others))


def audit_of(state: State) -> Audit | None:
    """The audit of a campaign as far as it has come; None before the baseline and one keep are audited."""
    baseline, arena = state.baseline, state.arena
    if baseline is None or arena is None or not state.audits.scores:
        return None
    first = _pairs(state, baseline)
    for number in range(len(state.keeps), 0, -1):
        kept = _pairs(state, state.experiments[state.keeps[number - 1]])
        if first.audit and kept.audit:
            return compare(first, kept, keeps=number, sign=arena.direction.sign, noise=state.noise)
    return None


def _pairs(state: State, e: Experiment) -> Pairs:
    scores = state.audits.scores
    both = [(run.score, scores.get((e.id, run.number))) for run in e.runs]
    known = [(search, audit) for search, audit in both if search is not None and audit is not None]
    return Pairs(search=tuple(search for search, _ in known), audit=tuple(audit for _, audit in known))


def sentence(audit: Audit | None) -> str:
    """What progress.md says; empty while there is nothing to say.

    >>> sentence(Audit(keeps=3, search_gain=0.010, audit_gain=0.004, se=0.001, dof=9)).split(":")[0]
    'The gain on the audit split is only 40% of the gain on the validation set'
    """
    finding = audit.finding if audit else None
    if audit is None or finding is None:
        return ""
    match finding:
        case Finding.AGREES:
            return "Audit split agrees within noise."
        case Finding.LESS:
            return f"Audit split: {audit.share:.0%} of the gain on the validation set."
        case Finding.OVERFITTING:
            what = f"is only {audit.share:.0%} of the gain on the validation set" if audit.share else "is none"
            return (
                f"The gain on the audit split {what}: the campaign is over-fitting the validation set. Its keeps were "
                "chosen by that set and are worth less elsewhere; `ralph status --json` has the numbers."
            )
