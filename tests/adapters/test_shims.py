"""A shim in reserve is one like any other: it knows nothing before its orders, serves one payload, and is gone."""

import os
import signal
import sys
from pathlib import Path

import pytest

from ralph.adapters import shim
from ralph.adapters.process import ExitReason, spawn
from ralph.adapters.shims import ours, reserve
from tests.adapters.keeping import (
    as_supervisor,
    command,
    die,
    end_of,
    is_ready,
    living,
    nothing_survives,
    open_files,
    payload,
    run,
    until,
)

pytestmark = pytest.mark.usefixtures("subreaper")


def only_one() -> int:
    """The shim in reserve, while nothing else is at work."""
    (pid,) = ours
    return pid


def test_the_one_in_reserve_serves_and_the_next_is_started_meanwhile(folder: Path) -> None:
    with reserve.kept():
        waiting = only_one()
        child = spawn(command(folder, ("sh", "-c", "echo ready; read line")))
        assert child.pid == waiting
        assert len(ours - {waiting}) == 1
        with nothing_survives(folder):
            assert end_of(child).reason is ExitReason.ENDED
    assert not ours


def test_one_that_was_killed_meanwhile_is_replaced(folder: Path) -> None:
    with reserve.kept():
        killed = only_one()
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in living(), "its end")
        assert run(folder, "double_fork").status == 0
    assert not ours


def opened(pid: int) -> set[str]:
    """What kinds of files a process has open."""
    return {name.partition(":")[0] for name in open_files(pid)}


def test_it_has_no_file_of_anybodys_open_and_no_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789")
    folder.mkdir()
    with (folder / "secret").open("w") as file, reserve.kept():
        os.set_inheritable(file.fileno(), True)
        pid = only_one()
        until(lambda: opened(pid) == {"/dev/null", "socket"}, "its start, after which nothing else is open")
        assert b"SOME_API_KEY" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("number", [3, 4, 5, 6, 9, 300])
def test_a_payload_inherits_under_the_promised_number_and_nothing_else(number: int, folder: Path) -> None:
    """Also where that is one which the shim has for itself."""

    def supervisor() -> None:
        with reserve.kept():
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)  # whatever was there in this copy of the process
            program = (
                f"import os; print('fds', os.readlink('/proc/self/fd/{number}'), len(os.listdir('/proc/self/fd')))"
            )
            child = spawn(command(folder, (sys.executable, "-I", "-S", "-c", program), pass_fds=(number,)))
            assert end_of(child).ok

    _, status = os.waitpid(as_supervisor(supervisor), 0)
    assert status == 0
    # standard input, output and error, the promised one, the lock, and the folder that was listed
    assert (folder / "log.txt").read_text() == "fds /dev/null 6\n"


def test_it_ends_with_its_supervisor(folder: Path) -> None:
    folder.mkdir()

    def supervisor() -> None:
        with reserve.kept():
            (folder / "pid").write_text(str(only_one()))
            die(None)  # type: ignore[arg-type]

    os.waitpid(as_supervisor(supervisor), 0)
    pid = int((folder / "pid").read_text())
    until(lambda: (stat := shim.process_stat(pid)) is None or stat[0] in "ZX", "its end")


@pytest.mark.parametrize("delay_ms", [0, 1, 3, 10])
def test_nothing_survives_a_supervisor_that_dies_right_after_the_orders(delay_ms: float, folder: Path) -> None:
    def supervisor() -> None:
        with reserve.kept():
            child = spawn(command(folder, payload("everything", folder)))
            signal.setitimer(signal.ITIMER_REAL, max(1e-6, delay_ms / 1000))
            signal.signal(signal.SIGALRM, lambda *_: die(child))
            signal.pause()

    with nothing_survives(folder, within_s=30):
        os.waitpid(as_supervisor(supervisor), 0)
        until(lambda: (folder / shim.EXIT_NAME).exists(), "the record")


def test_an_interrupt_from_the_terminal_does_not_reach_it(folder: Path) -> None:
    with reserve.kept():
        pid = only_one()
        os.kill(pid, signal.SIGINT)
        child = spawn(command(folder, ("sh", "-c", "echo ready")))
        assert child.pid == pid
        until(lambda: is_ready(folder), "ready")
        assert end_of(child).ok
