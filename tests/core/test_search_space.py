"""Names, values and comments decide on which scale a constant is searched, and how far."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.core.literals import Literal
from ralph.core.search_space import Dimension, Scale, dimension, other_profile, salience, widened


def made(name: str, value: Literal, comment: str = "", written: str = "") -> Dimension:
    found = dimension(f"train.py:{name}", value, comment, written)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "value", "scale", "low", "high"),
    [
        ("MATRIX_LR", 0.02, Scale.LOG, 0.0025, 0.16),
        ("SOFTCAP", 15.0, Scale.LOG, 1.9, 120.0),
        ("OFFSET", -0.5, Scale.LOG, -0.062, -4.0),
        ("ADAM_BETAS[1]", 0.95, Scale.NEAR_ONE, 0.6, 0.9937),
        ("MOMENTUM", 0.85, Scale.NEAR_ONE, 0.4, 0.981),
        ("WARMDOWN_FRAC", 0.5, Scale.UNIT, 0.0, 1.0),
        ("WARMDOWN_RATIO", 1.0, Scale.UNIT, 0.0, 1.0),
        ("FINAL_LR_FRAC", 0.0, Scale.UNIT, 0.0, 1.0),
        ("DROPOUT", 0.02, Scale.LOG, 0.0025, 0.16),
        ("WEIGHT_DECAY", 0.0, Scale.ZERO, 0.0, 0.1),
        ("DEPTH", 8, Scale.WHOLE, 2, 32),
        ("DEPTH", 1, Scale.WHOLE, 1, 4),
        ("WIDTH", 640, Scale.WHOLE, 128, 2560),
        ("HEAD_DIM", 128, Scale.POWER, 32, 512),
        ("SKIP", 0, Scale.COUNT, 0, 4),
    ],
)
def test_the_scale_follows_from_name_and_value(
    name: str, value: Literal, scale: Scale, low: Literal, high: Literal
) -> None:
    found = made(name, value)
    assert found.scale is scale
    assert found.value(found.low) == pytest.approx(low)
    assert found.value(found.high) == pytest.approx(high)
    assert found.value(0.0) == value


def test_powers_of_two_stay_powers_of_two() -> None:
    found = made("BATCH", 8, written="2**3")
    assert {found.value(z / 4) for z in range(-20, 20)} == {2, 4, 8, 16, 32}


def test_truth_values_and_listed_choices_are_choices() -> None:
    assert made("USE_NORM", True).choices == (True, False)
    assert made("ACTIVATION", "gelu", "one of: relu2, 'gelu', silu; see below").choices == ("gelu", "relu2", "silu")
    assert made("HEADS", 4, "one of: 2, 4, 8").choices == (4, 2, 8)


@pytest.mark.parametrize(
    ("name", "value", "comment"),
    [
        ("SEED", 42, ""),
        ("DATA_DIR", 3, ""),
        ("FORMAT_VERSION", 2, ""),
        ("LOG_EVERY", 10, ""),
        ("ACTIVATION", "gelu", ""),
        ("MATRIX_LR", 0.02, "fixed"),
        ("MATRIX_LR", 0.02, "per step (fixed by the paper)"),
        ("IGNORE", -1, ""),
        ("ACTIVATION", "gelu", "one of: gelu"),
        ("MATRIX_LR", 0.02, "range: 0.1..1"),
    ],
)
def test_what_is_not_tunable_has_no_dimension(name: str, value: Literal, comment: str) -> None:
    assert dimension(f"train.py:{name}", value, comment) is None


def test_a_stated_range_is_a_hard_bound() -> None:
    rate = made("MATRIX_LR", 0.02, "range: 1e-3..1e-1")
    assert (rate.value(-99), rate.value(99)) == (0.001, 0.1)
    (wider,) = widened([rate], [{"train.py:MATRIX_LR": 0.1}], by=4)
    assert (wider.low, wider.high) == (rate.low, rate.high)
    bias = made("BIAS", 0.5, "range: -1..1")
    assert (bias.scale, bias.value(-99), bias.value(99)) == (Scale.LINEAR, -1.0, 1.0)
    assert made("SHIFT", 0, "range: -2..2").value(-99) == -2
    assert made("LOG_EVERY", 10, "range: 5..20").value(99) == 20


def test_a_kept_value_near_an_edge_widens_that_edge_only() -> None:
    rate = made("MATRIX_LR", 0.02)
    (same,) = widened([rate], [{"train.py:MATRIX_LR": 0.04}])
    (wider,) = widened([rate], [{"train.py:MATRIX_LR": 0.15}, {"train.py:MATRIX_LR": 0.02}])
    assert (same.low, same.high) == (rate.low, rate.high)
    assert wider.low == rate.low
    assert wider.value(99) == pytest.approx(0.3)


def test_widening_never_leaves_what_a_kind_of_value_can_be() -> None:
    space = [made("DEPTH", 2), made("WARMDOWN_FRAC", 0.9), made("BETA2", 0.95), made("WEIGHT_DECAY", 0.0)]
    depth, fraction, beta, decay = widened(space, [], by=30)
    assert depth.value(-99) == 1
    assert (fraction.value(-99), fraction.value(99)) == (0.0, 1.0)
    assert 0 <= float(beta.value(-99)) < float(beta.value(99)) < 1
    assert decay.value(-99) == 0.0


def test_the_profile_of_another_device_is_recognised() -> None:
    assert other_profile("CUDA_DEPTH", "cpu")
    assert other_profile("CPU_DEPTH", "cuda:1")
    assert not other_profile("CPU_DEPTH", "cpu")
    assert not other_profile("CUDA_DEPTH", "none")


def test_learning_rates_come_first() -> None:
    assert salience("EMBED_LR") < salience("DEPTH") < salience("SOFTCAP")


FLOATS = st.floats(1e-6, 1e6) | st.just(0.0) | st.floats(0.01, 0.999)
NAMES = st.sampled_from(["LR", "X", "BETA", "FRAC", "DROPOUT", "DEPTH"])


@given(name=NAMES, value=FLOATS | st.integers(0, 2**30) | st.booleans(), z=st.floats(-8, 8))
def test_a_value_has_the_coordinate_it_came_from(name: str, value: Literal, z: float) -> None:
    found = made(name, value)
    inside = min(max(z, found.low), found.high)
    reached = found.value(z)
    assert type(reached) is type(value)
    back = found.place(reached)
    assert back is not None
    assert math.isfinite(back)
    assert found.value(back) == pytest.approx(reached, rel=0.1)
    if found.scale in (Scale.LOG, Scale.NEAR_ONE, Scale.UNIT):
        assert back == pytest.approx(inside, abs=0.1)
