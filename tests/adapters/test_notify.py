"""What a service manager hears, on real datagram sockets."""

import math
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ralph.adapters.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """An address as NOTIFY_SOCKET has it, and the socket behind it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.settimeout(10)
        name = str(tmp_path / "notify") if request.param == "path" else f"@ralph-{uuid.uuid4().hex}"
        ours.bind(name.replace("@", "\0", 1))
        yield name, ours


def test_what_is_sent_arrives_one_line_each(manager: tuple[str, socket.socket]) -> None:
    address, ours = manager
    Notifier(address).send("READY=1", "STATUS=two\nlines, ünd more")
    assert ours.recv(4096).decode() == "READY=1\nSTATUS=two lines, ünd more"


def test_the_environment_loses_what_is_the_loops_alone(manager: tuple[str, socket.socket]) -> None:
    address, ours = manager
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/"}
    notifier = Notifier.taken_from(environment)
    assert environment == {"PATH": "/"}
    assert notifier.watchdog_s == 30.0
    notifier.send("WATCHDOG=1")
    assert ours.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}],
)
def test_a_watchdog_that_is_not_ours_is_none(environment: dict[str, str]) -> None:
    assert Notifier.taken_from(environment).watchdog_s == math.inf


def test_a_manager_that_is_gone_deaf_or_absent_stops_nothing(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "nobody")).send("READY=1")
    absent = Notifier.taken_from({})
    assert not absent.heard
    absent.send("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        for _ in range(int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 3):  # more than its queue holds
            Notifier(str(tmp_path / "deaf")).send("WATCHDOG=1")
