"""The overhead of a loop is measured on the real one, and beside whom is said."""

from pathlib import Path

import pytest

from benchmarks.overhead import MINE, Mine, looped, table
from benchmarks.rivals import RIVALS, seconds_each, why_not


def test_a_rival_that_is_not_installed_is_left_out_with_the_way_to_install_it(tmp_path: Path) -> None:
    told = {rival.name: why_not(rival, tmp_path) for rival in RIVALS}
    assert told["optuna ask/tell"] == ""
    assert "--install" in told["openevolve"]
    assert "--install" in told["shinka-evolve"]


def test_a_plain_loop_is_timed_from_proposal_to_proposal(tmp_path: Path) -> None:
    assert 0 < seconds_each(RIVALS[0], tmp_path, 3, tmp_path) < 60


@pytest.mark.slow
@pytest.mark.parametrize("mine", MINE, ids=lambda mine: mine.agent)
def test_each_of_our_agents_is_timed_in_the_real_loop(mine: Mine, tmp_path: Path) -> None:
    loop = looped(tmp_path / "arena", mine, 2)
    assert 0 < loop.seconds_each() < 60
    assert len(loop.ready_s()) == 4
    assert min(loop.ready_s()) > 0


def test_the_table_says_what_each_does_not_do_and_who_is_missing() -> None:
    told = {
        "bare_s": {"agent": 0.002, "run": 0.01},
        "iteration_s": {MINE[0].name: 0.1, "other": 0.05},
        "lacks": {MINE[0].name: "nothing", "other": "no sandbox"},
        "missing": {"absent": "not installed"},
        "ready_s": {MINE[0].name: {"first": 0.5, "later": 0.05}},
        "waiting_share_of_a_core": 0.001,
        "status_s": 0.2,
        "help_s": 0.05,
    }
    lines = table(told).splitlines()
    assert lines[2].split()[:4] == ["other", "50", "40", "0.50"]
    assert lines[2].endswith("no sandbox")
    assert lines[3].endswith("left out: not installed")
