"""The kernel's sums: what a run's whole tree computed, and how long it waited for others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ralph.adapters.device.cpu import CpuDevice, busy_of
from ralph.adapters.device.lease import PLACE_VARIABLE
from ralph.core.disturbance import Bounds, Tally

BURN = "import time\nwhile time.process_time() < {s}: pass"
FAMILY = f"""\
import os, subprocess, sys, time
subprocess.run([sys.executable, "-c", {BURN.format(s=0.3)!r}])
child = subprocess.Popen([sys.executable, "-c", {BURN.format(s=0.3)!r} + "\\nprint('done', flush=True)\\ninput()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print("burnt", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CpuDevice:
    monkeypatch.setenv(PLACE_VARIABLE, str(tmp_path / "devices"))
    return CpuDevice(tmp_path)


def test_a_run_is_all_of_its_processes_those_that_are_gone_included(device: CpuDevice) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", FAMILY], **pipes) as run:  # type: ignore[call-overload]
        assert run.stdout.readline() == b"burnt\n"
        sample = device.sample(run.pid)
        assert sample.own_s is not None
        assert 0.55 < sample.own_s < 30  # two children with 0.3 s each and three interpreters
        assert sample.busy_s is not None
        assert sample.busy_s >= 0.5
        run.communicate(b"")


def test_without_a_run_there_is_no_share_to_tell(device: CpuDevice) -> None:
    sample = device.sample(None)
    assert sample.own_s is None
    assert sample.cores == len(os.sched_getaffinity(0))


def test_a_run_that_is_gone_computes_nothing(device: CpuDevice) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert device.sample(child.pid).own_s == 0


def test_only_the_cores_that_a_run_may_use_count() -> None:
    stat = "cpu  300 0 0 0\ncpu0 100 0 0 900\ncpu1 200 0 0 800\nintr 5\n"
    assert busy_of(stat, {0})[0] * 2 == busy_of(stat, {1})[0]
    assert busy_of(stat, {7}) == (0, 0)


def test_the_lease_is_by_core(device: CpuDevice, tmp_path: Path) -> None:
    assert device.lease() == ""
    other = CpuDevice(tmp_path)
    assert f"pid {os.getpid()}" in other.lease()
    device.release()
    assert other.lease() == ""
    assert device.taken() == ""


@pytest.mark.slow
def test_beside_a_hog_on_its_only_core_a_run_is_disturbed(device: CpuDevice) -> None:
    core = {min(os.sched_getaffinity(0))}
    burn = [sys.executable, "-c", BURN.format(s=3.0)]
    pair = [subprocess.Popen(burn, preexec_fn=lambda: os.sched_setaffinity(0, core)) for _ in range(2)]
    device._cores = core
    seen = Tally()
    seen.add(device.sample(pair[0].pid))
    with pytest.raises(subprocess.TimeoutExpired):
        pair[0].wait(2.5)
    seen.add(device.sample(pair[0].pid))
    for each in pair:
        each.kill()
        each.wait()
    assert seen.others_share is not None
    assert seen.others_share > 0.5
    assert "others took" in seen.disturbed(Bounds())
