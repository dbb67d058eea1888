"""What a gateway is told, through a memory file: its key is in no argument list, no environment and on no disk."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum


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
        lifeline: a socket; at its end of file the gateway ends.
        listener: a listening socket, or -1.
        latch: a socket through which the agent's side hands over a listening one, or -1.
        proxies: the supervisor's *_PROXY variables.
        answer_s: how long the provider may be silent.
    """

    upstream: Upstream
    dummy: str = field(repr=False)
    calls: str
    lifeline: int
    listener: int = -1
    latch: int = -1
    usd_left: float | None = None
    tokens_left: int | None = None
    price: tuple[float, float] | None = None
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    answer_s: float = 600.0


def hand_over(orders: Orders) -> int:
    """A descriptor from which `take_over` reads these orders once; close it after the start."""
    fd = os.memfd_create("ralph-gateway")
    with open(fd, "wb", closefd=False) as file:
        file.write(json.dumps(asdict(orders)).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def take_over(fd: int) -> Orders:
    """Read the orders and empty the file, so that none who inherited the descriptor can read them again."""
    with open(fd, "r+b") as file:
        raw = json.loads(file.read())
        file.truncate(0)
    upstream = raw.pop("upstream")
    price = raw.pop("price")
    return Orders(
        **raw,
        price=None if price is None else (price[0], price[1]),
        upstream=Upstream(**{**upstream, "provider": Provider(upstream["provider"])}),
    )
