"""kill -9 of the supervisor at every named point and in the middle of runs: nothing is lost, repeated or left."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.events import RunEnded
from tests.arenas import TRAIN, ToyArena, edit, story, toy_arena

Left = Callable[[], list[int]]
STEPS = [edit("LEARNING_RATE", 0.3), edit("WIDTH", 4), edit("LEARNING_RATE", 0.2)]
N = len(STEPS)

QUICK = ["run_ended-unrecorded:4"]
THOROUGH = [
    "briefed:1", "briefed:2", "agent_started:1", "agent_ended-unrecorded:1", "agent_ended:2",
    "committed-unrecorded:1", "committed:1", "run_started:1", "run_started:4",
    "run_ended-unrecorded:1", "run_ended:4", "scored-unrecorded:4", "scored:4", "judged:1", "judged:2",
    "advanced:1", "noted:2", "learned:1", "remembered:2", "settled-unrecorded:1", "settled-unrecorded:2", "settled:2",
    "reported:1", "reported:3",
]  # fmt: skip
POINTS = [*QUICK, *(pytest.param(point, marks=pytest.mark.slow) for point in THOROUGH)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """The story of a supervisor that nobody killed."""
    arena = toy_arena(tmp_path_factory.mktemp("undisturbed"), STEPS)
    assert arena.loop(N).status == 0
    return story(arena.events())


def gone(left: Left, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while left() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not left()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point_a_restart_finishes_and_repeats_nothing(
    point: str, tmp_path: Path, undisturbed: list[dict[str, object]], marked: Left
) -> None:
    arena = toy_arena(tmp_path / "arena", STEPS)
    assert arena.loop(N, RALPH_CRASH_AT=point).status == -signal.SIGKILL
    assert gone(marked), "what the dead supervisor had started is gone by itself"
    ended = {f"{e.id:06d}/run-{e.run}" for e in arena.events() if isinstance(e, RunEnded)}
    before = {name: nonce for name, nonce in arena.nonces().items() if name in ended or point.startswith("run_ended")}
    done = arena.loop(N)
    assert done.status == 0, done
    assert story(arena.events()) == undisturbed
    after = arena.nonces()  # less what was tidied away since
    assert {name: nonce for name, nonce in before.items() if name in after} == {
        n: after[n] for n in before if n in after
    }


def loop_process(arena: ToyArena) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(arena.argv("loop", "--max-experiments", str(N)), stdout=subprocess.DEVNULL)


def sleeping(seconds: float) -> str:
    """A train.py whose runs last."""
    return TRAIN.replace("score =", f"import time; time.sleep({seconds})\nscore =")


@pytest.mark.slow
@pytest.mark.parametrize("every", [17, 5])
def test_killed_after_each_iteration_and_in_the_middle_of_runs_the_ledger_is_the_same(
    every: int, tmp_path: Path, undisturbed: list[dict[str, object]], marked: Left
) -> None:
    """Amnesia: one life and many lives, each `every` events long, tell the same story."""
    arena = toy_arena(tmp_path / "torn", STEPS, train=sleeping(0.4))
    kills = 0
    for events in range(4, 60, every):
        process = loop_process(arena)
        deadline = time.monotonic() + 60
        while process.poll() is None and arena.recorded() < events and time.monotonic() < deadline:
            time.sleep(0.005)
        if process.poll() is None:
            time.sleep(0.15)  # into the middle of what it began
            process.kill()
            kills += 1
        process.wait()
        assert gone(marked)
    assert arena.loop(N).status == 0
    assert kills >= 3
    assert story(arena.events()) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_first_signal_finishes_the_run_in_hand_and_the_second_stops_now(
    tmp_path: Path, number: signal.Signals, marked: Left
) -> None:
    for signals, run_s, most_s in ((1, 1.0, 30.0), (2, 5.0, 4.0)):
        arena = toy_arena(tmp_path / f"{signals}", STEPS, train=sleeping(run_s))
        process = loop_process(arena)
        wait_for_run(arena)
        began = time.monotonic()
        for _ in range(signals):
            process.send_signal(number)
            time.sleep(0.2)
        assert process.wait(timeout=60) == 0
        assert time.monotonic() - began < most_s
        scored = [e for e in arena.events() if isinstance(e, RunEnded)]
        assert len(scored) == (1 if signals == 1 else 0)
        assert arena.json("status")["phase"] == "stopped"
        assert marked() == []


def wait_for_run(arena: ToyArena) -> None:
    deadline = time.monotonic() + 60
    while not arena.nonces() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert arena.nonces(), "no run has begun"


def test_stop_pause_and_resume_from_elsewhere(tmp_path: Path, marked: Left) -> None:
    arena = toy_arena(tmp_path / "arena", [edit("WIDTH", n) for n in range(1, 200)], train=sleeping(0.3))
    process = subprocess.Popen(arena.argv("loop"), stdout=subprocess.DEVNULL)
    wait_for_run(arena)
    assert arena.ralph("pause").status == 0
    wait_for(lambda: arena.json("status")["phase"] == "paused" and not working(arena))
    events = arena.recorded()
    assert arena.json("status")["phase"] == "paused"
    assert arena.recorded() == events, "nothing begins during a pause"
    assert arena.ralph("resume").status == 0
    wait_for(lambda: arena.recorded() > events + 1)
    second = arena.loop(1)
    assert (second.status, "already at work" in second.err) == (3, True), second
    assert arena.ralph("stop").status == 0
    assert process.wait(timeout=60) == 0
    assert arena.json("status")["phase"] == "stopped"
    assert not (arena.root / "state" / "STOP").exists()
    assert marked() == []


def working(arena: ToyArena) -> bool:
    return any(each["phase"] in ("agent", "run", "score") for each in arena.json("status")["in_flight"])


def wait_for(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)
