"""The replay of stored curves runs as a program, and our rule keeps its rate in it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_small_replay_saves_time_within_the_stated_rate(tmp_path: Path) -> None:
    out = tmp_path / "prune.json"
    command = [sys.executable, "-m", "benchmarks.prune", "--campaigns", "2", "--shuffles", "3", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=500, check=True)
    assert "experiments per hour" in done.stdout
    tables = json.loads(out.read_text(encoding="utf-8"))["tables"]
    for rows in tables.values():
        assert rows["none"]["stopped"] == 0.0
        assert rows["none"]["experiments_per_hour"] == 1.0
        assert rows["hindsight"]["keeps_stopped"] == 0.0
    for name in ("plain", "noisy", "crossing"):
        ours = tables[f"made: {name}"]["ours, 0.05"]
        assert ours["experiments_per_hour"] > 1.02, name
        assert ours["contenders_stopped"] < 0.08, name
        assert ours["keeps_stopped"] <= 0.05, name
