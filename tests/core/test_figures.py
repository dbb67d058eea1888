"""Scores with as many digits as they deserve."""

import math

import pytest

from ralph.core.figures import Figures, estimate, figures, gain_of
from tests.core.states import Story, small


@pytest.mark.parametrize(
    ("scale", "sigma", "value", "shown"),
    [
        (0.98, 0.0005, 0.974123, "0.9741"),
        (0.98, 0.00013, 0.974123, "0.97412"),
        (1.6, 0.0036, 1.63127, "1.631"),
        (72.5, 1.4, 72.48, "72.5"),
        (15000.0, 230.0, 15321.7, "15322"),
        (0.98, None, 0.974123, "0.97412"),
        (0.98, 0.0, 0.974123, "0.97412"),
        (0.0, None, 0.5, "0.5000"),
        (1.0, 1e-13, 0.5, "0.5"),
        (1e12, 1e9, 1.2345e12, "1.2345e+12"),
        (1.0, 0.01, math.inf, "inf"),
    ],
)
def test_digits_follow_the_noise(scale: float, sigma: float | None, value: float, shown: str) -> None:
    assert figures(scale, sigma).score(value) == shown


def test_differences_carry_a_sign_unless_they_are_nothing() -> None:
    digits = Figures(decimals=4)
    assert [digits.delta(x) for x in (0.0012, -0.0011, -0.00001, None)] == ["+0.0012", "−0.0011", "0.0000", "–"]
    assert [digits.error(x) for x in (0.0003, 0.00001, 0.0, None)] == ["± 0.0003", "± 1e-05", "± 0.0000", "± ?"]


def test_the_error_of_a_mean_shrinks_with_its_runs_and_is_unknown_without_repeats() -> None:
    s = small()
    baseline = s.state.baseline
    assert baseline is not None
    sigma = s.state.noise.sigma
    assert sigma is not None
    assert estimate(s.state, baseline).se == pytest.approx(sigma / math.sqrt(2))
    alone = Story().start().baseline(0.998)
    assert alone.state.baseline is not None
    assert estimate(alone.state, alone.state.baseline).se is None


def test_a_scorer_that_states_its_error_is_believed_until_runs_are_repeated() -> None:
    s = Story().start()
    s.run(0, 0.998, se=0.002)
    assert s.state.baseline is not None
    assert estimate(s.state, s.state.baseline).se == pytest.approx(0.002)


def test_the_gain_is_the_incumbent_minus_the_baseline() -> None:
    gain = gain_of(small().state)
    assert gain.mean == pytest.approx(0.9818 - (0.9979 + 0.9971) / 2)
    assert gain_of(Story().start().baseline(1.0, 1.1).state).mean == 0.0
    with pytest.raises(LookupError):
        gain_of(Story().start().state)


def test_tiny_numbers_are_shown_and_not_taken_for_text() -> None:
    tiny = figures(1e-16, 1e-16)
    assert tiny.delta(-1.5e-16).startswith("−1.5")
    assert tiny.error(2e-17) == "± 2e−17"
