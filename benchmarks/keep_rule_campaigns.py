"""Simulated campaigns with known truth: what `keep_rule.py` compares.

A pool gives out ideas by their true effects, a bench hands out noisy scores and counts runs, and a strategy spends a
number of runs on them: `any_decrease`, or `by_rule` with the code of the loop itself.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ralph.core.decision import (
    Discard,
    Evidence,
    Keep,
    KeepRule,
    RunAgain,
    Side,
    baseline_runs,
    chance_of_luck,
    decide,
    expected_false_keeps,
)
from ralph.core.statistics import UNKNOWN, Noise

SHUFFLE_PLACES = 15.0  # how far an idea strays from its place in the recorded order, standard deviation
PROMISE = 2.0  # how much likelier an idea is to be next per 0.001 of true gain
MILLI = 1e3

Floats = NDArray[np.float64]


class Order(StrEnum):
    """In which order a pool gives out its ideas."""

    PROMISING = "promising"
    RECORDED = "recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One campaign, or the mean of many; scores in thousandths of the metric."""

    final: float
    claim: float
    keeps: float
    false: float
    bound: float
    missed: float
    ideas: float
    runs: float


class Pool:
    """Ideas by their true effects, given out one after the other."""

    def __init__(self, guesses: Floats, order: Order, rng: np.random.Generator) -> None:
        self._rng = rng
        self._order = order
        self._effects: list[float] = guesses[rng.integers(len(guesses))].tolist()
        self._queue: list[float] = []
        self._fresh = True

    def next(self) -> float:
        """The true effect of the next idea; below 0 is a gain."""
        if not self._queue:
            self._refill()
        return self._queue.pop()

    def kept(self, effect: float) -> None:
        """A kept idea cannot be had twice."""
        self._effects.remove(effect)

    def _refill(self) -> None:
        effects = np.array(self._effects)
        if self._order is Order.RECORDED:
            places = np.arange(len(effects)) if self._fresh else self._rng.permutation(len(effects))
            turn = places + SHUFFLE_PLACES * self._rng.standard_normal(len(effects))
        else:
            turn = self._rng.exponential(size=len(effects)) / (1 + PROMISE * MILLI * np.maximum(0.0, -effects))
        self._fresh = False
        self._queue = effects[np.argsort(-turn)].tolist()


class Repeats:
    """Pooled noise kept as two sums, so that a long campaign is not gone through at every verdict."""

    def __init__(self, squares: float = 0.0, dof: int = 0) -> None:
        self._squares = squares
        self._dof = dof

    def close(self, scores: Sequence[float]) -> None:
        """Add a commit that will not be run again."""
        self._squares += _squares(scores)
        self._dof += len(scores) - 1

    def with_open(self, *groups: Sequence[float]) -> Noise:
        """The noise, the commits still being measured included."""
        dof = self._dof + sum(len(group) - 1 for group in groups)
        squares = self._squares + sum(_squares(group) for group in groups)
        return Noise(sigma=math.sqrt(squares / dof), dof=dof) if dof else UNKNOWN


def _squares(scores: Sequence[float]) -> float:
    centre = sum(scores) / len(scores)
    return sum((score - centre) ** 2 for score in scores)


def any_decrease(pool: Pool, runs: int, sigma: float, rng: np.random.Generator) -> Outcome:
    """One run each; a lower score is a keep."""
    truth, incumbent = 0.0, sigma * rng.standard_normal()
    keeps = false = missed = 0
    for _ in range(runs - 1):
        effect = pool.next()
        score = truth + effect + sigma * rng.standard_normal()
        if score < incumbent:
            pool.kept(effect)
            incumbent, truth = score, truth + effect
            keeps, false = keeps + 1, false + (effect >= 0)
        else:
            missed += effect <= -sigma / 2
    claim = MILLI * (incumbent - truth)
    nan = float("nan")
    return Outcome(
        final=MILLI * truth, claim=claim, keeps=keeps, false=false, bound=nan, missed=missed, ideas=runs - 1, runs=runs
    )


@dataclass(slots=True)
class Bench:
    """The device: hands out scores and counts them."""

    sigma: float
    rng: np.random.Generator
    runs: int = 0

    def measure(self, truth: float) -> float:
        """One run of a commit whose true score this is."""
        self.runs += 1
        return truth + self.sigma * float(self.rng.standard_normal())


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A candidate with its verdict and its scores."""

    verdict: Keep | Discard
    scores: list[float]


def judge(
    rule: KeepRule, bench: Bench, repeats: Repeats, incumbent: list[float], *, truths: tuple[float, float], **known: int
) -> Judged:
    """Measure a candidate against an incumbent (true scores in that order) until the rule has a verdict."""
    scores = [bench.measure(truths[0])]
    while True:
        noise = repeats.with_open(scores, incumbent)
        evidence = Evidence(candidate=tuple(scores), incumbent=tuple(incumbent), noise=noise, **known)
        decision = decide(rule, evidence)
        if not isinstance(decision, RunAgain):
            return Judged(verdict=decision, scores=scores)
        if decision.of is Side.CANDIDATE:
            scores.append(bench.measure(truths[0]))
        else:
            incumbent.append(bench.measure(truths[1]))


def chance(keep: Judged, dof: int) -> float:
    """Of a keep to have been luck, as the report of a campaign reckons it."""
    se = keep.verdict.se
    return chance_of_luck(-keep.verdict.delta / se, dof, len(keep.scores)) if se else 1.0


def by_rule(rule: KeepRule, pool: Pool, runs: int, sigma: float, rng: np.random.Generator) -> Outcome:
    """A campaign under our rule; it may end a few runs late, with the verdict that is due."""
    bench, repeats = Bench(sigma, rng), Repeats()
    truth, challengers = 0.0, 0
    incumbent = [bench.measure(truth) for _ in range(baseline_runs(rule))]
    keeps: list[Judged] = []
    false = missed = ideas = 0
    while bench.runs < runs:
        effect = pool.next()
        ideas += 1
        tested = judge(rule, bench, repeats, incumbent, truths=(truth + effect, truth), challengers=challengers)
        if isinstance(tested.verdict, Keep):
            pool.kept(effect)
            keeps.append(tested)
            repeats.close(incumbent)
            incumbent, truth, challengers = tested.scores, truth + effect, 0
            false += effect >= 0
        else:
            repeats.close(tested.scores)
            challengers += 1
            missed += effect <= -sigma / 2
    noise = repeats.with_open(incumbent)
    return Outcome(
        final=MILLI * truth,
        claim=MILLI * (sum(incumbent) / len(incumbent) - truth),
        keeps=len(keeps),
        false=false,
        bound=expected_false_keeps([chance(keep, noise.dof) for keep in keeps], ideas),
        missed=missed,
        ideas=ideas,
        runs=bench.runs,
    )


Strategy = Callable[[Pool, int, float, np.random.Generator], Outcome]


def ours(rule: KeepRule) -> Strategy:
    """The strategy that follows a rule."""
    return lambda pool, runs, sigma, rng: by_rule(rule, pool, runs, sigma, rng)
