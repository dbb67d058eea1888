"""Gateways for tests: a real one in front of the tests' provider, gone when the test is."""

import http.client
import json
import os
import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ralph.adapters.domains import read_log
from ralph.adapters.gateway.asked import HIDDEN_INPUT
from ralph.adapters.gateway.calls import Call, Spent, read_calls, total
from ralph.adapters.gateway.door import Door, Terms, open_door, start_gateway
from ralph.adapters.gateway.orders import Provider as Kind
from ralph.adapters.gateway.orders import Upstream
from ralph.adapters.process import Exit, become_subreaper
from ralph.adapters.sandbox import SandboxLevel

REAL_KEY = "sk-real-6f1d2c3b4a5968778695a4b3c2d1e0f"
PATIENCE_S = 30.0
BODY = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
BODY_MOST = len(json.dumps(BODY)) + HIDDEN_INPUT + 100  # tokens
MODEL = "claude-haiku-4-5"  # 1 and 5 dollars per million tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An open gateway and where it writes."""

    door: Door
    domain: Path
    record: Path

    @property
    def url(self) -> str:
        return self.door.env["RALPH_GATEWAY"]

    @property
    def key(self) -> str:
        return self.door.env["RALPH_GATEWAY_KEY"]

    @property
    def calls(self) -> tuple[Call, ...]:
        return read_calls(self.record)

    @property
    def spent(self) -> Spent:
        return total(self.calls)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON of one request with the agent's key, by the plainest client there is."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=PATIENCE_S)
        try:
            given = {"x-api-key": self.key, "content-type": "application/json", **(headers or {})}
            connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), given)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def ask(self, **more: Any) -> tuple[int, Any]:
        """A plain call to Messages."""
        return self.post("/v1/messages", {**BODY, **more})


def upstream(url: str, kind: Kind = Kind.ANTHROPIC) -> Upstream:
    """The tests' provider, as if it were the provider's own address."""
    return Upstream(provider=kind, base=url, key=REAL_KEY)


@contextmanager
def gateway(folder: Path, url: str, *, kind: Kind = Kind.ANTHROPIC, **terms: Any) -> Iterator[Opened]:
    """A gateway in front of the provider at `url`; afterwards it is gone, by itself and without a word."""
    become_subreaper()
    opened = begin(folder, Terms(upstream=upstream(url, kind), **terms))
    try:
        yield opened
    finally:
        exit_ = leave(opened.door)
    assert (exit_.ok, read_log(opened.domain)) == (True, "")


def begin(folder: Path, terms: Terms, level: SandboxLevel = SandboxLevel.NONE, name: str = "domain") -> Opened:
    domain, record = folder / "gateway-1" / name, folder / "gateway-1" / "calls.jsonl"
    domain.mkdir(parents=True)
    door = open_door(start_gateway(domain, os.environ), record, terms, level, os.environ)
    return Opened(door=door, domain=domain, record=record)


def leave(door: Door) -> Exit:
    """Close a door as the supervisor does."""
    door.leave()
    end = time.monotonic() + PATIENCE_S
    while (exit_ := door.poll()) is None:
        assert time.monotonic() < end, "the gateway does not leave"
        select.select([door], [], [], 0.5)
    return exit_
