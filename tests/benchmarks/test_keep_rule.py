"""The simulation of the keep rule runs as a program and says what its tables say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "benchmarks.keep_rule"]


@pytest.mark.slow
def test_a_small_simulation_fills_all_three_tables_and_shows_fewer_false_keeps(tmp_path: Path) -> None:
    out = tmp_path / "keep rule.json"
    command = [*PROGRAM, "--campaigns", "4", "--tries", "10", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=True)
    assert "any decrease" in done.stdout
    tables = json.loads(out.read_text(encoding="utf-8"))
    assert set(tables) == {"settings", "compare", "sweep", "promise"}
    false = {
        (row["order"], row["mean"]["runs"] > 200, row["strategy"]): row["mean"]["false"] for row in tables["compare"]
    }
    for order in ("promising", "recorded"):
        assert false[order, True, "ours, rate 0.05"] < false[order, True, "any decrease"]


@pytest.mark.slow
def test_two_simulations_with_one_seed_agree(tmp_path: Path) -> None:
    outs = [tmp_path / "one.json", tmp_path / "other.json"]
    for out in outs:
        command = [*PROGRAM, "--campaigns", "2", "--tries", "2", "--json", str(out)]
        subprocess.run(command, capture_output=True, cwd=ROOT, timeout=100, check=True)
    assert outs[0].read_bytes() == outs[1].read_bytes()
