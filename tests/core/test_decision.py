"""Keep, discard, or run again."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.core.decision import (
    EQUAL_MARGIN_SIGMAS,
    Decision,
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
    incumbent_runs,
)
from ralph.core.statistics import UNKNOWN, Noise, pooled_noise, with_prior
from ralph.model import Direction

RULE = KeepRule()
SINGLE = KeepRule(max_runs=1)
NOISE = Noise(sigma=0.0005, dof=20)
EXACT = Noise(sigma=0.0, dof=2)
FOUR = (0.9800, 0.9805, 0.9795, 0.9800)


def verdict(
    *candidate: float,
    rule: KeepRule = RULE,
    incumbent: tuple[float, ...] = FOUR,
    noise: Noise = NOISE,
    lines: int = 0,
    challengers: int = 0,
) -> Decision:
    return decide(
        rule,
        Evidence(candidate=candidate, incumbent=incumbent, noise=noise, lines_delta=lines, challengers=challengers),
    )


def test_a_clear_gain_is_kept_after_one_run() -> None:
    decision = verdict(0.9700)
    assert isinstance(decision, Keep)
    assert decision.delta == pytest.approx(-0.01)
    assert decision.se == pytest.approx(0.0005 * math.sqrt(1 + 1 / 4))
    assert decision.p_value is not None
    assert decision.p_value < 1e-6


def test_a_clear_gain_is_kept_before_the_incumbent_has_all_its_runs() -> None:
    assert isinstance(verdict(0.9700, incumbent=(0.98,)), Keep)


def test_a_clear_loss_is_discarded_after_one_run_whatever_the_incumbent_lacks() -> None:
    assert isinstance(verdict(0.9900), Discard)
    assert isinstance(verdict(0.9900, incumbent=(0.98,)), Discard)


def test_a_score_no_better_than_the_incumbent_is_not_worth_another_run() -> None:
    decision = verdict(0.9800)
    assert isinstance(decision, Discard)
    assert "hardly" in decision.reason


def test_what_lies_between_is_run_again() -> None:
    decision = verdict(0.9790)
    assert isinstance(decision, RunAgain)
    assert decision.of is Side.CANDIDATE


def test_the_incumbent_is_run_again_first_when_it_has_too_few_runs() -> None:
    decision = verdict(0.9790, incumbent=(0.98,))
    assert isinstance(decision, RunAgain)
    assert decision.of is Side.INCUMBENT


def test_a_freshly_kept_incumbent_gets_a_run_that_did_not_select_it() -> None:
    selected = (0.9800,) * RULE.max_runs
    decision = verdict(0.9801, incumbent=selected)
    assert isinstance(decision, RunAgain)
    assert decision.of is Side.INCUMBENT


def test_an_incumbent_that_has_seen_off_many_is_measured_again() -> None:
    assert isinstance(verdict(0.9801, challengers=3), Discard)
    decision = verdict(0.9801, challengers=4)
    assert isinstance(decision, RunAgain)
    assert decision.of is Side.INCUMBENT


def test_what_an_incumbent_costs_is_bounded() -> None:
    assert incumbent_runs(RULE, 10**9) == 12
    assert isinstance(verdict(0.9801, incumbent=FOUR * 3, challengers=10**9), Discard)


def test_what_is_not_clear_when_the_runs_are_spent_is_discarded() -> None:
    decision = verdict(0.9797, 0.9796, 0.9798)
    assert isinstance(decision, Discard)
    assert decision.reason.endswith("not clear enough for a keep")


def test_a_small_gain_is_kept_once_it_is_clear() -> None:
    assert isinstance(verdict(0.9791), RunAgain)
    assert isinstance(verdict(0.9791, 0.9791), RunAgain | Keep)
    assert isinstance(verdict(0.9791, 0.9791, 0.9790), Keep)


def test_more_runs_than_the_rule_allows_are_judged_as_the_last_look() -> None:
    assert not isinstance(verdict(*[0.9797] * 5), RunAgain)


def test_a_gain_must_be_clearly_above_the_smallest_worth_a_keep() -> None:
    demanding = KeepRule(min_effect=0.002)
    assert isinstance(verdict(0.9785, 0.9785, 0.9785), Keep)
    assert isinstance(verdict(0.9785, 0.9785, 0.9785, rule=demanding), Discard)
    assert isinstance(verdict(0.9700, rule=demanding), Keep)


def test_the_same_spread_is_less_convincing_when_sigma_rests_on_few_repeats() -> None:
    assert isinstance(verdict(0.9780, noise=Noise(sigma=0.0005, dof=50)), Keep)
    assert isinstance(verdict(0.9780, noise=Noise(sigma=0.0005, dof=2)), RunAgain)


def test_a_reason_gives_the_numbers_on_both_sides() -> None:
    decision = verdict(0.9779, 0.9779, 0.9779)
    assert decision.reason == "better by 0.0021 ± 0.0004, 3 runs against 4"


def test_delta_keeps_the_sign_of_the_metric_in_both_directions() -> None:
    up = KeepRule(direction=Direction.MAX)
    high = verdict(95.9, incumbent=(95.0, 95.1, 94.9, 95.0), noise=Noise(sigma=0.1, dof=9), rule=up)
    assert isinstance(high, Keep)
    assert high.delta == pytest.approx(0.9)
    assert isinstance(verdict(0.97, rule=up), Discard)


@given(
    st.lists(st.floats(0.97, 0.99), min_size=1, max_size=4),
    st.lists(st.floats(0.97, 0.99), min_size=1, max_size=13),
    st.integers(0, 30),
    st.sampled_from([-5, 0, 5]),
    st.integers(0, 60),
    st.integers(1, 4),
)
def test_turning_the_metric_over_changes_nothing_but_the_sign(
    candidate: list[float], incumbent: list[float], dof: int, lines: int, challengers: int, max_runs: int
) -> None:
    def answer(sign: int, direction: Direction) -> Decision:
        evidence = Evidence(
            candidate=tuple(sign * score for score in candidate),
            incumbent=tuple(sign * score for score in incumbent),
            noise=Noise(sigma=0.0005, dof=dof) if dof else UNKNOWN,
            lines_delta=lines,
            challengers=challengers,
        )
        return decide(KeepRule(max_runs=max_runs, direction=direction), evidence)

    low, high = answer(1, Direction.MIN), answer(-1, Direction.MAX)
    assert type(low) is type(high)
    assert (low.delta, low.se, low.reason) == (-high.delta, high.se, high.reason)
    assert low == answer(1, Direction.MIN), "the same evidence gives the same answer"


@given(st.floats(0.97, 0.99), st.floats(0.0, 0.005), st.integers(1, 30))
def test_a_better_score_never_turns_a_keep_into_something_less(score: float, better: float, dof: int) -> None:
    noise = Noise(sigma=0.0005, dof=dof)
    if isinstance(verdict(score, noise=noise), Keep):
        assert isinstance(verdict(score - better, noise=noise), Keep)


# Simpler code


def test_an_equal_score_with_fewer_lines_is_a_keep_and_with_as_many_is_not() -> None:
    equal = (0.9797, 0.9797, 0.9797)
    kept = verdict(*equal, lines=-12)
    assert isinstance(kept, Keep)
    assert kept.reason == "12 lines fewer and about as good: better by 0.0003 ± 0.0004, 3 runs against 4"
    assert isinstance(verdict(*equal), Discard)
    assert isinstance(verdict(*equal, lines=12), Discard)


def test_a_simpler_candidate_that_is_clearly_better_is_kept_for_its_gain() -> None:
    decision = verdict(0.9700, lines=-1)
    assert isinstance(decision, Keep)
    assert decision.reason.endswith("1 run against 4, and 1 line fewer")


def test_simpler_code_is_discarded_when_it_clearly_loses_a_sigma() -> None:
    assert isinstance(verdict(0.9830, lines=-50), Discard)


# Deterministic arenas


def test_without_noise_any_improvement_is_a_keep_and_none_is_run_again() -> None:
    kept = verdict(0.97999999, incumbent=(0.98,), noise=EXACT)
    assert isinstance(kept, Keep)
    assert (kept.se, kept.p_value) == (0.0, 0.0)
    assert isinstance(verdict(0.98000001, incumbent=(0.98,), noise=EXACT), Discard)


def test_without_noise_an_equal_score_is_kept_only_with_fewer_lines() -> None:
    assert isinstance(verdict(0.98, incumbent=(0.98,), noise=EXACT, lines=-1), Keep)
    assert isinstance(verdict(0.98, incumbent=(0.98,), noise=EXACT), Discard)
    assert isinstance(verdict(0.98000001, incumbent=(0.98,), noise=EXACT, lines=-1), Discard)


def test_without_noise_the_gain_must_still_be_worth_a_keep() -> None:
    rule = KeepRule(min_effect=0.001)
    discarded = verdict(0.9795, incumbent=(0.98,), noise=EXACT, rule=rule)
    assert isinstance(discarded, Discard)
    assert "worth a keep" in discarded.reason
    assert isinstance(verdict(0.9785, incumbent=(0.98,), noise=EXACT, rule=rule), Keep)


def test_noise_of_zero_is_not_believed_against_scores_that_differ() -> None:
    decision = verdict(0.9799, incumbent=(0.98, 0.981), noise=EXACT)
    assert decision.se is not None
    assert decision.se > 0


# Unknown noise


def test_with_unknown_noise_a_candidate_that_looks_better_makes_the_incumbent_run_again() -> None:
    decision = verdict(0.97, incumbent=(0.98,), noise=UNKNOWN)
    assert isinstance(decision, RunAgain)
    assert decision.of is Side.INCUMBENT
    assert decision.se is None


def test_with_unknown_noise_a_candidate_that_looks_no_better_is_discarded() -> None:
    assert isinstance(verdict(0.98, incumbent=(0.98,), noise=UNKNOWN), Discard)
    assert isinstance(verdict(0.99, incumbent=(0.98,), noise=UNKNOWN), Discard)


def test_unknown_noise_is_taken_from_the_repeats_at_hand() -> None:
    groups = (0.97,), (0.98, 0.981)
    assert verdict(*groups[0], incumbent=groups[1], noise=UNKNOWN) == verdict(
        *groups[0], incumbent=groups[1], noise=pooled_noise(groups)
    )


# A single run


@given(st.floats(0.97, 0.99), st.integers(1, 5), st.integers(0, 9), st.integers(0, 99))
def test_a_single_run_decides_when_the_rule_says_so(score: float, runs: int, dof: int, challengers: int) -> None:
    noise = Noise(sigma=0.0005, dof=dof) if dof else UNKNOWN
    decision = verdict(score, incumbent=(0.98,) * runs, noise=noise, rule=SINGLE, challengers=challengers)
    assert not isinstance(decision, RunAgain)


def test_a_single_run_is_held_against_one_threshold() -> None:
    one_sided_5_percent_of_t20 = 1.7247182429
    threshold = one_sided_5_percent_of_t20 * 0.0005 * math.sqrt(1 + 1 / 4)
    assert isinstance(verdict(0.98 - threshold - 1e-9, rule=SINGLE), Keep)
    assert isinstance(verdict(0.98 - threshold + 1e-9, rule=SINGLE), Discard)


def test_a_single_run_of_unknown_noise_promises_nothing_and_says_so() -> None:
    decision = verdict(0.97, incumbent=(0.98,), noise=UNKNOWN, rule=SINGLE)
    assert isinstance(decision, Keep)
    assert decision.p_value is None
    assert "may be chance" in decision.reason
    assert chance_of_luck(9.0, dof=0, runs=1) == 1.0


def test_a_rate_of_a_half_and_a_single_run_is_the_rule_that_any_improvement_is_a_keep() -> None:
    rule = KeepRule(false_keep_rate=0.5, max_runs=1)
    assert isinstance(verdict(0.979999, rule=rule), Keep)
    assert isinstance(verdict(0.980001, rule=rule), Discard)


def test_the_baseline_has_more_runs_when_later_repeats_are_ruled_out() -> None:
    assert baseline_runs(RULE) == 3
    assert baseline_runs(SINGLE) == 5


# Settings and evidence that make no sense


@pytest.mark.parametrize("rate", [0.0, -0.1, 0.51, math.nan])
def test_an_impossible_false_keep_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="false_keep_rate"):
        KeepRule(false_keep_rate=rate)


def test_a_rule_without_runs_or_with_a_negative_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="max_runs"):
        KeepRule(max_runs=0)
    with pytest.raises(ValueError, match="min_effect"):
        KeepRule(min_effect=-0.1)


@pytest.mark.parametrize("scores", [(), (math.nan,), (0.98, math.inf)])
def test_a_decision_without_finite_scores_is_refused(scores: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="candidate"):
        Evidence(candidate=scores, incumbent=(0.98,))
    with pytest.raises(ValueError, match="incumbent"):
        Evidence(candidate=(0.98,), incumbent=scores)


# The promise, by simulation


def kept_share(
    rule: KeepRule, *, gain: float, baseline: int, earlier: int, tries: int, lines: int = 0, seed: int = 7
) -> float:
    """How often a candidate with this true gain (in sigmas) is kept; noise comes from `earlier` pairs and the runs."""
    rng, kept = random.Random(seed), 0
    for _ in range(tries):
        before = pooled_noise([(rng.gauss(0, 1), rng.gauss(0, 1)) for _ in range(earlier)])
        candidate, incumbent = [rng.gauss(-gain, 1)], [rng.gauss(0, 1) for _ in range(baseline)]
        for _ in range(rule.max_runs + incumbent_runs(rule, 0) + 1):
            noise = pooled_noise([candidate, incumbent])
            if before.sigma is not None:
                noise = with_prior(noise, sigma=before.sigma, dof=before.dof)
            decision = verdict(*candidate, rule=rule, incumbent=tuple(incumbent), noise=noise, lines=lines)
            if not isinstance(decision, RunAgain):
                break
            if decision.of is Side.CANDIDATE:
                candidate.append(rng.gauss(-gain, 1))
            else:
                incumbent.append(rng.gauss(0, 1))
        else:
            pytest.fail("the rule asked for more runs than it may")
        kept += isinstance(decision, Keep)
    return kept / tries


def at_most(rate: float, tries: int) -> float:
    """The rate and three standard errors of its estimate."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / tries)


@pytest.mark.parametrize(("baseline", "earlier"), [(3, 0), (1, 4), (4, 30)])
@pytest.mark.parametrize("rule", [RULE, KeepRule(false_keep_rate=0.2, max_runs=5)])
def test_a_candidate_that_is_no_better_is_kept_no_more_often_than_promised(
    rule: KeepRule, baseline: int, earlier: int
) -> None:
    tries = 700
    share = kept_share(rule, gain=0.0, baseline=baseline, earlier=earlier, tries=tries)
    assert share <= at_most(rule.false_keep_rate, tries)


@pytest.mark.parametrize("baseline", [3, 5])
def test_a_single_run_keeps_the_promise_exactly(baseline: int) -> None:
    tries = 2000
    share = kept_share(SINGLE, gain=0.0, baseline=baseline, earlier=0, tries=tries)
    assert share == pytest.approx(0.05, abs=3.5 * math.sqrt(0.05 * 0.95 / tries))


@pytest.mark.parametrize("earlier", [0, 30])
def test_simpler_code_that_loses_the_margin_is_kept_no_more_often_than_promised(earlier: int) -> None:
    tries = 700
    share = kept_share(RULE, gain=-EQUAL_MARGIN_SIGMAS, baseline=3, earlier=earlier, tries=tries, lines=-1)
    assert share <= at_most(RULE.false_keep_rate, tries)


def test_true_gains_are_found() -> None:
    assert kept_share(RULE, gain=3.0, baseline=4, earlier=20, tries=300) > 0.9
    assert kept_share(RULE, gain=0.0, baseline=4, earlier=20, tries=300, lines=-1) > 0.15


# What the report says


def test_overwhelming_keeps_are_not_expected_to_be_false_and_close_ones_are_counted() -> None:
    sure, close = 1e-12, 0.04
    assert expected_false_keeps([sure] * 9, compared=100) < 1e-6
    assert expected_false_keeps([close, sure, close], compared=100) == pytest.approx(2.0)
    assert expected_false_keeps([close, close], compared=2) == pytest.approx(0.08)
    assert expected_false_keeps([], compared=100) == 0.0


def test_a_p_value_is_the_rate_at_which_the_same_look_still_keeps() -> None:
    decision = verdict(0.9775)
    assert isinstance(decision, Keep)
    assert decision.p_value is not None
    for factor, kind in ((1.01, Keep), (0.99, RunAgain)):
        assert isinstance(verdict(0.9775, rule=KeepRule(false_keep_rate=factor * decision.p_value)), kind)
