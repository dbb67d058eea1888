"""What the experiments so far say about every constant: a Gaussian process, additive over the constants.

The loss is modelled as a sum of smooth one-dimensional effects, one for each constant and each with its own size, a
smaller smooth part for interactions, and an offset for each version of the code. Losses far above the incumbent's are
compressed, so that one disaster does not drown the small differences that matter. Everything is deterministic;
n records cost O(n³).

Source of the additive form: Duvenaud, Nickisch, Rasmussen, Additive Gaussian Processes (NeurIPS 2011).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

LENGTH = 2.0  # steps over which an effect stays similar
_INTERACTION = 0.15  # share of the variance of all effects that may sit in interactions
_COMPRESS_FROM = 6.0  # in sigmas above the incumbent
_RELATIVE = (0.04, 0.3, 1.0, 4.0)  # sizes (variances) an effect may have relative to the common one
_COMMON = (0.5, 1.5, 4.0, 10.0)  # common effect sizes (standard deviations) in sigmas
_USUAL = 4.0  # the common size before any evidence
_PRIOR = 0.35  # how strongly sizes are drawn to what is expected
_OFFSET = 20.0  # standard deviation of code offsets and of the mean, in sigmas


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """Expected loss of a point minus the incumbent's, and its standard deviation; in units of the metric."""

    mean: float
    sd: float

    def improvement(self, least: float = 0.0) -> float:
        """Expected improvement beyond `least`: E[max(0, -difference - least)]."""
        gap = -self.mean - least
        if self.sd <= 0:
            return max(0.0, gap)
        z = gap / self.sd
        return gap * 0.5 * math.erfc(-z / math.sqrt(2)) + self.sd * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """A model fitted to `points` (n × d, steps), `losses` (n, relative to the incumbent, in sigmas), `runs` (n).

    `categorical` marks columns where only equality counts; `codes` (n) the version of the code; `incumbent` is a row,
    `expected` (d) the relative size of each effect before any evidence.
    """

    points: Matrix
    losses: Matrix
    runs: Matrix
    codes: NDArray[np.int64]
    categorical: NDArray[np.bool_]
    incumbent: Matrix
    expected: Matrix
    code: int
    sigma: float

    @cached_property
    def sizes(self) -> Matrix:
        """Variance of each constant's effect, in sigmas²: large where experiments show that it matters."""
        relative = self.expected.copy()
        parts = self._parts(self.points, self.points)
        common = self._common(parts, relative)
        if len(self.losses) > 2:
            for _ in range(2):
                for column in range(len(relative)):
                    relative[column] = self._resized(parts, common, relative, column)
            common = self._common(parts, relative)
        return common * common * relative

    def beliefs(self, candidates: Matrix) -> list[Belief]:
        """What to expect of candidates (m × d) against the incumbent, under the incumbent's code."""
        both = np.vstack([self.incumbent[None, :], candidates])
        codes = np.full(len(both), self.code)
        cross = self._kernel(self._parts(both, self.points), self.sizes, codes, self.codes, both, self.points)
        solved = np.linalg.solve(self._factor, cross.T)
        mean = solved.T @ np.linalg.solve(self._factor, self.losses)
        own = self._kernel(self._parts(both, both[:1]), self.sizes, codes, codes[:1], both, both[:1])[:, 0]
        at = own[0]  # stationary: every point has the prior variance of the incumbent
        shared = own - solved.T @ solved[:, 0]
        variance = (at - np.sum(solved**2, axis=0)) + (at - solved[:, 0] @ solved[:, 0]) - 2 * shared
        spread = np.sqrt(np.maximum(variance, 1e-12))
        return [
            Belief(mean=float(m - mean[0]) * self.sigma, sd=float(s) * self.sigma)
            for m, s in zip(mean[1:], spread[1:], strict=True)
        ]

    @cached_property
    def _factor(self) -> Matrix:
        return _cholesky(self._covariance(self._parts(self.points, self.points), self.sizes))

    def _parts(self, one: Matrix, other: Matrix) -> Matrix:
        """One similarity matrix per column: d × n × m, one on the diagonal."""
        gap = one.T[:, :, None] - other.T[:, None, :]
        smooth = np.exp(-0.5 * (gap / LENGTH) ** 2)
        return np.where(self.categorical[:, None, None], (gap == 0).astype(float), smooth)

    def _kernel(
        self, parts: Matrix, sizes: Matrix, one: NDArray[np.int64], other: NDArray[np.int64], x: Matrix, y: Matrix
    ) -> Matrix:
        additive = np.tensordot(sizes, parts, axes=1)
        counted = (sizes > 0.1 * sizes.max()).astype(np.float64)
        left, right = x * counted, y * counted
        gap = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * left @ right.T
        joint = _INTERACTION * sizes.sum() * np.exp(-0.5 * gap / (2 * LENGTH) ** 2)
        offsets = _OFFSET**2 * (1.0 + (one[:, None] == other[None, :]))
        total: Matrix = additive + joint + offsets
        return total

    def _covariance(self, parts: Matrix, sizes: Matrix) -> Matrix:
        kernel = self._kernel(parts, sizes, self.codes, self.codes, self.points, self.points)
        total: Matrix = kernel + np.diag(1.0 / self.runs + 1e-6)
        return total

    def _evidence(self, parts: Matrix, sizes: Matrix) -> float:
        """Log marginal likelihood, up to a constant."""
        covariance = self._covariance(parts, sizes)
        factor = _cholesky(covariance)
        half = self.losses @ np.linalg.solve(covariance, self.losses)
        return float(-0.5 * half - np.log(np.diag(factor)).sum())

    def _common(self, parts: Matrix, relative: Matrix) -> float:
        def plausible(size: float) -> float:
            return self._evidence(parts, size * size * relative) - _PRIOR * math.log(size / _USUAL) ** 2

        return max(_COMMON, key=plausible)

    def _resized(self, parts: Matrix, common: float, relative: Matrix, column: int) -> float:
        """The most plausible relative size of one column, the others as they are."""
        best, value = -math.inf, relative[column]
        for size in _RELATIVE:
            changed = relative.copy()
            changed[column] = size
            prior = -_PRIOR * math.log(size / self.expected[column]) ** 2
            judged = self._evidence(parts, common * common * changed) + prior
            if judged > best:
                best, value = judged, size
        return float(value)


def _cholesky(matrix: Matrix) -> Matrix:
    return np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)


def compress(loss: float) -> float:
    """A loss in sigmas relative to the incumbent, with what lies far above it drawn in logarithmically."""
    excess = loss / _COMPRESS_FROM
    return loss if excess <= 1 else _COMPRESS_FROM * (1 + math.log(excess))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One experiment for the model: its coordinates, its loss in units of the metric, how many runs stand behind it."""

    point: Sequence[float]
    loss: float
    runs: float
    code: int


def fit(
    rows: Sequence[Row],
    *,
    categorical: Sequence[bool],
    expected: Sequence[float],
    incumbent: Row,
    sigma: float,
) -> Surrogate:
    """A surrogate for losses in units of the metric, lower is better."""
    return Surrogate(
        points=np.array([r.point for r in rows], dtype=float).reshape(len(rows), len(categorical)),
        losses=np.array([compress((r.loss - incumbent.loss) / sigma) for r in rows]),
        runs=np.array([r.runs for r in rows], dtype=float),
        codes=np.array([r.code for r in rows], dtype=np.int64),
        categorical=np.array(categorical, dtype=bool),
        incumbent=np.array(incumbent.point, dtype=float),
        expected=np.array(expected, dtype=float),
        code=incumbent.code,
        sigma=sigma,
    )
