"""`ralph service` and the loop under a service manager: a socket of ours, and a real user manager."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ralph.events import Judged, RunEnded, Scored, StopRequested
from tests.arenas import TOML, TRAIN, ToyArena, edit, toy_arena
from tests.front.user_manager import UserManager, missing, user_manager

Left = Callable[[], list[int]]
STEPS = [edit("WIDTH", n) for n in range(9, 60)]
SLOW_TRAIN = TRAIN.replace("score =", "import time; time.sleep(2)\nscore =")
TELLS = {
    "write": {
        "train.py": TRAIN + "import sys\nsys.exit('NOTIFY_SOCKET' in os.environ or 'WATCHDOG_USEC' in os.environ)"
    }
}


def wait_for(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


# --- the notifications


class Ear:
    """A manager's socket with somebody who reads it all the time, since its queue is short."""

    def __init__(self, path: Path) -> None:
        self.lines: list[str] = []
        self.path, self._socket = path, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(65536):
            self.lines += data.decode().splitlines()

    def close(self) -> None:
        self._socket.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    with contextlib.closing(Ear(tmp_path / "notify")) as made:
        yield made


def test_a_manager_hears_ready_the_first_line_signs_of_life_and_the_end(tmp_path: Path, ear: Ear, marked: Left) -> None:
    """And what it is told by is out of reach for agents and runs."""
    arena = toy_arena(tmp_path / "arena", [TELLS])
    done = arena.loop(1, NOTIFY_SOCKET=str(ear.path), WATCHDOG_USEC="60000000")
    assert done.status == 0, done
    lines = ear.lines
    assert lines.count("READY=1") == lines.count("STOPPING=1") == 1
    assert lines.index("READY=1") < 4, "after the opening of the campaign, and its status"
    assert lines.index("STOPPING=1") > len(lines) - 4
    statuses = [line for line in lines if line.startswith("STATUS=")]
    assert any("is thinking about experiment 1" in line for line in statuses)
    assert statuses[-1].startswith("STATUS=**stopped**")
    assert lines.count("WATCHDOG=1") >= 8
    assert [e.outcome for e in arena.events() if isinstance(e, RunEnded) and e.id == 1] == ["ok"], "it saw no variable"
    assert marked() == []


def test_signs_of_life_come_from_the_loops_own_turns_only(tmp_path: Path, ear: Ear, marked: Left) -> None:
    """A loop that is stopped gives none; while it waits for a long run it does."""
    arena = toy_arena(tmp_path / "arena", STEPS, train=TRAIN.replace("score =", "import time; time.sleep(60)\nscore ="))
    environment = {**os.environ, **arena.environment, "NOTIFY_SOCKET": str(ear.path), "WATCHDOG_USEC": "600000"}
    loop = subprocess.Popen(arena.argv("loop"), env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: bool(arena.nonces()))
        for _ in range(2):
            ear.lines.clear()
            wait_for(lambda: "WATCHDOG=1" in ear.lines, 10.0)
        loop.send_signal(signal.SIGSTOP)
        wait_for(lambda: Path(f"/proc/{loop.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        stopped, count = time.monotonic(), len(ear.lines)
        wait_for(lambda: time.monotonic() > stopped + 1.5)  # five times what it took before
        assert len(ear.lines) <= count + 2, "what was under way"
    finally:
        loop.send_signal(signal.SIGCONT)
        loop.send_signal(signal.SIGTERM)
        wait_for(lambda: any(isinstance(e, StopRequested) for e in arena.events()))
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(timeout=60) == 0
    assert marked() == []


# --- the commands


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """A home without a user manager."""
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": "", "XDG_RUNTIME_DIR": str(tmp_path / "none")}


def files(home: dict[str, str]) -> list[Path]:
    return sorted(p for p in Path(home["HOME"]).rglob("*") if p.is_file() or p.is_symlink())


def test_install_without_a_manager_says_what_to_type_and_may_be_repeated(hostile: Path, home: dict[str, str]) -> None:
    arena = toy_arena(hostile, STEPS)
    first = arena.ralph("service", "install", env=home)
    assert first.status == 0, first
    assert re.search(
        r"type: systemctl --user daemon-reload && systemctl --user enable --now --no-block ralph-\S+", first.out
    )
    (unit,) = files(home)
    text = unit.read_text()
    again = arena.ralph("service", "install", env=home)
    assert "as it was" in again.out
    assert unit.read_text() == text
    status = arena.ralph("service", "status", env=home)
    assert f"installed: {unit}" in status.out
    assert "systemd does not answer" in status.out
    (arena.root / "arena.toml").write_text(TOML.replace("budget_s = 20", "budget_s = 2000"))
    assert "bring it up to date" in arena.ralph("service", "status", env=home).out
    assert "written:" in arena.ralph("service", "install", env=home).out
    stop_s = [
        int(line.partition("=")[2]) for line in unit.read_text().splitlines() if line.startswith("TimeoutStopSec")
    ]
    assert stop_s[0] > 2000 + 300 + 60 + 600, "the longest run and its scoring may finish"


@pytest.mark.slow
def test_uninstall_removes_what_install_wrote_and_nothing_else(hostile: Path, home: dict[str, str]) -> None:
    arena = toy_arena(hostile, STEPS)
    units = Path(home["HOME"], ".config/systemd/user")
    units.mkdir(parents=True)
    (units / "mine.service").write_text("[Service]\nExecStart=/bin/true\n")
    assert arena.ralph("service", "install", env=home).status == 0
    (name,) = [p.name for p in files(home) if p.name != "mine.service"]
    (units / "default.target.wants").mkdir()
    (units / "default.target.wants" / name).symlink_to(units / name)  # what the user typed in our stead
    assert arena.ralph("service", "uninstall", env=home).status == 0
    assert files(home) == [units / "mine.service"]
    assert "not installed" in arena.ralph("service", "uninstall", env=home).out
    (units / name).write_text("[Service]\nExecStart=/bin/false\n")
    for command in ("install", "uninstall"):
        refused = arena.ralph("service", command, env=home)
        assert (refused.status, "was not written by" in refused.err) == (2, True)
    assert (units / name).read_text() == "[Service]\nExecStart=/bin/false\n"


# --- a real manager


@pytest.fixture(scope="module")
def manager() -> Iterator[UserManager]:
    if why := missing():
        pytest.skip(why)
    with user_manager() as found:
        yield found


class Service:
    """One arena's unit in a real manager, impatient for the sake of the test."""

    def __init__(self, manager: UserManager, arena: ToyArena) -> None:
        self._manager, self._arena = manager, arena
        self.name = arena.json("service", "status")["unit"]

    def systemctl(self, *words: str) -> str:
        done = self._manager.run("systemctl", "--user", *words)
        assert done.returncode == 0, done
        return done.stdout

    def ralph(self, *words: str) -> str:
        done = self._manager.run(*self._arena.argv("service", *words))
        assert done.returncode == 0, done
        return done.stdout

    def install(self, more: str) -> None:
        folder = Path(self._manager.environment["XDG_CONFIG_HOME"], "systemd/user", f"{self.name}.d")
        folder.mkdir(parents=True, exist_ok=True)
        environment = " ".join(f"{k}={v}" for k, v in self._arena.environment.items())
        (folder / "test.conf").write_text(f"[Service]\nRestartSec=0\nEnvironment={environment}\n{more}\n")
        assert "enabled and started" in self.ralph("install")

    def shows(self, **wanted: str) -> bool:
        shown = self.systemctl("show", *(f"--property={name}" for name in wanted), self.name)
        return all(f"{name}={value}" in shown.splitlines() for name, value in wanted.items())


@pytest.mark.slow
def test_a_real_manager_lets_the_run_in_hand_finish_and_restarts_what_was_killed(
    hostile: Path, manager: UserManager
) -> None:
    arena = toy_arena(hostile / "100% $HOME\\", STEPS, train=SLOW_TRAIN)
    service = Service(manager, arena)
    service.install("")
    wait_for(lambda: bool(arena.nonces()))
    assert service.shows(ActiveState="active", UnitFileState="enabled", NRestarts="0")
    assert "run 1" in service.systemctl("show", "--property=StatusText", service.name)
    assert "active (running)" in service.ralph("status")
    service.systemctl("kill", "--kill-whom=main", "--signal=KILL", service.name)
    wait_for(lambda: service.shows(ActiveState="active", NRestarts="1"))
    wait_for(lambda: any(isinstance(e, Judged) for e in arena.events()))
    count = len([e for e in arena.events() if isinstance(e, RunEnded)])
    wait_for(lambda: len(arena.nonces()) > count)  # a run is in hand
    said = service.ralph("uninstall")
    assert "after the run in hand" in said
    assert arena.json("status")["phase"] == "stopped"
    ended, scored = ([e for e in arena.events() if isinstance(e, kind)] for kind in (RunEnded, Scored))
    assert len(ended) == len(scored) == len(arena.nonces()), "no run was cut"
    assert service.name not in service.systemctl("list-unit-files")


@pytest.mark.slow
def test_a_real_manager_leaves_a_parked_loop_alone_and_ends_one_that_hangs(hostile: Path, manager: UserManager) -> None:
    arena = toy_arena(hostile, STEPS, train=SLOW_TRAIN)
    service = Service(manager, arena)
    service.install("WatchdogSec=2")
    wait_for(lambda: bool(arena.nonces()))
    service.systemctl("kill", "--kill-whom=main", "--signal=STOP", service.name)
    wait_for(lambda: service.shows(NRestarts="1", ActiveState="active"))
    service.systemctl("stop", service.name)
    assert service.shows(ActiveState="inactive", Result="success")
    ledger = arena.root / "state" / "ledger.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole.replace(b'"seq":2', b'"seq":7', 1))
    service.systemctl("start", "--no-block", service.name)
    wait_for(lambda: service.shows(ActiveState="failed", ExecMainStatus="3", NRestarts="0"))
    ledger.write_bytes(whole)
    (arena.root / "arena.toml").write_text("[nonsense]\n")
    service.systemctl("start", "--no-block", service.name)
    wait_for(lambda: service.shows(ActiveState="failed", ExecMainStatus="2", NRestarts="0"))
    (arena.root / "arena.toml").write_text(TOML)
    service.ralph("uninstall")
