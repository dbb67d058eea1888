"""A lost terminal, a closed pipe, a machine that sleeps: the loop goes on."""

import os
import pty
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.events import Judged, RunEnded, StopRequested
from ralph.model import Outcome, Verdict
from tests.arenas import TRAIN, ToyArena, edit, toy_arena

Left = Callable[[], list[int]]
STEPS = [edit("WIDTH", n) for n in range(9, 60)]
SLOW_TRAIN = TRAIN.replace("score =", "import time; time.sleep(0.5)\nscore =")
ROOT = Path(__file__).resolve().parents[2]


def wait_for(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def judged(arena: ToyArena) -> int:
    return sum(isinstance(e, Judged) for e in arena.events())


def test_a_terminal_that_is_lost_is_not_death_and_no_wish(tmp_path: Path, marked: Left) -> None:
    """The kernel sends SIGHUP to its foreground processes, and what they print then fails with EIO."""
    arena = toy_arena(tmp_path / "arena", STEPS, train=SLOW_TRAIN)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(arena.argv()[0], arena.argv("loop", "--max-experiments", "1"), {**os.environ, **arena.environment})
    wait_for(lambda: bool(arena.nonces()))
    before = judged(arena)
    os.close(terminal)
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: judged(arena) > before)
    assert not any(isinstance(e, StopRequested) for e in arena.events())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert judged(arena) == 2
    assert arena.json("status")["reason"] == "1 experiment is done"
    assert marked() == []


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_any_more_changes_neither_course_nor_exit_status(tmp_path: Path, marked: Left) -> None:
    arena = toy_arena(tmp_path / "arena", STEPS)
    loop = subprocess.Popen(
        arena.argv("loop", "--max-experiments", "2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert loop.stdout is not None
    assert loop.stderr is not None
    loop.stdout.readline()
    loop.stdout.close()
    assert loop.stderr.read() == ""
    assert loop.wait(timeout=60) == 0
    loop.stderr.close()
    assert judged(arena) == 3
    assert marked() == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None or shutil.which("make") is None, reason="needs tmux and make")
@pytest.mark.parametrize("lost", ["kill-server", "kill-pane", "kill -9 of the server"])
def test_make_loop_outlives_its_tmux(tmp_path: Path, lost: str, marked: Left) -> None:
    """By the repository's own Makefile: make itself gets the SIGHUP as well, and waits for the loop."""
    arena = toy_arena(tmp_path / "arena", STEPS, train=SLOW_TRAIN)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".ci").mkdir()
    for name in ("pyproject.toml", ".ci/constraints.txt", ".venv/ready"):  # in this order: the environment is ready
        (tmp_path / name).touch()
    python = tmp_path / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nshift 2\nexec {" ".join(arena.argv())} "$@"\n')
    python.chmod(0o755)
    environment = {**os.environ, **arena.environment, "TMUX_TMPDIR": str(tmp_path), "TERM": "xterm"}

    def tmux(*words: str) -> str:
        argv = ["tmux", "-L", "ralph", "-f", "/dev/null", *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    make = f"make -f {ROOT}/Makefile loop ARGS='--max-experiments 2'"
    tmux("new-session", "-d", "-s", "night", "-c", str(tmp_path), make)
    server = int(tmux("display-message", "-p", "#{pid}"))
    wait_for(lambda: bool(arena.nonces()))
    before = judged(arena)
    if lost.startswith("kill -9"):
        os.kill(server, signal.SIGKILL)
    else:
        tmux(lost)
    wait_for(lambda: judged(arena) > before)
    wait_for(lambda: marked() == [])
    assert arena.json("status")["reason"] == "2 experiments are done"
    assert judged(arena) == 3


@pytest.mark.slow
def test_a_machine_that_slept_voids_the_run_in_flight_and_a_jump_of_the_clock_does_not(
    tmp_path: Path, marked: Left
) -> None:
    """By the drill's clock: its file holds the jump of the wall clock, then the seconds of sleep."""
    arena = toy_arena(tmp_path / "arena", STEPS, train=SLOW_TRAIN)
    shift = tmp_path / "shift"
    shift.write_text("0 0")
    assert arena.loop(0, RALPH_CLOCK_SHIFT=str(shift)).status == 0
    environment = {**os.environ, **arena.environment, "RALPH_CLOCK_SHIFT": str(shift)}
    loop = subprocess.Popen(arena.argv("loop", "--max-experiments", "3"), env=environment, stdout=subprocess.DEVNULL)
    for id_, words in ((1, "0 7230"), (2, "86400 7230"), (3, "-86400 7230")):
        nonce = arena.root / f"state/experiments/{id_:06d}/run-1/out/nonce"
        wait_for(nonce.exists)
        shift.write_text(words)
    assert loop.wait(timeout=60) == 0
    runs = [e for e in arena.events() if isinstance(e, RunEnded) and e.id]
    assert [e.reason for e in runs if e.outcome is not Outcome.OK] == ["the machine slept for 2 h 0 min during the run"]
    assert (runs[0].id, runs[0].outcome, runs[1].id, runs[1].outcome) == (1, Outcome.VOID, 1, Outcome.OK)
    assert all(0.4 < e.seconds < 30 for e in runs)
    assert Verdict.VOID not in [e.verdict for e in arena.events() if isinstance(e, Judged)]
    assert marked() == []
