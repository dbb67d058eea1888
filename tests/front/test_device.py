"""Two supervisors and one device: the second waits, says for whom, and goes on; what was seen of the device is shown.

The bounds are such that nothing counts as a disturbance: the machine of a test may be as busy as it likes.
"""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.adapters.device.lease import PLACE_VARIABLE, Lease
from ralph.events import RunEnded
from tests.arenas import ToyArena
from tests.conftest import git
from tests.front.test_gated import gated

Left = Callable[[], list[int]]
WITHIN_S = 60.0


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def on_cpu(root: Path) -> ToyArena:
    arena = gated(root, [])
    toml = root / "arena.toml"
    bounds = "\n[device]\ndisturbed_share = 1\nthrottled_share = 1\n"
    toml.write_text(toml.read_text().replace('device = "none"', 'device = "cpu"') + bounds)
    git(root, "commit", "-qam", "on the CPU")
    arena.environment[PLACE_VARIABLE] = str(root.parent / "devices")
    return arena


@pytest.mark.slow
def test_a_loop_whose_device_another_has_says_so_on_its_first_line_and_goes_on(hostile: Path, marked: Left) -> None:
    arena = on_cpu(hostile / "two")
    place = hostile / "devices"
    place.mkdir(mode=0o700)
    other = Lease(place, [f"cpu{core:04d}" for core in os.sched_getaffinity(0)], hostile / "one")
    assert other.take() == ""
    environment = {**os.environ, **arena.environment}
    with subprocess.Popen(
        arena.argv("loop", "--max-experiments", "0"), env=environment, stdout=subprocess.PIPE, text=True
    ) as loop:
        page = arena.root / "progress.md"
        wait_until(lambda: "waits for the CPU, which the supervisor with pid" in page.read_text().splitlines()[0])
        first = page.read_text().splitlines()[0]
        assert f"pid {os.getpid()} in " in first
        status = arena.json("status")
        assert f"pid {os.getpid()} in {hostile / 'one'}" in status["lane_waits"]
        assert "waiting" in arena.ralph("status").out
        assert not list((arena.root / "state").rglob("times.json")), "the run has not begun"
        other.release()
        out, _ = loop.communicate(timeout=WITHIN_S)
    assert loop.returncode == 0
    assert "waiting for the CPU" in out
    assert arena.json("status")["lane_waits"] == ""
    run = next(event for event in arena.events() if isinstance(event, RunEnded))
    assert run.record["device_watched_s"] is not None
    shown = arena.json("show", "0")["runs"][0]
    assert shown["disturbed"] == ""
    assert shown["device"]["watched_s"] == run.record["device_watched_s"]
    assert "device" in arena.ralph("show", "0").out
    assert Lease(place, [f"cpu{core:04d}" for core in os.sched_getaffinity(0)], hostile).take() == ""
    assert marked() == []
