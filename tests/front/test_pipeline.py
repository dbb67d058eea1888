"""The real loop with agents that think ahead and lanes side by side: real processes, real git."""

import itertools
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.events import Judged, Rebased, Refused, RunEnded, RunStarted
from ralph.model import Verdict
from tests.arenas import TOML, TRAIN, ToyArena, edit, toy_arena
from tests.conftest import git

Left = Callable[[], list[int]]
SLOW = TRAIN.replace("score =", "import time; time.sleep(0.5)\nscore =")
AHEAD = TOML.replace("[agent]\n", "[lanes]\ncount = 2\n\n[agent]\nlookahead = 2\n")
STEPS = [
    edit("LEARNING_RATE", 0.3),  # kept
    edit("WIDTH", 16),  # made on the baseline, and a gain on top of the first, whose line is beside it
    edit("LEARNING_RATE", 0.2),  # contradicts the first
    edit("WIDTH", 2),  # a loss
    edit("LEARNING_RATE", 0.15),
    edit("WIDTH", 32),
]
N = len(STEPS)


def ahead(root: Path) -> ToyArena:
    return toy_arena(root, STEPS, train=SLOW, toml=AHEAD)


def check(arena: ToyArena) -> None:
    """Whatever the order: a line of keeps, each on the one before, and every gain of the script in it."""
    events = arena.events()
    log = {row["id"]: row for row in arena.json("log")}
    kept = [e.id for e in events if isinstance(e, Judged) and e.verdict is Verdict.KEEP]
    for before, after in itertools.pairwise(kept):
        assert log[after]["base"] == log[before]["commit"]
    campaign = arena.json("status")["campaign"]
    assert git(arena.root, "rev-parse", f"ralph/{campaign}") == log[kept[-1]]["commit"]
    for number in range(1, N + 1):
        assert git(arena.root, "rev-parse", log[number]["ref"]) == log[number]["commit"]
    text = git(arena.root, "show", f"ralph/{campaign}:train.py")
    assert "WIDTH = 32  #" in text
    assert "LEARNING_RATE = 0.15  #" in text
    ends = Counter((e.id, e.run) for e in events if isinstance(e, RunEnded))
    assert max(ends.values()) == 1
    assert all(row["verdict"] != "invalid" for row in log.values())


def test_lanes_work_side_by_side_and_what_was_thought_ahead_is_carried_over(tmp_path: Path, marked: Left) -> None:
    arena = ahead(tmp_path / "arena")
    done = arena.loop(N)
    assert done.status == 0, done
    check(arena)
    events = arena.events()
    assert {e.lane for e in events if isinstance(e, RunStarted)} == {0, 1}
    assert any(isinstance(e, Rebased) for e in events)
    moved = [e for e in events if isinstance(e, Refused)]
    assert moved
    assert all(e.moved and "both changed the same lines of train.py" in e.reason for e in moved)
    status = arena.json("status")
    assert (status["lanes"], status["verdicts"]["void"]) == (2, 0)
    assert sum(each["judged"] for each in status["staleness"]) == N
    assert any(each["verdicts_behind"] for each in status["staleness"])
    page = (arena.root / "progress.md").read_text()
    assert "of 2 lanes over" in page
    assert "before the latest verdicts were known" in page
    assert not (arena.root / "state" / "trees").exists() or not list((arena.root / "state" / "trees").glob("*-run*"))
    assert git(arena.root, "status", "--porcelain", "--", "train.py") == ""
    assert marked() == []


POINTS = ["rebased-unrecorded:1", "rebased:1", "run_started:5"]


@pytest.mark.slow
@pytest.mark.parametrize("point", [POINTS[0], *(pytest.param(p, marks=pytest.mark.slow) for p in POINTS[1:])])
def test_killed_while_a_candidate_is_carried_over_a_restart_goes_on(point: str, tmp_path: Path, marked: Left) -> None:
    arena = ahead(tmp_path / "arena")
    assert arena.loop(N, RALPH_CRASH_AT=point).status == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while marked() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert marked() == []
    assert arena.loop(N).status == 0
    check(arena)
