"""Campaigns that are killed again and again at random moments: what is lost, repeated or torn, how fast a restart is.

How many kills and a file for the numbers are in the environment, for `python -m drills.crashes`.
"""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ralph.adapters.ledger_health import examine
from ralph.events import RunEnded, SupervisorStarted
from tests.arenas import ToyArena, edit, story, toy_arena
from tests.conftest import git

Left = Callable[[], list[int]]
STEPS = [edit("LEARNING_RATE", 0.5 - 0.04 * n) if n % 2 else edit("WIDTH", 9 + n) for n in range(10)]
KILLS = int(os.environ.get("RALPH_DRILL_ROUNDS", "40"))
MOST_S = 2.0  # from a start to the kill
SLOWEST_S = 60.0  # a start that takes longer is a failure
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 8 * KILLS)]


@dataclass(kw_only=True)
class Tally:
    """What all kills together did."""

    kills: int = 0
    other: int = 0
    repeated: int = 0
    torn: int = 0
    starts_s: list[float] = field(default_factory=list)

    def row(self) -> dict[str, int | float]:
        ordered = sorted(self.starts_s)
        return {
            "kills": self.kills,
            "other verdicts": self.other,
            "runs repeated": self.repeated,
            "torn files": self.torn,
            "restarts timed": len(ordered),
            "median_s": round(statistics.median(ordered), 2),
            "p99_s": round(ordered[len(ordered) * 99 // 100], 2),
            "most_s": round(ordered[-1], 2),
        }


def starts(arena: ToyArena) -> int:
    """How often a supervisor has said that it goes on."""
    return sum(isinstance(event, SupervisorStarted) for event in arena.events()) if arena.recorded() else 0


def life(arena: ToyArena, seconds: float, tally: Tally) -> bool:
    """One supervisor, killed after so long; whether it came to its end before.

    Every other one is timed, and its time counts from when it is at work: else slow starts would never be seen.
    """
    timed = tally.kills % 2 == 1
    before, lines, begin = starts(arena), arena.recorded(), time.monotonic()
    process = subprocess.Popen(
        arena.argv("loop", "--max-experiments", str(len(STEPS))),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **arena.environment},
    )
    began = False
    ends = begin + (SLOWEST_S if timed else seconds)
    while process.poll() is None and time.monotonic() < ends:
        if timed and not began and arena.recorded() > lines and starts(arena) > before:
            began = True
            ends = time.monotonic() + seconds
            if lines:
                tally.starts_s.append(time.monotonic() - begin)
        time.sleep(0.005)
    assert began or not timed or process.poll() is not None, f"no restart within {SLOWEST_S} s"
    process.kill()
    if process.wait() == 0:
        return True
    assert process.returncode == -signal.SIGKILL
    tally.kills += 1
    return False


def ended_runs(arena: ToyArena) -> dict[str, bytes]:
    """The random numbers of runs whose end is on record."""
    names = (
        {f"{e.id:06d}/run-{e.run}" for e in arena.events() if isinstance(e, RunEnded)} if arena.recorded() else set()
    )
    return {name: nonce for name, nonce in arena.nonces().items() if name in names}


def torn(arena: ToyArena) -> int:
    """Files of ours that cannot be read as what they are."""
    state = arena.root / "state"
    health = examine(state / "ledger.jsonl", state / "experiments")
    bad = int(health.damage is not None or health.torn > 0)
    for path in state.rglob("*.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            bad += 1
        except FileNotFoundError:
            continue  # tidied meanwhile
    return bad


def test_no_kill_at_any_moment_loses_repeats_or_tears_anything(tmp_path: Path, marked: Left) -> None:
    chance, tally = random.Random(4), Tally()
    plain = toy_arena(tmp_path / "undisturbed", STEPS)
    assert plain.loop(len(STEPS)).status == 0
    undisturbed = story(plain.events())
    campaign = 0
    while tally.kills < KILLS:
        campaign += 1
        arena = toy_arena(tmp_path / str(campaign), STEPS)
        stands: dict[str, bytes] = {}
        while not life(arena, chance.uniform(0.05, MOST_S), tally) and tally.kills < KILLS:
            stands |= ended_runs(arena)
        while marked():
            time.sleep(0.02)
        assert arena.loop(len(STEPS)).status == 0
        tally.other += story(arena.events()) != undisturbed
        after = arena.nonces()  # less what was tidied away
        tally.repeated += sum(after.get(name, nonce) != nonce for name, nonce in stands.items())
        tally.torn += torn(arena)
        git(arena.root, "fsck", "--no-dangling")
        if report := os.environ.get("RALPH_DRILL_REPORT"):
            Path(report).write_text(json.dumps(tally.row()))
    print(f"\n{tally.row()}", file=sys.stderr)  # shown with -s
    assert (tally.other, tally.repeated, tally.torn) == (0, 0, 0)
