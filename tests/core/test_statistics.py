"""The arithmetic behind a verdict."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.core.statistics import (
    UNKNOWN,
    Interval,
    Noise,
    confidence_interval,
    look_shares,
    mean,
    pooled_noise,
    regularised_beta,
    standard_error,
    t_distribution,
    t_quantile,
    t_tail,
    with_prior,
)

scores = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)

PUBLISHED_QUANTILES = [
    (0.975, 1, 12.706204736432095),
    (0.975, 2, 4.302652729911275),
    (0.95, 3, 2.3533634348018264),
    (0.995, 5, 4.032142983557536),
    (0.975, 10, 2.2281388519649385),
    (0.99, 30, 2.4572615424005697),
    (0.975, 100, 1.9839715184496334),
]


@pytest.mark.parametrize(("probability", "dof", "expected"), PUBLISHED_QUANTILES)
def test_the_quantiles_of_t_agree_with_published_values(probability: float, dof: int, expected: float) -> None:
    assert t_quantile(probability, dof) == pytest.approx(expected, abs=1e-9)
    assert t_quantile(1 - probability, dof) == pytest.approx(-expected, abs=1e-9)
    assert t_tail(expected, dof) == pytest.approx(1 - probability, abs=1e-11)


@given(st.floats(min_value=-50, max_value=50))
def test_the_distribution_of_t_agrees_with_its_closed_forms(t: float) -> None:
    assert t_distribution(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-12)
    assert t_distribution(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-12)
    u = 1 + t * t / 4
    assert t_distribution(t, 4) == pytest.approx(0.5 + 3 / 8 * t / math.sqrt(u) * (1 - t * t / (12 * u)), abs=1e-12)


@given(st.floats(min_value=1e-6, max_value=1 - 1e-6), st.integers(min_value=1, max_value=5000))
def test_the_quantile_inverts_the_distribution(probability: float, dof: int) -> None:
    assert t_distribution(t_quantile(probability, dof), dof) == pytest.approx(probability, abs=1e-10)


def test_t_becomes_normal_with_many_degrees_of_freedom() -> None:
    assert t_quantile(0.975, 1_000_000) == pytest.approx(1.959963984540054, abs=1e-5)


def test_infinite_t_has_no_tail() -> None:
    assert (t_tail(math.inf, 3), t_tail(-math.inf, 3)) == (0.0, 1.0)


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, math.nan])
def test_a_quantile_of_an_impossible_probability_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        t_quantile(probability, 3)


def test_t_without_degrees_of_freedom_is_refused() -> None:
    with pytest.raises(ValueError, match="measure a commit twice"):
        t_tail(1.0, 0)


@given(
    st.integers(min_value=1, max_value=12), st.integers(min_value=1, max_value=12), st.floats(min_value=0, max_value=1)
)
def test_the_incomplete_beta_is_a_binomial_tail_for_whole_numbers(a: int, b: int, x: float) -> None:
    n = a + b - 1
    tail = math.fsum(math.comb(n, j) * x**j * (1 - x) ** (n - j) for j in range(a, n + 1))
    assert regularised_beta(a, b, x) == pytest.approx(tail, abs=1e-12)


@given(scores, st.integers(min_value=1, max_value=9))
def test_identical_scores_have_exactly_their_own_mean_and_no_noise(score: float, runs: int) -> None:
    assert mean([score] * runs) == score
    assert pooled_noise([[score] * (runs + 1)]) == Noise(sigma=0.0, dof=runs)


@given(st.lists(st.lists(scores, min_size=1, max_size=5), max_size=5))
def test_degrees_of_freedom_are_runs_minus_commits(groups: list[list[float]]) -> None:
    assert pooled_noise(groups).dof == sum(len(group) - 1 for group in groups)


def test_each_commit_is_measured_against_its_own_mean() -> None:
    one, other = [1.0, 1.2, 1.4], [8.0, 8.2]
    expected = math.sqrt((0.04 + 0.04 + 0.01 + 0.01) / 3)
    noise = pooled_noise([one, other, [100.0]])
    assert noise.sigma == pytest.approx(expected)
    assert noise.dof == 3


@pytest.mark.parametrize("groups", [[], [[0.5]], [[0.5], [0.7]]])
def test_without_a_repeat_sigma_is_unknown_rather_than_zero(groups: list[list[float]]) -> None:
    assert pooled_noise(groups) == UNKNOWN


def test_a_prior_counts_as_the_repeats_it_is_worth() -> None:
    noise = with_prior(Noise(sigma=3.0, dof=2), sigma=1.0, dof=6)
    assert noise.dof == 8
    assert noise.sigma == pytest.approx(math.sqrt((2 * 9 + 6 * 1) / 8))
    assert with_prior(UNKNOWN, sigma=1.0, dof=6) == Noise(sigma=1.0, dof=6)


@pytest.mark.parametrize(("sigma", "dof"), [(None, 3), (0.1, 0), (-0.1, 2), (math.nan, 2), (math.inf, 2), (None, -1)])
def test_noise_that_contradicts_itself_is_refused(sigma: float | None, dof: int) -> None:
    with pytest.raises(ValueError, match="sigma"):
        Noise(sigma=sigma, dof=dof)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_the_mean_of_nothing_or_of_a_crash_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no scores|not finite"):
        mean(bad)


def test_the_standard_error_falls_with_the_runs_of_either_side() -> None:
    assert standard_error(1.0, 1, 1) == pytest.approx(math.sqrt(2))
    assert standard_error(1.0, 4, 12) == pytest.approx(math.sqrt(1 / 3))


def test_an_interval_is_unknown_without_degrees_of_freedom() -> None:
    assert confidence_interval(1.0, 0.5, 0) is None
    assert confidence_interval(1.0, 0.0, 3) == Interval(low=1.0, high=1.0)


@pytest.mark.parametrize("runs", [2, 3, 6])
def test_the_interval_covers_the_truth_as_often_as_it_says(runs: int) -> None:
    rng, tries, covered = random.Random(runs), 1500, 0
    for _ in range(tries):
        ours, theirs = ([rng.gauss(shift, 0.3) for _ in range(runs)] for shift in (1.5, 1.0))
        noise = pooled_noise([ours, theirs])
        assert noise.sigma is not None
        interval = confidence_interval(
            mean(ours) - mean(theirs), standard_error(noise.sigma, runs, runs), noise.dof, level=0.9
        )
        assert interval is not None
        covered += interval.low <= 0.5 <= interval.high
    assert covered / tries == pytest.approx(0.9, abs=3.5 * math.sqrt(0.09 / tries))


@given(st.integers(min_value=1, max_value=50))
def test_the_shares_of_the_looks_use_up_the_error_budget_late(looks: int) -> None:
    shares = look_shares(looks)
    assert len(shares) == looks
    assert math.fsum(shares) == pytest.approx(1.0)
    assert list(shares) == sorted(shares)
    assert shares[0] > 0
