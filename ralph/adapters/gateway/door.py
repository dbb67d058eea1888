"""The supervisor's end of a gateway: it opens one for each agent that calls a provider, and closes it after the agent.

The agent's side is ready before the gateway is: what it listens at exists when `open_door` returns, and the agent's
first call waits there. So nobody waits for a start, and agent and gateway start at the same time. Where an agent stands
by, its gateway does so beside it, without orders.
"""

import contextlib
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ralph.adapters.domains import log_of
from ralph.adapters.environment import passes
from ralph.adapters.files import remove_tree
from ralph.adapters.gateway import relay
from ralph.adapters.gateway.calls import read_calls, total
from ralph.adapters.gateway.orders import Orders, Upstream, give
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A gateway without orders: it has no key and no door. It is given to one agent (`open_door`), or dismissed."""

    child: Child
    channel: socket.socket

    def lives(self) -> bool:
        """Whether there still is somebody to take orders."""
        return self.child.poll() is None

    def dismiss(self) -> None:
        """End it, and take its folder away. Returns when it is gone, or is stuck in the kernel."""
        self.channel.close()
        self.child.end("it was ready for an agent that did not come")
        with contextlib.suppress(OSError):  # the folder's next use makes it fresh, or fails
            remove_tree(self.child.folder)
            self.child.folder.parent.rmdir()  # of the attempt, if no call is on record


class Door:
    """An open gateway. Start the agent with `env`, `prefix` before its argv, and `pass_fds`; then call `started`."""

    def __init__(self, gateway: Waiting, key: str, port: int, latch: socket.socket | None) -> None:
        self._child, self._lifeline, self._latch = gateway.child, gateway.channel, latch
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
        self._child.end("its agent could not be started")


def start_gateway(folder: Path, ambient: Mapping[str, str]) -> Waiting:
    """Start a gateway whose orders are still to come.

    Args:
        folder: its kill domain, fresh.
        ambient: the supervisor's environment.

    Raises:
        OSError: there is no memory or descriptor left.
    """
    here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with there:
        try:
            child = spawn(
                Command(
                    argv=(sys.executable, "-P", "-m", "ralph.adapters.gateway.server", str(there.fileno())),
                    cwd=folder,
                    env={name: value for name, value in ambient.items() if passes(name)},
                    folder=folder,
                    log=log_of(folder),
                    pass_fds=(there.fileno(),),
                )
            )
        except BaseException:
            here.close()
            raise
    return Waiting(child=child, channel=here)


def open_door(gateway: Waiting, calls: Path, terms: Terms, level: SandboxLevel, ambient: Mapping[str, str]) -> Door:
    """Give a gateway its orders. If it has just died, its end will say so.

    Args:
        gateway: serves this one agent; it is gone if this fails.
        calls: its record; what an earlier gateway of the same attempt left there counts against the terms.
        terms: where it forwards to and how much that may cost.
        level: of the agent's sandbox.
        ambient: the supervisor's environment.

    Raises:
        OSError: there is no descriptor or port left, the record cannot be read, or the orders are too long.
    """
    latch: socket.socket | None = None
    try:
        spent, key = total(read_calls(calls)), f"ralph-dummy-{secrets.token_hex(16)}"
        latch, theirs = socket.socketpair() if level is SandboxLevel.BWRAP else (None, _listening())
        with theirs:
            port = INSIDE_PORT if latch else int(theirs.getsockname()[1])
            orders = Orders(
                upstream=terms.upstream,
                dummy=key,
                calls=str(calls.resolve()),
                door=theirs.fileno(),
                latched=latch is not None,
                usd_left=None if terms.usd_left is None else terms.usd_left - spent.usd,
                tokens_left=None if terms.tokens_left is None else terms.tokens_left - spent.tokens,
                price=terms.price,
                proxies={name: value for name, value in ambient.items() if name.lower().endswith("_proxy")},
                answer_s=terms.agent_s,
            )
            with contextlib.suppress(ConnectionError):
                give(gateway.channel, orders)
        gateway.child.set_deadline(terms.agent_s + SPARE_S)
    except BaseException:
        if latch is not None:
            latch.close()
        gateway.dismiss()
        raise
    return Door(gateway, key, port, latch)


def _listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    return listener
