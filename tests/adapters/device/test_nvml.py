"""A GPU without its library is a clear state; with it, who is foreign follows from process ids."""

import os
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from ralph.adapters.device.lease import PLACE_VARIABLE
from ralph.adapters.device.nvml import CAPPED, SLOWED, NvmlDevice, Occupant, foreign, unwatched


def there(*pids: int) -> list[Occupant]:
    return [Occupant(pid=pid, bytes=None) for pid in pids]


def pids(found: list[Occupant]) -> list[int]:
    return [each.pid for each in found]


def test_who_is_not_of_the_run_is_foreign() -> None:
    assert pids(foreign(there(10, 11, 99), {10, 11}, set())) == [99]
    assert foreign(there(10, 11), {10, 11}, set()) == []


def test_where_process_ids_are_another_machines_only_those_before_the_run_are_foreign() -> None:
    beyond = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    assert pids(foreign(there(beyond, beyond + 1), {10}, {beyond})) == [beyond]
    assert foreign(there(beyond, os.getpid()), {10}, set()) == [], "a number that two processes share by chance"
    assert pids(foreign(there(beyond, 5), {10}, set(), opens=lambda pid: pid == 5)) == [5]


def test_an_occupant_is_told_by_pid_name_and_size() -> None:
    named = Occupant(pid=os.getpid(), bytes=3 * 2**30).named()
    assert named.startswith(f"pid {os.getpid()} (")
    assert named.endswith(", 3.0 GiB)")
    assert "out of sight" in Occupant(pid=int(Path("/proc/sys/kernel/pid_max").read_text()) + 1, bytes=None).named()


def test_the_reasons_it_looks_for_are_words_that_the_library_knows() -> None:
    for name in (*SLOWED, *CAPPED):
        assert getattr(pynvml, f"nvmlClocksThrottleReason{name}") > 0


def test_importing_the_adapter_does_not_import_the_library() -> None:
    code = "import sys, ralph.adapters.device.nvml; sys.exit('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a driver here")
def test_without_a_driver_it_is_leased_all_the_same_and_every_look_says_why_nothing_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLACE_VARIABLE, str(tmp_path / "devices"))
    device = NvmlDevice(index=0, uuid="", owner=tmp_path, memory_used_bytes=0)
    assert device.lease() == ""
    assert NvmlDevice(index=0, uuid="", owner=tmp_path, memory_used_bytes=0).lease() != ""
    assert device.taken() == ""
    assert device.sample(os.getpid()).unwatched.startswith("NVML: ")
    assert unwatched("cuda:0").startswith("NVML: ")
    assert unwatched("cpu") == ""
