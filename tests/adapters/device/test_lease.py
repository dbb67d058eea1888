"""One run at a time on a device, across supervisors, whatever becomes of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ralph.adapters.device.lease import PLACE_VARIABLE, Lease, lease_place
from ralph.errors import DeviceError

HOLDER = """\
import pathlib, sys
from ralph.adapters.device.lease import Lease
place, owner, *names = sys.argv[1:]
lease = Lease(pathlib.Path(place), names, pathlib.Path(owner))
print(lease.take() or "taken", flush=True)
sys.stdin.read()
"""


def hold(place: Path, owner: Path, *names: str) -> "subprocess.Popen[str]":
    """A second supervisor with these locks, in a process of its own."""
    argv = [sys.executable, "-c", HOLDER, str(place), str(owner), *names]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    return process


def test_a_taken_device_names_the_process_and_the_folder_that_have_it(hostile: Path) -> None:
    with hold(hostile, hostile / "one", "gpu-1") as other:
        waiting = Lease(hostile, ["gpu-1"], hostile / "two")
        said = waiting.take()
        assert said == f"the supervisor with pid {other.pid} in {hostile / 'one'} has"
        other.communicate("")
    assert waiting.take() == ""


def test_kill_9_of_its_supervisor_gives_a_device_back(tmp_path: Path) -> None:
    with hold(tmp_path, tmp_path, "gpu-1") as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert Lease(tmp_path, ["gpu-1"], tmp_path).take() == ""


def test_a_release_gives_it_back_and_a_second_take_changes_nothing(tmp_path: Path) -> None:
    one, two = Lease(tmp_path, ["gpu-1"], tmp_path / "a"), Lease(tmp_path, ["gpu-1"], tmp_path / "b")
    assert (one.take(), one.take()) == ("", "")
    assert f"pid {os.getpid()} in {tmp_path / 'a'}" in two.take()
    one.release()
    one.release()
    assert two.take() == ""


def test_all_or_none_so_that_nobody_sits_on_half_of_what_another_wants(tmp_path: Path) -> None:
    one = Lease(tmp_path, ["cpu2", "cpu3"], tmp_path)
    two = Lease(tmp_path, ["cpu1", "cpu2"], tmp_path)
    assert one.take() == ""
    assert two.take() != ""
    two.release()
    assert Lease(tmp_path, ["cpu1"], tmp_path).take() == ""


def test_who_gives_a_device_back_has_it_again_only_after_the_one_that_waits(tmp_path: Path) -> None:
    one, two = Lease(tmp_path, ["gpu-1"], tmp_path / "one"), Lease(tmp_path, ["gpu-1"], tmp_path / "two")
    assert one.take() == ""
    assert two.take() != ""
    one.release()
    assert one.take() == f"the supervisor with pid {os.getpid()} in {tmp_path / 'two'} is the next to have"
    assert two.take() == ""
    assert one.take().endswith("two has")
    two.release()
    assert one.take() == ""


def test_who_no_longer_waits_is_in_nobodys_way(tmp_path: Path) -> None:
    one, two = Lease(tmp_path, ["gpu-1"], tmp_path / "one"), Lease(tmp_path, ["gpu-1"], tmp_path / "two")
    assert one.take() == ""
    assert two.take() != ""
    two.release()
    one.release()
    assert one.take() == ""


def test_cores_of_its_own_are_no_business_of_another(tmp_path: Path) -> None:
    one, two = Lease(tmp_path, ["cpu0", "cpu1"], tmp_path), Lease(tmp_path, ["cpu2"], tmp_path)
    assert (one.take(), two.take()) == ("", "")


def test_a_lock_file_that_somebody_cleaned_away_is_made_anew(tmp_path: Path) -> None:
    lease = Lease(tmp_path, ["gpu-1"], tmp_path)
    assert lease.take() == ""
    lease.release()
    (tmp_path / "gpu-1.lock").unlink()
    assert lease.take() == ""
    assert Lease(tmp_path, ["gpu-1"], tmp_path).take() != ""


def test_children_do_not_inherit_a_lease(tmp_path: Path) -> None:
    lease = Lease(tmp_path, ["gpu-1"], tmp_path)
    lease.take()
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    lease.release()
    assert Lease(tmp_path, ["gpu-1"], tmp_path).take() == ""
    child.communicate(b"")


def test_the_place_is_private_and_one_that_is_not_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACE_VARIABLE, str(tmp_path / "own"))
    assert lease_place().stat().st_mode & 0o777 == 0o700
    (tmp_path / "own").chmod(0o777)
    with pytest.raises(DeviceError, match="only you can write to"):
        lease_place()
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv(PLACE_VARIABLE, str(tmp_path / "link"))
    with pytest.raises(DeviceError, match="only you can write to"):
        lease_place()
