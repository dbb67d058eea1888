"""The duty of a loop is reckoned from when its runs began and ended, and measured on the real one."""

from pathlib import Path

import pytest

from benchmarks.duty import Times, at_full_length, headline, ours, table, times_of


def loop(own_s: float, share_of_agent: float, scale: float = 100.0) -> dict[float, Times]:
    """What a loop shows on the fast clock that takes so much for itself and waits for that share of an agent."""
    idle = {agent: own_s + share_of_agent * agent / scale for agent in (1.0, 30.0, 90.0)}
    return {agent: Times(run_s=3.0, idle_s=s, idle_median_s=s) for agent, s in idle.items()}


def test_the_first_runs_do_not_count_and_a_gap_is_from_an_end_to_the_next_beginning() -> None:
    times = times_of([(0, 1), (1, 2), (10, 13), (14, 17), (18.5, 21.5)], 3)
    assert (times.run_s, times.idle_s) == (3.0, 1.25)
    assert times.duty == pytest.approx(3 / 4.25)


def test_at_full_length_a_loops_own_work_stays_as_it_is_and_the_agents_wait_grows() -> None:
    serial, hidden = at_full_length(loop(0.2, 1.0), 100), at_full_length(loop(0.2, 0.0), 100)
    assert serial == {agent: pytest.approx(300 / (300.2 + agent)) for agent in (1.0, 30.0, 90.0)}
    assert hidden == {agent: pytest.approx(300 / 300.2) for agent in (1.0, 30.0, 90.0)}


def test_the_table_and_the_headline_name_every_loop_and_who_is_missing() -> None:
    each = {
        "duty_measured": {"1": 0.99, "30": 0.98, "90": 0.97},
        "duty_at_300_s": {"1": 1.0, "30": 0.999, "90": 0.998},
        "idle_ms": {"1": 20.0, "30": 21.0, "90": 22.0},
    }
    told = {
        "loops": {"ralph, thinking ahead": each, "other": each},
        "ancestor": {"1": 0.9, "30": 0.84, "90": 0.72},
        "missing": {"absent": "not installed"},
        "scale": 100.0,
        "machine": {"load": 0.1},
    }
    lines = table(told).splitlines()
    assert lines[2].split()[-9:] == ["1.000", "0.999", "0.998", "0.990", "0.980", "0.970", "20", "21", "22"]
    assert any(line.endswith("left out: not installed") for line in lines)
    idle, duty, per_hour = headline(told["loops"])  # type: ignore[arg-type]
    assert idle["beside"] == {"other": "20 and 22 ms"}
    assert (duty["ralph"], duty["beside"]["the ancestor, agent of 25 s"]) == ("0.9980", "0.85")
    assert per_hour["ralph"] == "1.17 times"


@pytest.mark.slow
def test_the_real_loop_notes_when_its_runs_began_and_ended(tmp_path: Path) -> None:
    times = ours(tmp_path / "arena", 1, 0.01, 0.2, 3)
    assert times.run_s >= 0.2
    assert 0 < times.idle_s < 60
