"""Early stops: the stated rate holds whatever the distributions, looks share it, and censoring does not eat it up."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean, median

import pytest

from ralph.core.curves import KEPT, LOOKS, POINTS, Curve, Finished, Past
from ralph.core.pruning import PruneRule, early_stop, reason, with_lot
from ralph.model import Direction, EarlyStop

RULE = PruneRule(false_stop_rate=0.05)
INCUMBENT = (4.0,) * len(LOOKS)


def finished(gaps: Sequence[float | None], behind: float, *, agent: str = "a", spared: bool = False) -> Finished:
    losses = tuple(None if gap is None else 4.0 + gap for gap in gaps)
    return Finished(agent=agent, losses=losses, gaps=tuple(gaps), behind=behind, contender=behind <= 0, spared=spared)


def past_of(*rows: Finished) -> Past:
    return Past(kept={0: (INCUMBENT,)}, finished=rows)


def wobbling(count: int, behind: float = 0.0, agent: str = "a") -> list[Finished]:
    rng = random.Random(count)
    return [finished([rng.gauss(0, 0.1) for _ in LOOKS], behind, agent=agent) for _ in range(count)]


def curve_of(gaps: Sequence[float | None]) -> Curve:
    """A curve with these gaps at the looks."""
    points: list[float | None] = [None] * POINTS
    for look, gap in zip(LOOKS, gaps, strict=True):
        points[round(look * POINTS) - 1] = None if gap is None else 4.0 + gap
    return tuple(points)


def stop(past: Past, gaps: Sequence[float | None], rule: PruneRule = RULE, agent: str = "a") -> EarlyStop | None:
    return early_stop(rule, past, agent, curve_of(gaps), 0, Direction.MIN)


def test_nothing_is_stopped_before_enough_experiments_of_that_agent_were_scored() -> None:
    hopeless = (99.0,) * len(LOOKS)
    assert stop(past_of(*wobbling(18)), hopeless) is None
    assert stop(past_of(*wobbling(19)), hopeless) is not None
    assert stop(past_of(*wobbling(40)), hopeless, agent="new here") is None
    assert stop(past_of(*wobbling(40)), hopeless, rule=PruneRule(false_stop_rate=0.0)) is None
    assert stop(past_of(*wobbling(40)), hopeless, rule=PruneRule(false_stop_rate=0.02)) is None


def test_losers_make_up_the_number_and_only_make_the_rule_more_lenient() -> None:
    contenders = wobbling(12)
    losers = [finished([2.0 + n] * len(LOOKS), behind=1.0 + n) for n in range(20)]
    bad = (5.0,) * len(LOOKS)
    assert stop(past_of(*contenders, *losers), bad) is None, "as bad as the best losers that stand in"
    assert stop(past_of(*wobbling(19), *losers), bad) is not None


def test_a_run_is_stopped_at_the_first_look_at_which_it_is_too_far_behind() -> None:
    past = past_of(*wobbling(40))
    early = stop(past, (0.05, 0.0, 3.0, 9.0, 9.0))
    assert early is not None
    assert early.share == LOOKS[2]
    assert early.behind == pytest.approx(3.0, abs=0.1)
    assert 0.1 < early.allowed < 1.0
    assert stop(past, (0.05, 0.0, 0.1, None, None)) is None


def test_what_is_not_known_of_a_run_stops_it_not() -> None:
    past = past_of(*wobbling(40))
    assert stop(past, (None,) * len(LOOKS)) is None
    assert early_stop(RULE, past, "a", (), 0, Direction.MIN) is None
    without_incumbent = replace(past, kept={})
    assert stop(without_incumbent, (99.0,) * len(LOOKS)) is None


def test_where_no_two_runs_differ_only_what_does_is_stopped() -> None:
    same = [finished((0.0,) * len(LOOKS), behind=0.0) for _ in range(40)]
    assert stop(past_of(*same), (0.0,) * len(LOOKS)) is None
    assert stop(past_of(*same), (-1.0,) * len(LOOKS)) is None
    assert stop(past_of(*same), (99.0,) * len(LOOKS)) is not None


def test_a_look_that_no_contender_has_a_value_for_is_passed_over() -> None:
    rows = [replace(f, gaps=(None, *f.gaps[1:])) for f in wobbling(40)]
    early = stop(past_of(*rows), (99.0,) * len(LOOKS))
    assert early is not None
    assert early.share == LOOKS[1]


def test_what_a_stopped_run_would_have_come_to_is_what_those_did_that_looked_like_it() -> None:
    losers = [finished([2.0] * len(LOOKS), behind=0.3) for _ in range(9)]
    past = past_of(*wobbling(40), *losers)
    for direction, expected in ((Direction.MIN, 0.3), (Direction.MAX, -0.3)):
        early = early_stop(RULE, past, "a", curve_of((2.1,) * len(LOOKS)), 0, direction)
        assert early is not None
        assert early.expected == expected


def test_a_contender_that_logged_absurd_losses_makes_the_rule_lenient_but_harms_nothing() -> None:
    liar = finished([1e6] * len(LOOKS), behind=-0.1)
    assert stop(past_of(*wobbling(18), liar), (99.0,) * len(LOOKS)) is None
    assert stop(past_of(*wobbling(60), liar), (99.0,) * len(LOOKS)) is not None


def test_a_spot_check_stands_for_those_that_were_stopped_like_it() -> None:
    worst = finished([1.0] * len(LOOKS), behind=-0.1, spared=True)
    assert stop(past_of(*wobbling(60), worst), (0.9,) * len(LOOKS)) is None
    assert stop(past_of(*wobbling(60), replace(worst, spared=False)), (0.9,) * len(LOOKS)) is not None


def test_the_lot_is_drawn_from_the_names_and_falls_as_often_as_stated() -> None:
    early = EarlyStop(share=0.2, behind=1.0, allowed=0.5)
    drawn = [with_lot(RULE, early, "night", id_).spared for id_ in range(4000)]
    assert drawn == [with_lot(RULE, early, "night", id_).spared for id_ in range(4000)]
    assert abs(sum(drawn) / len(drawn) - RULE.spot_checks) < 0.02
    assert with_lot(PruneRule(spot_checks=1.0), early, "night", 1).spared


def test_a_reason_says_when_and_by_how_much() -> None:
    assert reason(EarlyStop(share=0.5, behind=1.25, allowed=0.4)) == (
        "at 50% of its budget: its loss was 1.25 behind, and contenders may be 0.4"
    )


@pytest.mark.parametrize(("field", "value"), [("false_stop_rate", -0.1), ("false_stop_rate", 0.6), ("spot_checks", 0)])
def test_settings_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        PruneRule(**{field: value})


Draw = Callable[[random.Random], list[float]]


def smooth(rng: random.Random) -> list[float]:
    common = rng.gauss(0, 1)
    return [common + rng.gauss(0, 2 * (1 - look)) for look in LOOKS]


def heavy(rng: random.Random) -> list[float]:
    return [math.tan(math.pi * (rng.random() - 0.5)) for _ in LOOKS]


def some_start_slowly(rng: random.Random) -> list[float]:
    late = rng.expovariate(0.1) if rng.random() < 0.2 else 0.0
    return [late * (1 - look) ** 2 + rng.gauss(0, 1) for look in LOOKS]


@pytest.mark.parametrize("draw", [smooth, heavy, some_start_slowly])
@pytest.mark.parametrize(("rate", "count"), [(0.05, 19), (0.05, 45), (0.1, 9), (0.1, 45)])
def test_of_new_contenders_no_more_are_stopped_than_stated_whatever_the_distribution(
    draw: Draw, rate: float, count: int
) -> None:
    rng, stopped, tries, rule = random.Random(7), 0, 700, PruneRule(false_stop_rate=rate)
    for _ in range(tries):
        rows = [finished(draw(rng), behind=0.0) for _ in range(count)]
        stopped += stop(past_of(*rows), draw(rng), rule) is not None
    assert stopped / tries < rate + 0.02


def by_the_formula(past: Past, said: Sequence[float], rule: PruneRule) -> float | None:
    """The share at which the formula of ralph.core.pruning stops a run, without its shortcuts."""
    rows, gaps = past.finished, [gap or 0.0 for gap in past.gaps(tuple(4.0 + gap for gap in said), 0)]
    best = sorted(rows, key=lambda f: (not f.contender, f.behind))
    class_ = best[: max(rule.least, sum(f.contender for f in rows))]
    for k, look in enumerate(LOOKS):
        scales = []
        for j in range(len(LOOKS)):
            known = [f.gaps[j] for f in rows] + list(gaps[j : j + 1] if j <= k else [])
            values = [gap for gap in known if gap is not None]
            centre = median(values)
            above = [gap - centre for gap in values if gap >= centre]
            scales.append((centre, 1.4826 * median(above) or fmean(above)))
        looked = []
        for f in class_:
            zs = [(g - centre) / spread for g, (centre, spread) in zip(f.gaps, scales, strict=True) if g is not None]
            looked.append((max(zs), 10.0 if f.spared else 1.0))
        mine, total = (gaps[k] - scales[k][0]) / scales[k][1], sum(weight for _, weight in looked)
        if sum(w for z, w in looked if z < mine - 1e-9) >= (1 - rule.false_stop_rate) * (total + 1) - 1e-9:
            return look
    return None


def test_it_stops_where_the_formula_does() -> None:
    rng, rule, stops = random.Random(5), PruneRule(), 0
    for _ in range(300):
        rows = [
            finished(
                [None if rng.random() < 0.1 else rng.gauss(0, 1) for _ in LOOKS[1:]] + [rng.gauss(0, 1)],
                behind=rng.gauss(1, 1),
                spared=rng.random() < 0.1,
            )
            for _ in range(rng.randint(9, 30))
        ]
        gaps = [rng.gauss(0, 4) for _ in LOOKS]
        early, expected = stop(past_of(*rows), gaps, rule), by_the_formula(past_of(*rows), gaps, rule)
        assert (early.share if early else None) == expected
        stops += early is not None
    assert 100 < stops < 250, "both answers are among them"


def test_in_long_campaigns_their_own_stops_do_not_make_the_rule_stricter_and_stricter() -> None:
    """Those that were stopped are missing among the worst; the spot checks stand for them."""
    contenders, stopped = 0, 0
    for campaign in ("one", "two"):
        rng, past = random.Random(campaign), past_of()
        for id_ in range(700):
            good = rng.random() < 0.5
            gaps = [gap + (0 if good else 2) for gap in smooth(rng)]
            early = stop(past, gaps)
            if early is not None:
                early = with_lot(RULE, early, campaign, id_)
            contenders += good
            stopped += good and early is not None and not early.spared
            if early is None or early.spared:
                row = finished(gaps, behind=0.0 if good else 1.0, spared=early is not None)
                past = replace(past, finished=(*past.finished, row)[-KEPT:])
    assert stopped / contenders < 1.5 * RULE.false_stop_rate
