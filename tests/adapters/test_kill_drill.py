"""Hundreds of kills at random moments, by every way there is; survivors are counted, and must be none."""

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

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

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
ROUNDS = 150


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
    tenth = ordered[len(ordered) * 9 // 10]
    print(  # shown with -s
        f"\n{what}: {len(ordered)} kills, 0 survivors; ms until the last was gone:"
        f" median {statistics.median(ordered):.1f}, 90% {tenth:.1f}, most {ordered[-1]:.1f}",
        file=sys.stderr,
    )


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
    tell("requests", took)


def test_many_dead_supervisors_leave_nothing(hostile: Path) -> None:
    chance, took = random.Random(2), []
    for number in range(ROUNDS):
        kind, folder = KINDS[number % len(KINDS)], hostile / str(number)
        folder.mkdir()

        def supervisor(kind: str = kind, folder: Path = folder, number: int = number) -> None:
            child = spawn(command(folder, argv(kind, folder, level_of(number))))
            pause(600)
            die(child)

        pid = as_supervisor(supervisor)
        pause(chance.uniform(0, 0.08))  # before, amid and after the start
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        took.append(gone_ms(folder))
        assert reap_leftovers(folder, 10) == 0
        assert not is_held(folder)
        assert recorded_exit(folder) or not (folder / "exit.json").exists()
    tell("dead supervisors", took)


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
    tell("dead shims", took)
