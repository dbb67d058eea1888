"""What a supervisor that starts again finds of its predecessor, and how it gets rid of it."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ralph.adapters import leftovers, shim
from ralph.adapters.leftovers import holders, is_held, reap_leftovers, sweep
from ralph.adapters.process import ExitReason, recorded_exit, spawn
from ralph.errors import LeftoverError
from tests.adapters.keeping import (
    as_supervisor,
    command,
    die,
    end_of,
    is_ready,
    nothing_survives,
    open_files,
    ours,
    payload,
    until,
)

TIMEOUT_S = 30.0


pytestmark = pytest.mark.usefixtures("subreaper")


def abandon(folder: Path, kind: str, *more: str, shim_too: bool) -> None:
    """Leave behind what a supervisor leaves when it dies by kill -9, and perhaps its shim before it."""

    def supervisor() -> None:
        child = spawn(command(folder, (*payload(kind, folder), *more)))
        until(lambda: is_ready(folder), "ready")
        if shim_too:
            os.kill(child.pid, signal.SIGKILL)
        die(child)

    os.waitpid(as_supervisor(supervisor), 0)


def test_a_folder_that_nobody_used_holds_nothing(folder: Path) -> None:
    assert reap_leftovers(folder, TIMEOUT_S) == 0
    folder.mkdir()
    assert reap_leftovers(folder, TIMEOUT_S) == 0
    assert not is_held(folder)


def test_a_domain_that_has_ended_holds_nothing(folder: Path) -> None:
    end_of(spawn(command(folder, ("true",))))
    assert not is_held(folder)
    assert reap_leftovers(folder, TIMEOUT_S) == 0


def test_the_lock_is_held_as_long_as_something_lives(folder: Path) -> None:
    child = spawn(command(folder, payload("ignore_term", folder)))
    assert is_held(folder)
    until(lambda: is_ready(folder), "ready")
    assert is_held(folder)
    child.kill("enough")
    end_of(child)
    assert not is_held(folder)


def test_a_shim_that_works_is_let_finish_and_its_record_kept(folder: Path) -> None:
    with nothing_survives(folder):
        abandon(folder, "everything", shim_too=False)
        reap_leftovers(folder, TIMEOUT_S)
    result = recorded_exit(folder)
    assert result is not None
    assert result.reason is ExitReason.ORPHANED


@pytest.mark.parametrize("kind", ["ignore_term", "hold_pipes", "stopped", "flood", "threads", "double_fork"])
def test_holders_of_the_lock_are_killed_when_shim_and_supervisor_are_dead(kind: str, folder: Path) -> None:
    with nothing_survives(folder):
        abandon(folder, kind, "stays", shim_too=True)
        assert is_held(folder)
        assert reap_leftovers(folder, TIMEOUT_S) >= 1
        assert not is_held(folder)
    assert recorded_exit(folder) is None


def test_who_closed_the_lock_is_known_by_the_domains_name_in_its_environment(folder: Path) -> None:
    with nothing_survives(folder):
        abandon(folder, "close_lock", shim_too=True)
        until(lambda: not is_held(folder), "the shim to be dead")
        assert reap_leftovers(folder, TIMEOUT_S) >= 2


def test_who_ended_its_first_thread_is_found_by_another(folder: Path) -> None:
    abandon(folder, "headless", shim_too=True)
    pid = int((folder / "log.txt").read_text().split()[1])
    until(lambda: shim.process_stat(pid) is None or "Z" in str(shim.process_stat(pid)), "the first thread's end")
    assert is_held(folder)
    assert reap_leftovers(folder, TIMEOUT_S) >= 1
    leftovers.bury([(pid, 0)])
    assert shim.process_stat(pid) is None


def test_a_shim_that_was_stopped_is_killed_with_the_rest_when_its_turn_is_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "SHIM_TURN_S", 0.3)
    with nothing_survives(folder):
        abandon(folder, "stop_shim", shim_too=False)
        assert reap_leftovers(folder, TIMEOUT_S) >= 2


def test_another_domain_is_left_alone(folder: Path) -> None:
    other = folder.with_name("domain2")  # begins like the first
    neighbour = spawn(command(other, payload("ignore_term", other)))
    until(lambda: is_ready(other), "ready")
    before = ours(other)
    with nothing_survives(folder):
        abandon(folder, "ignore_term", shim_too=True)
        reap_leftovers(folder, TIMEOUT_S)
    assert ours(other) == before
    neighbour.kill("enough")
    end_of(neighbour)


def test_a_reader_of_the_lock_file_is_no_holder(folder: Path) -> None:
    end_of(spawn(command(folder, ("true",))))
    reader = subprocess.Popen(["tail", "-f", folder / "lock"], stdout=subprocess.DEVNULL)
    try:
        until(lambda: any("lock" in name for name in open_files(reader.pid)), "open")
        assert holders(folder) == []
        assert reap_leftovers(folder, TIMEOUT_S) == 0
        assert reader.poll() is None
    finally:
        reader.kill()
        reader.wait()


def test_a_lock_whose_holder_cannot_be_found_is_an_error(folder: Path) -> None:
    folder.mkdir()
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # by this process, which does not look for itself
        with pytest.raises(LeftoverError, match="out of sight"):
            reap_leftovers(folder, 0.2)


def test_what_does_not_go_is_an_error_that_names_it() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with pytest.raises(LeftoverError, match=rf"{gone.pid} \(gone\)"):
        sweep(lambda: [(gone.pid, 0)], 0.05)


def test_zombies_that_were_adopted_are_buried(folder: Path) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # as git does for its maintenance: out of our session, its parent gone
        os.setsid()
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    adopted = int(os.read(reader, 32))
    os.close(reader)
    os.close(writer)
    until(lambda: (shim.process_stat(adopted) or "Z")[0] == "Z", "its end")
    assert adopted in {child for child, _ in leftovers.orphans(set(), 0)}
    end_of(spawn(command(folder, ("true",))))
    assert shim.process_stat(adopted) is None
