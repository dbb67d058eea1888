"""Keep, discard, or run again: the verdict on a candidate whose score is noisy.

The rule. A candidate's gain is how much better its mean score is than the incumbent's. Its standard error is
sigma·√(1/n + 1/m) for n candidate and m incumbent runs, and gain / standard error is held against Student's t with
sigma's degrees of freedom. The candidate is looked at after each of its runs:

- clearly better (the test at this look's share of `false_keep_rate` passes): keep;
- clearly worse, or unlikely to become clearly better in the runs it has left: discard, since most candidates are no
  gain and a run is worth more on the next idea;
- in between: run again, the incumbent first while it has fewer runs than `incumbent_runs`, else the candidate, until
  it is clear or `max_runs` is spent. What is not clear then is discarded.

The incumbent is measured again because the runs that won it its place are the lucky ones among many (the winner's
curse): a freshly kept one is taken to one run more than a candidate can have, so that at least one of them is
independent of its selection, and to one more for every four candidates it has seen off, since of two equal incumbents
the one with the luckier mean survives longer. It is bounded by four times `max_runs`.

Promised: the probability that a candidate which is no better than the incumbent (true gain ≤ `min_effect`) is ever kept
is at most `false_keep_rate`, over all its looks together and with sigma estimated from few repeats. It is per
candidate: a night of many may well hold a false keep (`expected_false_keeps` bounds how many). A candidate with fewer
lines of code is kept if it is not worse by a margin of one sigma, under the same bound: of those that truly lose a
sigma or more, at most `false_keep_rate` are kept.

Not promised: anything when sigma is unknown (`max_runs` = 1 and a baseline of one run; the reason then says so), when
the noise is not what statistics.py covers, or for the same idea proposed again and again, each time with a fresh
chance. In an arena whose repeats agree exactly no repeat is asked for, so noise that first appears later goes unseen.

Pure: the same rule and evidence always give the same decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, sqrt
from statistics import NormalDist

from ralph.core.figures import figures
from ralph.core.statistics import (
    UNKNOWN,
    Noise,
    look_shares,
    mean,
    pooled_noise,
    standard_error,
    t_quantile,
    t_tail,
)
from ralph.core.wording import counted
from ralph.model import Direction

EQUAL_MARGIN_SIGMAS = 1.0  # simpler code may cost this much at most: what another seed of the same code does anyway
FUTILE_BELOW = 0.2  # predictive probability of a keep under which another run is better spent on another idea
HOPELESS_LEVEL = 0.01  # a loss this improbable for an equal candidate is discarded before the incumbent is re-measured
UNREADY_SHARE = 0.05  # part of a look's error budget for keeping before the incumbent has all its runs
CHALLENGERS_PER_RUN = 4  # the incumbent is measured once more after seeing off this many candidates
INCUMBENT_RUNS_LIMIT = 4  # times max_runs: bounds what one incumbent can cost


class Side(StrEnum):
    """Whose commit is to be run again."""

    CANDIDATE = "candidate"
    INCUMBENT = "incumbent"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRule:
    """The user's settings for a keep.

    Attributes:
        false_keep_rate: the most probable a keep may be for a candidate that is no better; above 0, at most 0.5.
        max_runs: runs a candidate may have; 1 means a single run decides and nothing is ever run again.
        min_effect: gains up to this are not worth a keep, in the metric's unit.
        direction: whether lower or higher scores are better.

    Raises:
        ValueError: a setting is out of its range.
    """

    false_keep_rate: float = 0.05
    max_runs: int = 3
    min_effect: float = 0.0
    direction: Direction = Direction.MIN

    def __post_init__(self) -> None:
        if not 0 < self.false_keep_rate <= 0.5:
            raise ValueError(f"false_keep_rate is {self.false_keep_rate}: choose above 0, at most 0.5 (usual: 0.05)")
        if self.max_runs < 1:
            raise ValueError(f"max_runs is {self.max_runs}: a candidate needs at least one run")
        if not (isfinite(self.min_effect) and self.min_effect >= 0):
            raise ValueError(f"min_effect is {self.min_effect}: give 0 or the smallest gain worth a keep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known when a verdict is due.

    Attributes:
        candidate: scores of the candidate's runs, at least one, finite.
        incumbent: scores of the incumbent's runs, those that won it its place included; at least one, finite.
        noise: the arena's noise, pooled over all commits measured more than once, these two included.
        lines_delta: lines of code the candidate adds minus those it removes; below 0 is simpler.
        challengers: candidates that had their verdict against this incumbent before.

    Raises:
        ValueError: no score on one side, or one that is not finite.
    """

    candidate: tuple[float, ...]
    incumbent: tuple[float, ...]
    noise: Noise = UNKNOWN
    lines_delta: int = 0
    challengers: int = 0

    def __post_init__(self) -> None:
        for side, scores in ((Side.CANDIDATE, self.candidate), (Side.INCUMBENT, self.incumbent)):
            if not scores or not all(isfinite(score) for score in scores):
                raise ValueError(f"the {side} has scores {scores}: a decision needs at least one, all finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The candidate becomes the incumbent.

    Attributes:
        delta: candidate minus incumbent in the metric's own sign, so below 0 is better when lower is better.
        se: standard error of delta; None when sigma is unknown.
        reason: one short sentence with the numbers.
        p_value: the smallest false_keep_rate at which this look would still have kept; None when sigma is unknown.
    """

    delta: float
    se: float | None
    reason: str
    p_value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """The incumbent stays; delta, se and reason as in Keep."""

    delta: float
    se: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAgain:
    """Not clear yet: run the candidate or the incumbent with another seed and decide anew; the rest as in Keep."""

    of: Side
    delta: float
    se: float | None
    reason: str


Decision = Keep | Discard | RunAgain


def baseline_runs(rule: KeepRule) -> int:
    """How many seeds the baseline is measured under before the first candidate.

    Three: two leave one degree of freedom, where a test at 5% needs 6.3 standard errors (2.9 with three), and two
    rounded scores agree by chance often enough to pass for a deterministic arena. Later repeats add the rest. With
    `max_runs` = 1 there are none, the baseline is all that is ever known about sigma, and five pay: the bar for a keep
    is 3.4 sigma after three runs, 2.3 after five.
    """
    return 5 if rule.max_runs == 1 else 3


def incumbent_runs(rule: KeepRule, challengers: int) -> int:
    """How many runs an incumbent that has seen off `challengers` candidates should have.

    >>> [incumbent_runs(KeepRule(), challengers) for challengers in (0, 3, 4, 8, 1000)]
    [4, 4, 5, 6, 12]
    """
    wanted = rule.max_runs + 1 + challengers // CHALLENGERS_PER_RUN
    return min(wanted, INCUMBENT_RUNS_LIMIT * rule.max_runs)


def decide(rule: KeepRule, evidence: Evidence) -> Decision:
    """The verdict on the evidence so far, or which side to run again.

    >>> decide(KeepRule(), Evidence(candidate=(0.981,), incumbent=(0.99, 0.991, 0.992), noise=Noise(sigma=5e-4, dof=9)))
    Keep(delta=-0.01..., se=0.000577..., reason='better by 0.0100 ± 0.0006, 1 run against 3', p_value=...)
    """
    noise = _noise_of(evidence)
    if noise.sigma is None:
        return _decide_unmeasured(rule, evidence)
    if noise.sigma == 0:
        return _decide_exact(rule, evidence)
    return _decide_noisy(rule, evidence, noise.sigma, noise.dof)


def chance_of_luck(z: float, dof: int, runs: int) -> float:
    """The chance that an idea without effect looks this good or better: gain / standard error is `z` after `runs` runs.

    Student's t tail with sigma's degrees of freedom, times the looks that were taken; 1 while the noise is unknown.

    >>> [round(chance_of_luck(z, 30, runs), 3) for z, runs in ((0.0, 1), (2.0, 1), (2.0, 3), (9.0, 1))]
    [0.5, 0.027, 0.082, 0.0]
    """
    return min(1.0, runs * t_tail(z, dof)) if dof else 1.0


def expected_false_keeps(chances: Sequence[float], compared: int) -> float:
    """How many keeps to expect to be no gain at all, at most; `chances` are theirs of having been luck.

        min over j of  N·p_(j) + (k − j),   j = 0 … k,   p_(0) = 0

    Of N candidates compared, so many would by luck have looked as good as the j-th clearest of the k keeps, had not one
    of them been a gain (the reasoning of Benjamini and Hochberg, 1995); the keeps less clear than that are written off.

    >>> round(expected_false_keeps([1e-9, 1e-9, 0.04], compared=100), 3)
    1.0
    >>> round(expected_false_keeps([0.001, 0.002, 0.004], compared=100), 3), expected_false_keeps([], compared=100)
    (0.4, 0.0)
    """
    ordered = sorted(chances)
    bounds = [compared * p + len(ordered) - j for j, p in enumerate(ordered, start=1)]
    return min([float(len(ordered)), *bounds])


def _noise_of(evidence: Evidence) -> Noise:
    """The arena's noise, unless it is unknown or claims zero where these very scores differ."""
    groups = (evidence.candidate, evidence.incumbent)
    spread = any(min(scores) != max(scores) for scores in groups)
    if evidence.noise.sigma is None or (evidence.noise.sigma == 0 and spread):
        return pooled_noise(groups)
    return evidence.noise


def _decide_unmeasured(rule: KeepRule, evidence: Evidence) -> Decision:
    """Both sides have one run and no commit was ever measured twice: no yardstick."""
    delta, gain = _difference(rule, evidence)
    if gain <= rule.min_effect and not (gain == 0 and evidence.lines_delta < 0):
        return Discard(delta=delta, se=None, reason=f"{_words(gain)}, noise unknown")
    if rule.max_runs > 1:
        return RunAgain(of=Side.INCUMBENT, delta=delta, se=None, reason=f"{_words(gain)}, but the noise is unknown")
    return Keep(delta=delta, se=None, reason=f"{_words(gain)}, noise unknown: may be chance", p_value=None)


def _decide_exact(rule: KeepRule, evidence: Evidence) -> Decision:
    """Repeats agree exactly, so one run each says all."""
    delta, gain = _difference(rule, evidence)
    if gain > rule.min_effect:
        return Keep(delta=delta, se=0.0, reason=f"{_words(gain)}, no noise", p_value=0.0)
    if gain >= 0 and evidence.lines_delta < 0:
        return Keep(delta=delta, se=0.0, reason=f"{_words(gain)} and {_fewer(evidence)}, no noise", p_value=0.0)
    short = f", less than the {rule.min_effect:.2g} worth a keep" if gain > 0 else ""
    return Discard(delta=delta, se=0.0, reason=f"{_words(gain)}{short}, no noise")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One look at the candidate: the numbers the noisy rule weighs."""

    rule: KeepRule
    evidence: Evidence
    sigma: float
    dof: int
    delta: float
    gain: float
    se: float
    bar: float  # the true gain that a keep must exceed: min_effect, or minus the margin for simpler code

    @property
    def runs_left(self) -> int:
        """Runs the candidate may still have."""
        return max(0, self.rule.max_runs - len(self.evidence.candidate))

    @property
    def incumbent_lacks(self) -> int:
        """Runs the incumbent should get before it is held against a candidate that is not clear."""
        if self.rule.max_runs == 1:
            return 0
        return max(0, incumbent_runs(self.rule, self.evidence.challengers) - len(self.evidence.incumbent))

    @property
    def share(self) -> float:
        """This look's share of the false keep rate.

        Each of the candidate's runs is a look. The looks taken while the incumbent still lacks runs, at most
        `incumbent_runs` of them, divide a small part of it between them.
        """
        looks = self.rule.max_runs
        share = look_shares(looks)[min(len(self.evidence.candidate), looks) - 1]
        if looks == 1:
            return share
        if self.incumbent_lacks:
            return share * UNREADY_SHARE / incumbent_runs(self.rule, self.evidence.challengers)
        return share * (1 - UNREADY_SHARE)

    @property
    def p_value(self) -> float:
        """The smallest false keep rate at which this look keeps."""
        return min(1.0, t_tail((self.gain - self.bar) / self.se, self.dof) / self.share)

    @property
    def numbers(self) -> str:
        """As the reasons say it: better by 0.0021 ± 0.0004, 3 runs against 4."""
        digits = figures(None, self.se)
        ours, theirs = counted(len(self.evidence.candidate), "run"), len(self.evidence.incumbent)
        size = digits.score(abs(self.gain))
        what = f"{'better' if self.gain > 0 else 'worse'} by {size}" if size.strip("0.") else "equal"
        return f"{what} {digits.error(self.se)}, {ours} against {theirs}"


def _decide_noisy(rule: KeepRule, evidence: Evidence, sigma: float, dof: int) -> Decision:
    """The rule of this module's docstring, for a known sigma above zero."""
    delta, gain = _difference(rule, evidence)
    simpler = evidence.lines_delta < 0
    look = _Look(
        rule=rule,
        evidence=evidence,
        sigma=sigma,
        dof=dof,
        delta=delta,
        gain=gain,
        se=standard_error(sigma, len(evidence.candidate), len(evidence.incumbent)),
        bar=-EQUAL_MARGIN_SIGMAS * sigma if simpler else rule.min_effect,
    )
    p_value = look.p_value
    if p_value < rule.false_keep_rate:
        reason = _why_simpler(look) if simpler else look.numbers
        return Keep(delta=delta, se=look.se, reason=reason, p_value=p_value)
    if look.runs_left == 0 and not look.incumbent_lacks:
        return Discard(delta=delta, se=look.se, reason=f"{look.numbers}{_short(look)}")
    return _run_again_or_give_up(look)


def _run_again_or_give_up(look: _Look) -> RunAgain | Discard:
    """Neither kept nor out of runs: is another run worth it, and whose?"""
    delta, se = look.delta, look.se
    if (look.gain - look.bar) / se < t_quantile(HOPELESS_LEVEL, look.dof):
        return Discard(delta=delta, se=se, reason=look.numbers if look.gain < 0 else f"{look.numbers}{_short(look)}")
    if look.incumbent_lacks:
        reason = f"{look.numbers}: unclear, and the incumbent has too few runs"
        return RunAgain(of=Side.INCUMBENT, delta=delta, se=se, reason=reason)
    chance = _chance_of_keep(look)
    if chance < FUTILE_BELOW:
        return Discard(delta=delta, se=se, reason=f"{look.numbers}: another run would hardly turn it")
    return RunAgain(of=Side.CANDIDATE, delta=delta, se=se, reason=f"{look.numbers}: unclear")


def _chance_of_keep(look: _Look) -> float:
    """Predictive probability that the last look keeps, given this gain and no other opinion about the true one.

    Φ((gain − bar − t·sigma·√(1/N + 1/m)) / (sigma·√(1/n − 1/N))),   N = max_runs, t at the last look's level
    """
    runs, looks = len(look.evidence.candidate), look.rule.max_runs
    level = look.rule.false_keep_rate * look_shares(looks)[-1] * (1 - UNREADY_SHARE)
    t = t_quantile(1 - level, look.dof + look.runs_left)
    needed = look.bar + t * standard_error(look.sigma, looks, len(look.evidence.incumbent))
    return NormalDist().cdf((look.gain - needed) / (look.sigma * sqrt(1 / runs - 1 / looks)))


def _difference(rule: KeepRule, evidence: Evidence) -> tuple[float, float]:
    """Candidate minus incumbent in the metric's sign, and the same counted as a gain."""
    delta = mean(evidence.candidate) - mean(evidence.incumbent)
    return delta, (-delta if rule.direction is Direction.MIN else delta)


def _words(gain: float) -> str:
    return "equal" if gain == 0 else f"{'better' if gain > 0 else 'worse'} by {abs(gain):.2g}"


def _short(look: _Look) -> str:
    """What a gain lacks that is no keep."""
    if look.gain <= 0:
        return ""
    worth = look.rule.min_effect
    return f": less than the {worth:.2g} worth a keep" if look.gain <= worth else ": not clear enough for a keep"


def _why_simpler(look: _Look) -> str:
    """Why simpler code is kept: better besides, or equal within the margin."""
    fewer = _fewer(look.evidence)
    better = t_tail((look.gain - look.rule.min_effect) / look.se, look.dof) < look.rule.false_keep_rate * look.share
    return f"{look.numbers}, and {fewer}" if better else f"{fewer} and about as good: {look.numbers}"


def _fewer(evidence: Evidence) -> str:
    lines = -evidence.lines_delta
    return f"{counted(lines, 'line')} fewer"
