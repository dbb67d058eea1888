"""The supervisor's end of a gateway: it opens one for each agent that calls a provider, and closes it after the agent.

The agent's side is ready before the gateway is: what it listens at exists when `open_door` returns, and the agent's
first call waits there. So nobody waits for a start, and agent and gateway start at the same time.
"""

import os
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ralph.adapters.domains import log_of
from ralph.adapters.environment import passes
from ralph.adapters.gateway import relay
from ralph.adapters.gateway.calls import read_calls, total
from ralph.adapters.gateway.orders import Orders, Upstream, hand_over
from ralph.adapters.process import Child, Command, Exit, spawn
from ralph.adapters.sandbox import SandboxLevel

INSIDE_PORT = 7077  # of a loopback that nobody else uses
BACKLOG = 64
LEAVE_S = 3.0  # what a gateway may take to record the calls in flight, once its agent is gone
SPARE_S = 60.0  # beyond its agent's time: a gateway that is forgotten ends by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms an agent may call. `usd_left` and `tokens_left` are for this attempt; None is no cap.

    `price` is in dollars per million tokens, read and written.
    """

    upstream: Upstream
    usd_left: float | None = None
    tokens_left: int | None = None
    price: tuple[float, float] | None = None
    agent_s: float = 900.0


class Door:
    """An open gateway. Start the agent with `env`, `prefix` before its argv, and `pass_fds`; then call `started`."""

    def __init__(self, child: Child, lifeline: socket.socket, key: str, port: int, latch: socket.socket | None) -> None:
        self._child, self._lifeline, self._latch = child, lifeline, latch
        self.port = port
        self.env = {"RALPH_GATEWAY": f"http://127.0.0.1:{port}", "RALPH_GATEWAY_KEY": key}
        self.pass_fds = () if latch is None else (latch.fileno(),)
        program = (sys.executable, "-I", "-S", relay.__file__)
        self.prefix = () if latch is None else (*program, str(port), str(latch.fileno()))

    @property
    def pid(self) -> int:
        """Process id of the gateway's shim."""
        return self._child.pid

    def fileno(self) -> int:
        """Readable when the gateway is gone."""
        return self._child.fileno()

    def started(self) -> None:
        """The agent has what it was given: the supervisor's copies go."""
        if self._latch is not None:
            self._latch.close()

    def leave(self) -> None:
        """The agent is gone: let the gateway record what is open and end, soon. Returns at once."""
        self.started()
        self._lifeline.close()
        self._child.set_deadline(LEAVE_S)

    def poll(self) -> Exit | None:
        """How the gateway ended, None while it lives."""
        exit_ = self._child.poll()
        if exit_ is not None:
            self._child.close()
        return exit_

    def abort(self) -> None:
        """The agent could not be started."""
        self.started()
        self._lifeline.close()
        self._child.close()


def open_door(folder: Path, calls: Path, terms: Terms, level: SandboxLevel, ambient: Mapping[str, str]) -> Door:
    """Start a gateway.

    Args:
        folder: its kill domain, fresh.
        calls: its record; what an earlier gateway of the same attempt left there counts against the terms.
        terms: where it forwards to and how much that may cost.
        level: of the agent's sandbox.
        ambient: the supervisor's environment.

    Raises:
        OSError: there is no memory, descriptor or port left.
    """
    spent, key = total(read_calls(calls)), f"ralph-dummy-{secrets.token_hex(16)}"
    ours, lifeline = socket.socketpair()
    latch, theirs = socket.socketpair() if level is SandboxLevel.BWRAP else (None, _listening())
    port = INSIDE_PORT if latch else int(theirs.getsockname()[1])
    orders = Orders(
        upstream=terms.upstream,
        dummy=key,
        calls=str(calls.resolve()),
        lifeline=lifeline.fileno(),
        listener=-1 if latch else theirs.fileno(),
        latch=theirs.fileno() if latch else -1,
        usd_left=None if terms.usd_left is None else terms.usd_left - spent.usd,
        tokens_left=None if terms.tokens_left is None else terms.tokens_left - spent.tokens,
        price=terms.price,
        proxies={name: value for name, value in ambient.items() if name.lower().endswith("_proxy")},
        answer_s=terms.agent_s,
    )
    fd = hand_over(orders)
    try:
        passed = (fd, lifeline.fileno(), theirs.fileno())
        child = spawn(_command(folder, fd, passed, terms.agent_s + SPARE_S, ambient))
    except BaseException:
        ours.close()
        if latch is not None:
            latch.close()
        raise
    finally:
        os.close(fd)
        lifeline.close()
        theirs.close()
    return Door(child, ours, key, port, latch)


def _listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    return listener


def _command(folder: Path, fd: int, passed: tuple[int, ...], deadline_s: float, ambient: Mapping[str, str]) -> Command:
    return Command(
        argv=(sys.executable, "-P", "-m", "ralph.adapters.gateway.server", str(fd)),
        cwd=folder,
        env={name: value for name, value in ambient.items() if passes(name)},
        folder=folder,
        log=log_of(folder),
        deadline_s=deadline_s,
        pass_fds=passed,
    )
