"""Nothing of a payload survives it, however it was started, however it ends, whoever dies first."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ralph.adapters import ending, process, shim
from ralph.adapters.leftovers import is_held
from ralph.adapters.process import ExitReason, recorded_exit, spawn
from tests.adapters.keeping import (
    as_supervisor,
    command,
    die,
    end_of,
    is_ready,
    nothing_survives,
    ours,
    payload,
    run,
    until,
)

STUBBORN = (
    "ignore_term",
    "double_fork",
    "clear_all",
    "stopped",
    "hold_pipes",
    "close_lock",
    "threads",
    "flood",
    "storm",
    "wide_storm",
    "everything",
)
LEADER_ENDS = ("double_fork", "clear_all", "hold_pipes", "storm")


pytestmark = pytest.mark.usefixtures("subreaper")


@pytest.mark.parametrize("kind", STUBBORN)
def test_nothing_survives_a_request(kind: str, folder: Path) -> None:
    with nothing_survives(folder):
        result = run(folder, kind, kill="enough")
    assert result.reason in ({ExitReason.KILLED, ExitReason.ENDED} if kind in LEADER_ENDS else {ExitReason.KILLED})


@pytest.mark.parametrize("kind", STUBBORN)
def test_nothing_survives_a_deadline(kind: str, folder: Path) -> None:
    with nothing_survives(folder):
        run(folder, kind, deadline_s=0.3)


@pytest.mark.parametrize("kind", LEADER_ENDS)
def test_nothing_survives_a_normal_end(kind: str, folder: Path) -> None:
    with nothing_survives(folder):
        result = run(folder, kind)
    assert (result.reason, result.status) == (ExitReason.ENDED, 0)
    assert result.stragglers >= 1 or kind == "storm"  # those may all have ended between two looks


@pytest.mark.parametrize("kind", STUBBORN)
def test_nothing_survives_the_supervisor(kind: str, folder: Path) -> None:
    def supervisor() -> None:
        child = spawn(command(folder, payload(kind, folder)))
        until(lambda: is_ready(folder), "ready")
        die(child)

    with nothing_survives(folder, within_s=30):
        os.waitpid(as_supervisor(supervisor), 0)
        until(lambda: recorded_exit(folder), "the record")
    result = recorded_exit(folder)
    assert result is not None
    assert result.reason in ({ExitReason.ORPHANED, ExitReason.ENDED} if kind in LEADER_ENDS else {ExitReason.ORPHANED})
    assert not is_held(folder)


@pytest.mark.parametrize("delay_ms", [0, 0.2, 0.5, 1, 2, 3, 5, 10, 15, 20, 25, 30])
def test_nothing_survives_a_supervisor_that_dies_right_after_the_start(delay_ms: float, folder: Path) -> None:
    def supervisor() -> None:
        child = spawn(command(folder, payload("everything", folder)))
        end = time.monotonic() + delay_ms / 1000
        while time.monotonic() < end:
            pass
        die(child)

    with nothing_survives(folder, within_s=30):
        os.waitpid(as_supervisor(supervisor), 0)
        until(lambda: recorded_exit(folder), "the record")
    result = recorded_exit(folder)
    assert result is not None
    assert result.reason is ExitReason.ORPHANED


@pytest.mark.parametrize("kind", ["kill_shim", "kill_shim_cleared"])
def test_nothing_survives_a_payload_that_kills_its_shim(kind: str, folder: Path) -> None:
    with nothing_survives(folder):
        result = run(folder, kind)
    assert (result.reason, result.detail, result.ok) == (ExitReason.KILLED, "shim died", False)
    assert not is_held(folder)


def test_a_process_whose_first_thread_has_ended_is_killed_all_the_same(folder: Path) -> None:
    run(folder, "headless", kill="enough")
    pid = int((folder / "log.txt").read_text().split()[1])
    assert shim.process_stat(pid) is None


def test_a_neighbour_is_not_hurt_when_a_shim_is_killed(folder: Path) -> None:
    neighbour = spawn(command(folder.with_name("neighbour"), payload("ignore_term", folder.with_name("neighbour"))))
    until(lambda: is_ready(neighbour.folder), "ready")
    before = set(ours(neighbour.folder))
    own = os.fork()  # and neither is a child of ours in our own session
    if own == 0:
        time.sleep(600)
        os._exit(0)
    try:
        with nothing_survives(folder):
            assert run(folder, "kill_shim_cleared").detail == "shim died"
        assert set(ours(neighbour.folder)) == before
        assert os.waitpid(own, os.WNOHANG) == (0, 0)
    finally:
        os.kill(own, signal.SIGKILL)
        os.waitpid(own, 0)
        neighbour.kill("enough")
        with nothing_survives(neighbour.folder):
            end_of(neighbour)


def test_a_record_that_a_payload_has_forged_is_not_believed(folder: Path) -> None:
    with nothing_survives(folder):
        result = run(folder, "forge_exit")
    assert recorded_exit(folder) is not None
    assert (result.reason, result.status) == (ExitReason.KILLED, None)


def test_a_payload_that_stops_its_shim_is_killed_on_request_all_the_same(folder: Path) -> None:
    with nothing_survives(folder):
        assert run(folder, "stop_shim", kill="enough").detail == "enough"


def test_a_payload_that_stops_its_shim_does_not_outlive_its_deadline(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ESCALATE_S", 0.5)
    with nothing_survives(folder):
        assert run(folder, "stop_shim", deadline_s=0.5).detail == "shim died"


def test_an_end_is_told_even_if_the_domain_folder_is_gone(folder: Path) -> None:
    result = end_of(spawn(command(folder, ("sh", "-c", 'mv "$PWD" "$PWD.moved"; exit 3'))))
    assert (result.reason, result.status) == (ExitReason.ENDED, 3)


def test_no_zombie_is_left_of_what_a_long_payload_lets_go(folder: Path) -> None:
    child = spawn(
        command(folder, ("sh", "-c", "for i in 1 2 3 4 5; do (setsid sh -c : &); done; echo ready; sleep 600"))
    )
    until(lambda: is_ready(folder), "ready")
    until(lambda: len(shim.children(child.pid)) == 1, "the shim to reap what it adopted")
    child.kill("enough")
    end_of(child)


def test_children_are_found_without_the_kernels_list_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    try:
        listed = shim.children(os.getpid())
        monkeypatch.setattr(shim, "child_pids", lambda _parent: shim.every_pid())
        assert sorted(shim.children(os.getpid())) == sorted(listed)
        assert pid in [child for child, _ in listed]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_stranger_with_the_same_pid_is_not_signalled() -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    (identity,) = [child for child in shim.children(os.getpid()) if child[0] == pid]
    assert not shim.send((pid, identity[1] - 1), signal.SIGKILL)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    assert shim.send(identity, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not shim.send(identity, signal.SIGKILL)


def test_a_shim_starts_with_few_modules() -> None:
    heavy = {"site", "enum", "re", "typing", "pathlib", "subprocess", "signal", "json", "socket", "contextlib"}
    heavy |= {"array", "collections"}
    program = "import sys; sys.path.append(sys.argv[1]); import shim, meter, ending; print(*sys.modules)"
    line = [sys.executable, "-I", "-S", "-c", program, str(Path(shim.__file__).parent)]
    modules = set(subprocess.run(line, capture_output=True, text=True, check=True).stdout.split())
    assert {"ctypes", "meter", "ending"} <= modules
    assert not heavy & modules


def test_an_end_is_told_in_json() -> None:
    detail = 'it said "no" \\ \n\tü 😀 \udc80 \x00\x7f'
    fields = {"reason": "ended", "detail": detail, "limit": None, "status": -1, "seconds": 0.012345, "kill_ms": 1e-05}
    record = ending.record({**fields})
    told = json.loads(record)
    assert record == json.dumps(told).encode() + b"\n"
    assert told.pop("peak_bytes") >= 0
    assert told == {"schema": 1, **fields}
