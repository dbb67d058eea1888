"""A run's side of the clock: the starting gun, the same by hand, and what it puts on record."""

import json
import math
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import prepare
from prepare import Arena
from tests.workspace.folders import OPTIONS, make_arena

TOKENS = np.arange(1000, dtype=np.uint16)


@pytest.fixture
def arena(hostile: Path) -> Arena:
    """A run under a supervisor."""
    return Arena(
        vocab_size=1000,
        sequence_len=32,
        score_batch=4,
        dtype="uint16",
        device="cpu",
        seed=3,
        budget_s=99.0,
        run_dir=hostile,
        artifact=hostile / "model.pt2",
        data=None,
    )


class Supervisor(threading.Thread):
    """The other end of the gun: hands over the device and a file when the run wants them, and keeps what it says."""

    def __init__(self, gun: socket.socket, data: Path, budget_s: float = 5.0, device: str = "cpu") -> None:
        super().__init__()
        self.device = device
        self.gun, self.data, self.budget_s = gun, data, budget_s
        self.heard: list[dict[str, dict[str, float]]] = []

    def run(self) -> None:
        self.heard.append(json.loads(self.gun.recv(1 << 16)))
        if "device" in self.heard[0]:
            self.gun.send(json.dumps({"device": self.device}).encode())
            self.heard.append(json.loads(self.gun.recv(1 << 16)))
        go = json.dumps({"go": {"budget_s": self.budget_s, "data": ["train"]}}).encode()
        with self.data.open("rb") as file:
            socket.send_fds(self.gun, [go], [file.fileno()])
        while packet := self.gun.recv(1 << 16):
            self.heard.append(json.loads(packet))


@pytest.fixture
def gun() -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """Our end, and the environment of the run that has the other."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(20)
    with ours:
        yield ours, {"RALPH_GUN_FD": str(theirs.detach())}


def test_ready_go_stopped(arena: Arena, gun: tuple[socket.socket, dict[str, str]], tmp_path: Path) -> None:
    TOKENS.tofile(tmp_path / "train.bin")
    supervisor = Supervisor(gun[0], tmp_path / "train.bin")
    supervisor.start()
    with prepare.training(arena, gun[1]) as clock:
        assert clock.tokens.tolist() == TOKENS.tolist()
        assert 4.0 < clock.remaining() <= 5.0
        assert clock.budget_s == 5.0
        assert 0.0 <= clock.fraction() < 0.2
        clock.log(7, 1.5)
    supervisor.join(20)
    ready, stopped = supervisor.heard
    assert ready == {"ready": {}}
    assert stopped["stopped"]["steps"] == 7
    assert 0.0 <= stopped["stopped"]["train_s"] < 5.0
    (line,) = (arena.run_dir / "progress.jsonl").read_text().splitlines()
    assert set(json.loads(line)) == {"step", "loss", "seconds"}


def test_the_device_is_asked_for_before_ready_over_the_same_gun(
    arena: Arena, gun: tuple[socket.socket, dict[str, str]], tmp_path: Path
) -> None:
    TOKENS.tofile(tmp_path / "train.bin")
    supervisor = Supervisor(gun[0], tmp_path / "train.bin", device="cuda:3")
    supervisor.start()
    assert prepare.device(arena, gun[1]) == "cuda:3"
    with prepare.training(arena, gun[1]):
        pass
    supervisor.join(20)
    assert [next(iter(packet)) for packet in supervisor.heard] == ["device", "ready", "stopped"]


def test_by_hand_the_device_is_there_at_once(arena: Arena) -> None:
    assert prepare.device(arena, {}) == "cpu"


@pytest.mark.parametrize(("answer", "error"), [(b"", "before it gave a device"), (b'{"go": {}}', "expected a device")])
def test_a_supervisor_that_gives_no_device_ends_the_wait(
    arena: Arena, gun: tuple[socket.socket, dict[str, str]], answer: bytes, error: str
) -> None:
    ours, environ = gun

    def refuse() -> None:
        ours.recv(1 << 16)
        if answer:
            ours.send(answer)
        ours.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=refuse)
    thread.start()
    with pytest.raises(RuntimeError, match=error):
        prepare.device(arena, environ)
    thread.join(20)


def test_training_data_cannot_be_written(
    arena: Arena, gun: tuple[socket.socket, dict[str, str]], tmp_path: Path
) -> None:
    TOKENS.tofile(tmp_path / "train.bin")
    supervisor = Supervisor(gun[0], tmp_path / "train.bin")
    supervisor.start()
    with prepare.training(arena, gun[1]) as clock, pytest.raises(ValueError, match="read-only"):
        clock.tokens[0] = 5
    supervisor.join(20)


def test_a_run_that_fails_does_not_say_stopped(
    arena: Arena, gun: tuple[socket.socket, dict[str, str]], tmp_path: Path
) -> None:
    TOKENS.tofile(tmp_path / "train.bin")
    supervisor = Supervisor(gun[0], tmp_path / "train.bin")
    supervisor.start()
    with pytest.raises(ZeroDivisionError), prepare.training(arena, gun[1]):
        _ = 1 / 0
    supervisor.join(20)
    assert supervisor.heard == [{"ready": {}}]


def test_a_supervisor_that_goes_away_ends_the_wait(arena: Arena, gun: tuple[socket.socket, dict[str, str]]) -> None:
    ours, environ = gun

    def leave() -> None:
        ours.recv(1 << 16)
        ours.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=leave)
    thread.start()
    with pytest.raises(RuntimeError, match="before go"), prepare.training(arena, environ):
        pass
    thread.join(20)


def test_go_without_its_data_is_refused(arena: Arena, gun: tuple[socket.socket, dict[str, str]]) -> None:
    ours, environ = gun

    def answer() -> None:
        ours.recv(1 << 16)
        ours.send(json.dumps({"go": {"budget_s": 5, "data": ["train"]}}).encode())

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(RuntimeError, match="expected go with its data"), prepare.training(arena, environ):
        pass
    thread.join(20)


def test_without_a_gun_a_supervised_run_says_what_the_arena_lacks(arena: Arena) -> None:
    with pytest.raises(RuntimeError, match="gate = true"), prepare.training(arena, {}):
        pass


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_none_ends_the_run_and_is_on_record(arena: Arena, loss: float) -> None:
    clock = prepare.Clock(tokens=TOKENS, budget_s=5.0, started=time.monotonic(), progress=arena.run_dir / "p.jsonl")
    with pytest.raises(FloatingPointError, match="at step 3"):
        clock.log(3, loss)
    assert '"step": 3' in (arena.run_dir / "p.jsonl").read_text()


def test_time_that_is_over_is_negative_and_its_share_is_all(arena: Arena) -> None:
    past = time.monotonic() - 9.0
    clock = prepare.Clock(tokens=TOKENS, budget_s=5.0, started=past, progress=arena.run_dir / "p.jsonl")
    assert clock.remaining() < -3.9
    assert clock.fraction() == 1.0


def test_a_supervised_run_knows_what_its_environment_says(hostile: Path) -> None:
    facts = {"vocab_size": 500, "sequence_len": 64, "score_batch": 2, "dtype": "uint16", "sha256": "x"}
    (hostile / "data.json").write_text(json.dumps(facts))
    environ = {
        "RALPH_RUN_DIR": str(hostile / "run"),
        "RALPH_SEED": "11",
        "RALPH_BUDGET_S": "2.5",
        "RALPH_ARTIFACT": str(hostile / "run" / "x.pt2"),
        "RALPH_DEVICE": "cuda",
        "RALPH_DATA": str(hostile / "data.json"),
    }
    arena = prepare.arena(environ)
    assert (arena.vocab_size, arena.sequence_len, arena.score_batch, arena.seed) == (500, 64, 2, 11)
    assert (arena.device, arena.budget_s) == ("cuda:0", 2.5)
    assert arena.artifact == hostile / "run" / "x.pt2"
    assert arena.scorer_command() is None
    arena.write_config({"depth": 2})
    arena.write_report(peak_bytes=5)
    assert json.loads((hostile / "run" / "config.json").read_text()) == {"depth": 2}
    assert json.loads((hostile / "run" / "report.json").read_text()) == {"peak_bytes": 5}


def test_by_hand_the_data_is_prepared_and_the_clock_is_its_own(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "HERE", make_arena(hostile, OPTIONS))
    arena = prepare.arena({"RALPH_DEVICE": "cpu", "RALPH_SEED": "2"})
    assert arena.budget_s == 1.5
    assert arena.run_dir == hostile / "state" / "by-hand"
    with prepare.training(arena, {}) as clock:
        assert len(clock.tokens) > 1000
        assert 0 < clock.remaining() <= 1.5
    command = arena.scorer_command()
    assert command is not None
    words = shlex.split(command)
    assert words[:3] == [sys.executable, "-m", "ralph.adapters.scorer.language_model"]
    assert words[words.index("--artifact") + 1] == str(hostile / "state" / "by-hand" / "model.pt2")
    assert words[words.index("--data") + 1] == str(arena.data)
