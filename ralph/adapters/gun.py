"""The supervisor's side of the starting gun: device, ready, go, stopped, over one Unix socket (docs/runs.md).

Until *go* the training data cannot be opened; with *go* it arrives as open descriptors. The clock is ours: the time of
each packet is taken when it is read, and a new deadline is set on the run's shim at each step. What a process asks that
was started early is not read before its turn, so it waits.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ralph.core.untrusted_json import parse_object

MOST_BYTES = 64 * 1024


@dataclass(slots=True, kw_only=True)
class Times:
    """Moments on the monotonic clock; None where the run never came so far.

    `spawned` is before `started`, by when its device was its own, for a process that was started early. `unasked`: it
    was ready without having asked for the device, in an arena that promises that.
    """

    spawned: float
    started: float
    asked: float | None = None
    unasked: bool = False
    ready: float | None = None
    go: float | None = None
    stopped: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Seconds for the parts of a gated run that begin with *go*; the time before it is the shim's first deadline."""

    budget_s: float
    export_s: float
    grace_s: float


class Gun:
    """One run's gun. `set_deadline(seconds)`, once attached, is called with the time left for the next step.

    `device` is what a run is told that asks for it; with `must_ask` none is let go that did not. `before_go` is the
    last that is done while it has seen no data.
    """

    def __init__(self, budget: Budget, data: Mapping[str, Path], *, device: str, must_ask: bool) -> None:
        self._budget, self._data, self._device, self._must_ask = budget, data, device, must_ask
        self._set_deadline: Callable[[float], None] = lambda _seconds: None
        self.before_go: Callable[[], None] = lambda: None
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        now = time.monotonic()
        self.times = Times(spawned=now, started=now)

    def attach(self, set_deadline: Callable[[float], None]) -> None:
        """Say whose deadline each step moves; our copy of the run's end of the socket is closed."""
        self._set_deadline = set_deadline
        self.theirs.close()

    def begin(self, setup_s: float) -> None:
        """The device is the run's own from now on: the rest of its set-up is to take that long at most."""
        self.times.started = time.monotonic()
        self._set_deadline(setup_s)

    def fileno(self) -> int:
        """Readable when the run has said something."""
        return self.ours.fileno()

    def hear(self) -> bool:
        """Take every packet that has come and answer it; False once the run has closed its end."""
        while True:
            try:
                packet = self.ours.recv(MOST_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not packet:
                return False
            self._answer(packet)

    def _answer(self, packet: bytes) -> None:
        message = parse_object(packet)
        if message is None:
            return  # not ours to judge: a run that does not speak the protocol meets its deadline
        times = self.times
        if "device" in message:
            times.asked = times.asked or time.monotonic()
            self._send({"device": self._device}, ())
        elif "ready" in message and times.ready is None and not times.unasked:
            if self._must_ask and times.asked is None:
                times.unasked = True
                return
            self.before_go()
            times.ready = time.monotonic()
            self._go()
        elif "stopped" in message and times.go is not None and times.stopped is None:
            times.stopped = time.monotonic()
            self._set_deadline(self._budget.export_s + self._budget.grace_s)

    def _go(self) -> None:
        fds = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in self._data.values()]
        message = {"go": {"budget_s": self._budget.budget_s, "data": list(self._data)}}
        try:
            self._set_deadline(self._budget.budget_s + self._budget.grace_s)
            self.times.go = time.monotonic()
            self._send(message, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _send(self, message: Mapping[str, object], fds: Sequence[int]) -> None:
        with contextlib.suppress(OSError):  # it is gone already, its end says the rest; or it asks and does not read
            socket.send_fds(self.ours, [json.dumps(message).encode()], fds)

    def close(self) -> None:
        """Give the sockets back."""
        self.ours.close()
        self.theirs.close()
