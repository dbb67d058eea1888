"""What a gateway is told, through a socket: its key is in no argument list, no environment and on no disk.

The socket is its lifeline as well: a gateway ends when it does, before its orders or after them.
"""

import errno
import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

MOST_BYTES = 1 << 17  # of orders, which are one message


class Provider(StrEnum):
    """Whose way of signing requests, and whose price list."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GEMINI = "google"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where calls go and how they are signed.

    Attributes:
        base: address in front of the agent's path, without a slash at its end.
        prefix: what of the agent's path `base` stands for.
        key: the provider's key; empty if it needs none.
        bearer: whether the key goes into `authorization` even where the provider has a header of its own.
        official: whether this is the provider's own address.
    """

    provider: Provider
    base: str
    prefix: str = ""
    key: str = field(default="", repr=False)
    bearer: bool = False
    official: bool = True

    def address(self, path: str) -> str:
        """The address for one of the agent's paths."""
        return self.base + path.removeprefix(self.prefix)

    def signature(self) -> dict[str, str]:
        """Headers with the key."""
        if not self.key:
            return {}
        if self.bearer or self.provider is Provider.OPENAI:
            return {"authorization": f"Bearer {self.key}"}
        return {"x-api-key" if self.provider is Provider.ANTHROPIC else "x-goog-api-key": self.key}


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """All that a gateway is told.

    Attributes:
        dummy: the key that its agent has to show.
        calls: path of the record.
        door: a descriptor: the socket to listen at or, if it is `latched`, one through which the agent's side hands
            that over.
        proxies: the supervisor's *_PROXY variables.
        answer_s: how long the provider may be silent.
    """

    upstream: Upstream
    dummy: str = field(repr=False)
    calls: str
    door: int
    latched: bool = False
    usd_left: float | None = None
    tokens_left: int | None = None
    price: tuple[float, float] | None = None
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    answer_s: float = 600.0


def give(channel: socket.socket, orders: Orders) -> None:
    """Send them, and the door with them.

    Raises:
        OSError: nobody is there to take them, or they are longer than `MOST_BYTES`.
    """
    data = json.dumps(asdict(orders)).encode()
    if len(data) > MOST_BYTES:
        raise OSError(errno.EMSGSIZE, f"orders of {len(data)} bytes for a gateway; are *_PROXY variables that long?")
    socket.send_fds(channel, [data], [orders.door])


def take(channel: socket.socket) -> Orders | None:
    """Wait for the orders; None if there are none to come. Nobody can read them again."""
    data, fds, _, _ = socket.recv_fds(channel, MOST_BYTES, 1)
    if not data:
        return None
    raw = json.loads(data)
    upstream = raw.pop("upstream")
    price = raw.pop("price")
    return Orders(
        **{**raw, "door": fds[0]},
        price=None if price is None else (price[0], price[1]),
        upstream=Upstream(**{**upstream, "provider": Provider(upstream["provider"])}),
    )
