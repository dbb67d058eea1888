"""The count of spared repeats runs as a program and says what its table says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_small_count_shows_no_repeat_where_known_programs_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "duplicates.json"
    command = [sys.executable, "-m", "benchmarks.duplicates", "--experiments", "25", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=True)
    assert "run again" in done.stdout
    rows = {(row["pool"], row["refuse"]): row["mean"] for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert rows[40, False]["repeats"] > 0
    assert rows[40, False]["repeat_hours"] > 0
    assert rows[40, True]["refused"] > 0
    assert [rows[pool, True]["repeats"] for pool in (40, 120, 400)] == [0, 0, 0]
    assert rows[40, True]["programs"] == rows[40, True]["experiments"]
