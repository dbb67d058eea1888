"""Hundreds of kills at random moments, by every way there is; survivors are counted, and must be none.

How many of each and a file for the numbers are in the environment, for `python -m drills.survivors`.
"""

import json
import os
import random
import select
import signal
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from ralph.adapters.leftovers import is_held, reap_leftovers
from ralph.adapters.process import become_subreaper, recorded_exit, spawn
from ralph.adapters.sandbox import Policy, SandboxLevel, reached, wrap
from tests.adapters.keeping import as_supervisor, command, die, end_of, is_ready, ours, payload, until

KINDS = (
    "everything",
    "clear_all",
    "storm",
    "wide_storm",
    "stopped",
    "close_lock",
    "threads",
    "hold_pipes",
    "ignore_term",
)
ROUNDS = int(os.environ.get("RALPH_DRILL_ROUNDS", "150"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 4 * ROUNDS)]


@pytest.fixture(autouse=True)
def _subreaper() -> None:
    become_subreaper()


def argv(kind: str, folder: Path, level: SandboxLevel) -> tuple[str, ...]:
    return wrap(level, Policy(read_only=(Path(__file__).parent,)), payload(kind, folder))


def level_of(number: int) -> SandboxLevel:
    return reached(SandboxLevel.BWRAP).level if number % 3 == 0 else SandboxLevel.NONE


def gone_ms(folder: Path, limit_s: float = 20.0) -> float:
    """Milliseconds until nothing of the folder lives; fails if that never comes."""
    begin = time.monotonic()
    while left := ours(folder):
        if time.monotonic() - begin > limit_s:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            pytest.fail(f"survivors: {left}")
    return (time.monotonic() - begin) * 1000


def pause(seconds: float) -> None:
    select.select([], [], [], seconds)


def tell(what: str, values_ms: list[float]) -> None:
    ordered = sorted(values_ms)
    row = {
        "ended by": what,
        "kills": len(ordered),
        "survivors": 0,
        "median_ms": round(statistics.median(ordered), 1),
        "p99_ms": round(ordered[len(ordered) * 99 // 100], 1),
        "most_ms": round(ordered[-1], 1),
    }
    print(f"\n{row}", file=sys.stderr)  # shown with -s
    if report := os.environ.get("RALPH_DRILL_REPORT"):
        with Path(report).open("a") as file:
            file.write(json.dumps(row) + "\n")


def test_many_requests_leave_nothing(hostile: Path) -> None:
    chance, took = random.Random(1), []
    for number in range(ROUNDS):
        kind, folder = KINDS[number % len(KINDS)], hostile / str(number)
        folder.mkdir()
        child = spawn(command(folder, argv(kind, folder, level_of(number))))
        if number % 2:
            until(partial(is_ready, folder), "ready")
        else:
            pause(chance.uniform(0, 0.06))
        child.kill("drill")
        took.append(end_of(child).kill_ms)
        assert not ours(folder), "survivors"
        assert recorded_exit(folder)
    tell("a request", took)


@pytest.mark.parametrize(("what", "within_s"), [("", 0.08), (", 5 ms after the spawn at most", 0.005)])
def test_many_dead_supervisors_leave_nothing(hostile: Path, what: str, within_s: float) -> None:
    chance, took = random.Random(2), []
    for number in range(ROUNDS):
        kind, folder = KINDS[number % len(KINDS)], hostile / str(number)
        folder.mkdir()

        begun, begins = os.pipe()

        def supervisor(
            kind: str = kind, folder: Path = folder, number: int = number, begins: int = begins, begun: int = begun
        ) -> None:
            os.close(begun)
            order = command(folder, argv(kind, folder, level_of(number)))
            os.write(begins, b"x")
            child = spawn(order)
            pause(600)
            die(child)

        pid = as_supervisor(supervisor)
        os.close(begins)
        os.read(begun, 1)
        os.close(begun)
        pause(chance.uniform(0, within_s))  # before, amid and after the start
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        took.append(gone_ms(folder))
        assert reap_leftovers(folder, 10) == 0
        assert not is_held(folder)
        assert recorded_exit(folder) or not (folder / "exit.json").exists()
    tell(f"kill -9 of the supervisor{what}", took)


def test_many_dead_shims_leave_nothing(hostile: Path) -> None:
    chance, took = random.Random(3), []
    for number in range(ROUNDS):
        kind, folder = KINDS[number % len(KINDS)], hostile / str(number)
        folder.mkdir()
        child = spawn(command(folder, argv(kind, folder, level_of(number))))
        pause(chance.uniform(0, 0.08))
        os.kill(child.pid, signal.SIGKILL)
        begin = time.monotonic()
        result = end_of(child)
        took.append((time.monotonic() - begin) * 1000)
        assert not ours(folder), "survivors"
        assert result.detail == "shim died" or result == recorded_exit(folder)
    tell("kill -9 of the keeper", took)
