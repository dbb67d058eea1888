"""Scores with their uncertainty, and how many of their digits to show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ralph.core.fold import State
from ralph.core.shelf import stated_error
from ralph.core.statistics import mean as exact_mean
from ralph.model import Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over `runs` runs and its standard error; `se` None: the noise is unknown."""

    mean: float
    se: float | None
    runs: int


def estimate(state: State, e: Experiment) -> Estimate:
    """Mean score of an experiment that has one. Its error comes from the campaign's sigma, pooled over all repeats;
    while nothing was repeated, from the errors the scorer states, if it states them for every run.
    """
    mean, runs, sigma = exact_mean(e.scores), len(e.scores), state.noise.sigma
    if sigma is not None:
        return Estimate(mean=mean, se=sigma / math.sqrt(runs), runs=runs)
    stated = stated_error(e)
    return Estimate(mean=mean, se=None if math.isnan(stated) else stated, runs=runs)


def means_of(state: State, ids: Sequence[int]) -> list[float]:
    """Mean scores of experiments with a score and a verdict, from their rows, which are in memory at any age."""
    scores = state.experiments.rows.scores
    return [scores[id_] for id_ in ids]


def errors_of(state: State, ids: Sequence[int]) -> list[float | None]:
    """The standard errors of these, as `estimate` has them."""
    rows, sigma = state.experiments.rows, state.noise.sigma
    if sigma is not None:
        return [sigma / math.sqrt(rows.runs[id_]) for id_ in ids]
    return [None if math.isnan(se := rows.errors[id_]) else se for id_ in ids]


def gain_of(state: State) -> Estimate:
    """Incumbent minus baseline, in the metric's units; `runs` are the incumbent's. Both must have scores."""
    baseline, incumbent = state.baseline, state.incumbent
    if baseline is None or incumbent is None:
        raise LookupError("there is no gain before the baseline has a verdict")
    first, best = estimate(state, baseline), estimate(state, incumbent)
    if incumbent.id == 0:
        return Estimate(mean=0.0, se=0.0, runs=best.runs)
    se = math.hypot(first.se, best.se) if first.se is not None and best.se is not None else None
    return Estimate(mean=best.mean - first.mean, se=se, runs=best.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How many decimals of a score mean something; `decimals` None: the numbers are too large or small for any."""

    decimals: int | None

    def score(self, value: float | None) -> str:
        """One score; a dash for none."""
        if value is None:
            return "–"
        if self.decimals is None or not math.isfinite(value) or abs(value) >= 1e9:
            return f"{value:.5g}".replace("-", "−")
        return f"{value:.{self.decimals}f}".replace("-", "−")

    def delta(self, value: float | None) -> str:
        """A difference, with its sign unless it rounds to nothing."""
        if value is None:
            return "–"
        shown = self.score(abs(value))
        sign = "" if _value(shown) == 0 else "−" if value < 0 else "+"
        return f"{sign}{shown}"

    def small(self, value: float) -> str:
        """A standard error or sigma: with a digit of its own where it would round to nothing."""
        shown = self.score(value)
        return shown if value == 0 or _value(shown) > 0 else f"{value:.1g}"

    def error(self, se: float | None) -> str:
        """The standard error behind its sign; a question mark while it is unknown."""
        return "± ?" if se is None else f"± {self.small(se)}"

    def show(self, value: Estimate) -> str:
        """A score with its error."""
        return f"{self.score(value.mean)} {self.error(value.se)}"

    def show_change(self, value: Estimate) -> str:
        """A difference with its error."""
        return f"{self.delta(value.mean)} {self.error(value.se)}"


def _value(shown: str) -> float:
    """The number that a text shows; exponents carry the typographic minus, too."""
    return float(shown.replace("−", "-"))


def figures(scale: float | None, sigma: float | None) -> Figures:
    """Digits for scores of size `scale` and noise `sigma`: one or two digits of sigma, five of the score without it.

    >>> figures(0.98, 0.0005).score(0.97412), figures(1.6, 0.0013).score(1.63127), figures(0.98, None).score(0.97412)
    ('0.9741', '1.6313', '0.97412')
    """
    if sigma is not None and sigma > 0 and math.isfinite(sigma):
        power = math.floor(math.log10(sigma))
        decimals = -power + (1 if sigma / 10.0**power < 3 else 0)
    elif scale is not None and scale != 0 and math.isfinite(scale):
        decimals = 4 - math.floor(math.log10(abs(scale)))
    else:
        decimals = 4
    return Figures(decimals=max(0, decimals) if decimals <= 9 else None)


def figures_of(state: State) -> Figures:
    """Digits for the scores of this campaign."""
    baseline = state.baseline
    return figures(baseline.score if baseline else None, state.noise.sigma)
