"""A file layer that fails once, at any write of the supervisor's: the loop ends in order, and nothing done is lost.

A few of the calls by default; RALPH_DRILL_EVERY=1 in the environment takes every one of them, which takes hours.
"""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.events import Judged, RunEnded
from ralph.model import Outcome
from tests.arenas import ToyArena, edit, toy_arena

Left = Callable[[], list[int]]
STEPS = [[edit("LEARNING_RATE", 0.3)] * 3, [edit("WIDTH", 4)] * 3]
N = len(STEPS)
EVERY = int(os.environ.get("RALPH_DRILL_EVERY", "61"))
FIRST = int(os.environ.get("RALPH_DRILL_FIRST", "3"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(36_000 if EVERY < 10 else 900),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for the layer that fails"),
]


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer, compiled."""
    made = tmp_path_factory.mktemp("layer") / "failing.so"
    source = Path(__file__).with_name("failing.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(made), str(source), "-ldl"], check=True)
    return made


def loop(arena: ToyArena, layer: Path, at: int, number: int) -> tuple[int, int]:
    """Exit status of a loop whose call `at` failed, and how many calls there were."""
    count = arena.root.with_suffix(".count")
    env = {"LD_PRELOAD": str(layer), "FAULT_BELOW": str(arena.root), "FAULT_COUNT": str(count)}
    done = arena.loop(N, **env, FAULT_AT=str(at), FAULT_ERRNO=str(number))
    assert "Traceback" not in done.out + done.err, f"call {at}: {done.err}"
    return done.status, int(count.read_text())


def verdicts(arena: ToyArena) -> list[tuple[int, str]]:
    return [(event.id, str(event.verdict)) for event in arena.events() if isinstance(event, Judged)]


def finished(arena: ToyArena) -> dict[str, bytes]:
    """Runs whose good end is on record, with their random numbers."""
    if not arena.recorded():
        return {}
    good = {f"{e.id:06d}/run-{e.run}" for e in arena.events() if isinstance(e, RunEnded) and e.outcome is Outcome.OK}
    return {name: nonce for name, nonce in arena.nonces().items() if name in good}


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_write_that_fails_anywhere_costs_nothing_that_was_done(
    tmp_path: Path, layer: Path, number: int, marked: Left
) -> None:
    plain = toy_arena(tmp_path / "undisturbed", STEPS)
    status, calls = loop(plain, layer, 0, number)
    assert status == 0
    assert calls > 100
    ends = []
    for at in range(FIRST, calls + 1, EVERY):
        arena = toy_arena(tmp_path / str(at), STEPS)
        status, _ = loop(arena, layer, at, number)
        ends.append(status)
        assert status in (0, 3), f"call {at} of {calls}"
        assert marked() == []
        before, runs = verdicts(arena) if arena.recorded() else [], finished(arena)
        assert arena.loop(N).status == 0, f"after call {at} of {calls}"
        assert verdicts(arena)[: len(before)] == before, f"call {at} of {calls}"
        assert verdicts(arena) == verdicts(plain), f"call {at} of {calls}"
        after = arena.nonces()
        assert {name: after.get(name, nonce) for name, nonce in runs.items()} == runs, f"call {at} of {calls}"
        shutil.rmtree(arena.root)
    print(f"\n{calls} calls, {len(ends)} made to fail, {ends.count(3)} times parked")  # shown with -s
