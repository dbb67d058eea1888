"""The comparison of sizes runs as a program, on campaigns whose ledgers are whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scale import keep_snapshot, make
from ralph.adapters.ledger_health import examine
from ralph.adapters.snapshot import restore
from ralph.layout import locate
from ralph.model import Verdict

ROOT = Path(__file__).parents[2]


def test_a_made_campaign_is_a_sound_one_with_every_kind_of_verdict(tmp_path: Path) -> None:
    make(tmp_path / "c", 240)
    layout = locate(tmp_path / "c")
    keep_snapshot(layout)
    assert examine(layout.ledger, layout.experiments).sound
    found = restore(layout.ledger, layout.snapshot, check=True)
    assert found.used
    assert (found.state.begun, found.state.judged, found.state.open()) == (240, 240, [])
    assert all(found.state.counts[v] for v in (Verdict.KEEP, Verdict.DISCARD, Verdict.CRASH, Verdict.INVALID))


@pytest.mark.slow
def test_a_small_comparison_goes_on_with_campaigns_and_says_what_it_took(tmp_path: Path) -> None:
    out = tmp_path / "scale.json"
    options = ("--sizes", "5", "30", "--rounds", "1", "--iterations", "4", "--json", str(out))
    command = [sys.executable, "-m", "benchmarks.scale", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=True)
    assert "iteration" in done.stdout
    told = json.loads(out.read_text(encoding="utf-8"))
    assert [row["experiments"] for row in told["sizes"]] == [5, 30]
    assert all(row["iteration_s"] > 0 and row["restart_s"] > 0 and row["status_s"] > 0 for row in told["sizes"])
    assert told["iterations"] == 2
