"""Campaigns on many lanes are told as they went."""

import pytest

from benchmarks.lanes import Ideas, campaign, table, with_lanes, without_repeats
from ralph.adapters.scripted.lab import Lab
from ralph.core import step

EFFECTS = (-0.002, 0.001, 0.003, -0.0001)


def test_an_idea_is_the_same_on_any_number_of_lanes() -> None:
    ideas = Ideas(EFFECTS, 1)
    assert [ideas(n) for n in range(9)] == [Ideas(EFFECTS, 1)(n) for n in range(9)]
    assert {ideas(n).effect for n in range(40)} == set(EFFECTS)


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_campaign_ends_at_its_hour_and_its_time_at_work_is_that_of_its_runs(lanes: int) -> None:
    tape, made = campaign(Lab(plan=Ideas(EFFECTS, 1)), lanes, lanes, 3.0)
    assert 3.0 <= made.lab.clock.seconds / 3600 < 3.1
    assert tape.judged == made.supervisor.state.judged > 3
    assert 0.9 < tape.share_at_work(lanes) <= 1.0
    assert tape.gain(3.0) == pytest.approx(-1e3 * sum(effect for _, effect in tape.kept))
    assert tape.gain(0.0) == 0


@pytest.mark.slow
def test_rows_are_told_beside_one_lane_and_fit_the_table() -> None:
    rows = with_lanes(EFFECTS, 16.0)
    assert [row["lanes"] for row in rows] == [1, 2, 8, 64]
    assert rows[0]["efficiency"] == 1.0
    assert rows[0]["gain"] == rows[0]["gain_of_one_lane_in_these_hours"]
    told = {"ideas": {"few": rows}, "lane_hours": 16.0, "gaps": []}
    assert len(table(told).splitlines()) == 2 + len(rows) + 3


def test_the_loop_without_repeats_is_ours_again_afterwards() -> None:
    ours = vars(step)["repeat_in_the_gap"]
    with without_repeats():
        assert vars(step)["repeat_in_the_gap"] is not ours
    assert vars(step)["repeat_in_the_gap"] is ours
