"""Optuna's TPE, asked for values of a few constants while the others stay at the incumbent's."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ralph.core.search_space import Dimension

_STARTUP = 0  # the records are the start-up


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One experiment for the sampler: a coordinate for each key, and a loss (a bad one for a crash)."""

    point: Mapping[str, float]
    loss: float


class Sampler:
    """Draws coordinates; the same observations, space and seed draw the same.

    Source: Watanabe, Tree-structured Parzen estimator (arXiv 2304.11127), as optuna implements it.
    """

    def __init__(self, space: Sequence[Dimension], observations: Sequence[Observation], seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._seed = seed
        self._draws = 0
        self._distributions = {d.key: self._distribution(d, [o.point[d.key] for o in observations]) for d in space}
        self._study = optuna.create_study(direction="minimize", sampler=optuna.samplers.RandomSampler(seed=seed))
        self._study.add_trials(
            [
                optuna.trial.create_trial(
                    params={d.key: self._inside(d.key, o.point[d.key]) for d in space},
                    distributions=self._distributions,
                    value=o.loss,
                )
                for o in observations
            ]
        )

    def draw(self, keys: Sequence[str], incumbent: Mapping[str, float], count: int) -> list[dict[str, float]]:
        """`count` draws of coordinates for `keys`."""
        samplers = self._optuna.samplers
        fixed = {k: self._inside(k, v) for k, v in incumbent.items() if k not in keys and k in self._distributions}
        self._draws += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # multivariate is marked experimental since optuna 2.2
            inner = samplers.TPESampler(multivariate=True, n_startup_trials=_STARTUP, seed=self._seed + self._draws)
            self._study.sampler = samplers.PartialFixedSampler(fixed, inner)
            asked = [self._study.ask(self._distributions) for _ in range(count)]
        return [{k: float(a.params[k]) for k in keys} for a in asked]

    def _distribution(self, d: Dimension, seen: Sequence[float]) -> Any:
        low, high = min([d.low, *seen]), max([d.high, *seen])
        if d.categorical:
            return self._optuna.distributions.CategoricalDistribution(tuple(range(len(d.choices))))
        return self._optuna.distributions.FloatDistribution(low, high)

    def _inside(self, key: str, z: float) -> Any:
        distribution = self._distributions[key]
        if isinstance(distribution, self._optuna.distributions.CategoricalDistribution):
            return round(z)
        return min(max(z, distribution.low), distribution.high)
