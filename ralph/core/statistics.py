"""The arithmetic behind a verdict: noise from repeats, Student's t, error budgets over several looks.

Covered: scores of one commit under different seeds that scatter independently and about normally with one standard
deviation sigma that is the same for every commit of an arena. Each commit's mean is its own; only sigma is shared.

Not covered: noise that grows with the change under test (a candidate that trains less stably than the incumbent),
scores that drift with the time of day or the temperature of the device (such runs are void before they get here),
and scores rounded more coarsely than their noise, which look deterministic.

Pure functions of their arguments: the same numbers in give the same numbers out.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How far two runs of the same commit differ: one standard deviation, and how well it is known.

    Attributes:
        sigma: standard deviation of one score, in the metric's unit; None when no commit was measured twice.
        dof: degrees of freedom behind sigma: runs minus commits, over the commits measured at least twice.
    """

    sigma: float | None
    dof: int

    def __post_init__(self) -> None:
        if self.dof < 0 or (self.sigma is None) != (self.dof == 0):
            raise ValueError(
                f"sigma {self.sigma} with {self.dof} degrees of freedom: unknown sigma means 0, known more"
            )
        if self.sigma is not None and not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise ValueError(f"sigma is {self.sigma}, but a standard deviation is finite and not negative")


UNKNOWN = Noise(sigma=None, dof=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval, ends included, in the metric's unit."""

    low: float
    high: float


def mean(scores: Sequence[float]) -> float:
    """Arithmetic mean, exact when all scores are the same number.

    >>> mean([0.1] * 3) == 0.1
    True

    Raises:
        ValueError: no scores, or one that is NaN or infinite.
    """
    if not scores:
        raise ValueError("the mean of no scores is not defined: measure at least one run first")
    if not all(math.isfinite(score) for score in scores):
        raise ValueError(f"scores {list(scores)} hold one that is not finite: a crash is a verdict, not a score")
    first = scores[0]
    return first + math.fsum(score - first for score in scores) / len(scores)


def pooled_noise(groups: Iterable[Sequence[float]]) -> Noise:
    """Sigma from repeats: each group is the scores of one commit under different seeds.

        sigma² = Σ_g Σ_i (x_gi − mean_g)² / Σ_g (n_g − 1)

    Groups of one run say nothing about noise and are allowed. Without any repeat sigma is unknown, not zero.

    >>> pooled_noise([[1.0, 1.2], [5.0, 5.2], [9.0]])
    Noise(sigma=0.1414..., dof=2)
    >>> pooled_noise([[1.0]])
    Noise(sigma=None, dof=0)
    """
    squares: list[float] = []
    dof = 0
    for group in groups:
        if len(group) < 2:
            continue
        centre = mean(group)
        squares.extend((score - centre) ** 2 for score in group)
        dof += len(group) - 1
    return Noise(sigma=math.sqrt(math.fsum(squares) / dof), dof=dof) if dof else UNKNOWN


def with_prior(noise: Noise, *, sigma: float, dof: int) -> Noise:
    """Add what is already believed about sigma (an earlier campaign in the same arena), worth `dof` repeats.

        sigma² = (dof_0·sigma_0² + dof·s²) / (dof_0 + dof)

    This is the scaled inverse chi-squared prior; Student's t with dof_0 + dof then holds if the belief was right.

    >>> with_prior(UNKNOWN, sigma=0.0005, dof=4)
    Noise(sigma=0.0005, dof=4)
    """
    prior = Noise(sigma=sigma, dof=dof)
    if noise.sigma is None:
        return prior
    total = noise.dof + dof
    return Noise(sigma=math.sqrt((dof * sigma**2 + noise.dof * noise.sigma**2) / total), dof=total)


def standard_error(sigma: float, runs: int, other_runs: int) -> float:
    """Standard error of the difference of two means: sigma·√(1/runs + 1/other_runs).

    >>> standard_error(0.001, 2, 2)
    0.001
    """
    return sigma * math.sqrt(1 / runs + 1 / other_runs)


def confidence_interval(difference: float, se: float, dof: int, level: float = 0.95) -> Interval | None:
    """Two-sided interval for a difference: difference ± t(1 − (1 − level)/2; dof)·se. None when dof is 0.

    It describes one comparison taken by itself; it is not corrected for having been looked at more than once.

    >>> confidence_interval(0.0, 1.0, 10)
    Interval(low=-2.228..., high=2.228...)
    """
    if dof == 0:
        return None
    half = t_quantile(1 - (1 - level) / 2, dof) * se
    return Interval(low=difference - half, high=difference + half)


def regularised_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b), for a, b > 0.

        I_x(a, b) = x^a (1 − x)^b / (a·B(a, b)) · 1/(1 + d_1/(1 + d_2/(1 + …)))
        d_2m = m (b − m) x / ((a + 2m − 1)(a + 2m)),   d_2m+1 = −(a + m)(a + b + m) x / ((a + 2m)(a + 2m + 1))

    The continued fraction (Abramowitz and Stegun 26.5.8) is evaluated by Lentz's method where it converges fast,
    x < (a + 1)/(a + b + 2); elsewhere I_x(a, b) = 1 − I_(1−x)(b, a).

    >>> round(regularised_beta(2.0, 3.0, 0.5), 12)
    0.6875
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(log_front)
    if x < (a + 1) / (a + b + 2):
        return front / (a * _beta_fraction(a, b, x))
    return 1 - front / (b * _beta_fraction(b, a, 1 - x))


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The denominator 1 + d_1/(1 + d_2/(1 + …)) of the continued fraction, by the modified Lentz method."""
    tiny, precision, most_terms = 1e-300, 1e-15, 100_000
    value, ratio_c, ratio_d = 1.0, 1.0, 0.0
    for term in range(1, most_terms):
        m = term // 2
        if term % 2:
            step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        ratio_d = 1 / ((1 + step * ratio_d) or tiny)
        ratio_c = (1 + step / ratio_c) or tiny
        value *= ratio_c * ratio_d
        if abs(ratio_c * ratio_d - 1) < precision:
            return value
    raise ArithmeticError(f"the incomplete beta function did not converge at a={a}, b={b}, x={x}")


def t_tail(t: float, dof: int) -> float:
    """Upper tail P(T > t) of Student's t: ½·I_{dof/(dof + t²)}(dof/2, ½) for t ≥ 0, by symmetry below.

    For small t its complement ½ − ½·I_{t²/(dof + t²)}(½, dof/2), where dof/(dof + t²) would round to 1.

    >>> round(t_tail(6.313751514675043, 1), 12)
    0.05
    """
    if dof < 1:
        raise ValueError(f"Student's t needs at least one degree of freedom, not {dof}: measure a commit twice")
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    square = t * t
    if square < dof:
        half = 0.5 - 0.5 * regularised_beta(0.5, dof / 2, square / (dof + square))
    else:
        half = 0.5 * regularised_beta(dof / 2, 0.5, dof / (dof + square))
    return half if t >= 0 else 1 - half


def t_distribution(t: float, dof: int) -> float:
    """P(T ≤ t) of Student's t.

    >>> t_distribution(0.0, 7)
    0.5
    """
    return t_tail(-t, dof)


@lru_cache(maxsize=65536)
def t_quantile(probability: float, dof: int) -> float:
    """The t with P(T ≤ t) = probability, by Newton's method kept inside a shrinking bracket.

    >>> round(t_quantile(0.95, 2), 6), round(t_quantile(0.05, 2), 6)
    (2.919986, -2.919986)
    """
    if not 0 < probability < 1:
        raise ValueError(f"a quantile needs a probability between 0 and 1, not {probability}")
    if probability < 0.5:
        return -t_quantile(1 - probability, dof)
    tail = 1 - probability
    low, high = 0.0, 1.0
    while t_tail(high, dof) > tail:
        low, high = high, 2 * high
    log_scale = math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2) - 0.5 * math.log(dof * math.pi)
    t = min(max(NormalDist().inv_cdf(probability), low), high)
    for _ in range(200):
        excess = t_tail(t, dof) - tail
        low, high = (t, high) if excess > 0 else (low, t)
        density = math.exp(log_scale - (dof + 1) / 2 * math.log1p(t * t / dof))
        following = t + excess / density
        if not low <= following <= high:
            following = (low + high) / 2
        if abs(following - t) <= 1e-13 * max(1.0, t):
            return following
        t = following
    return t


def look_shares(looks: int) -> tuple[float, ...]:
    """How an error budget is divided over successive looks at the same candidate; the shares add up to 1.

        share_k = (k/looks)³ − ((k − 1)/looks)³

    The power family of alpha spending (Kim and DeMets 1987, ρ = 3): little is spent early, where only large effects
    are clear anyway, most on the last look, which has the most runs. A test at level rate·share_k on look k errs, over
    all looks together, with probability at most rate, whatever the correlation between looks (the union bound).

    >>> [round(share, 3) for share in look_shares(3)]
    [0.037, 0.259, 0.704]
    """
    return tuple((look / looks) ** 3 - ((look - 1) / looks) ** 3 for look in range(1, looks + 1))
