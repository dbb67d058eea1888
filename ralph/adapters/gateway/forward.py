"""One call, from the agent's request to the record of what it cost: held against the budget, sent, metered, settled.

The agent sees the provider's own bytes as they come. A call is settled before its last bytes are passed on, so that
the agent's next call finds the budget as it is. Nothing is ever repeated here: waits and retries are the agent's.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import httpx2

from ralph.adapters.gateway.asked import Api, Asked
from ralph.adapters.gateway.budget import Allowance, BudgetError, Held
from ralph.adapters.gateway.calls import Call, CallLog
from ralph.adapters.gateway.limits import Limit, recognise, told
from ralph.adapters.gateway.meter import Meter
from ralph.adapters.gateway.orders import Orders
from ralph.adapters.gateway.prices import Prices
from ralph.adapters.gateway.usage import Usage

CONNECT_S, SEND_S = 15.0, 120.0
BUDGET, UPSTREAM, GATEWAY = "ralph_budget", "ralph_upstream", "ralph_gateway"  # types of our own errors
AGENT_GONE = "agent_gone"
HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "content-length", "expect",
})  # fmt: skip
# The agent's keys go nowhere; encodings would hide the usage; cookies would outlive the agent.
NOT_SENT = HOP | {"host", "authorization", "x-api-key", "x-goog-api-key", "cookie", "accept-encoding"}
NOT_RETURNED = HOP | {"set-cookie"}
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError, httpx2.InvalidURL)


class Out(Protocol):
    """The agent's side of a call. Its methods raise OSError when the agent has gone."""

    def begin(self, status: int, headers: Iterable[tuple[str, str]], length: int | None) -> None:
        """Status and headers; without a length the body comes in pieces."""
        ...

    def write(self, data: bytes) -> None:
        """Some of the body."""
        ...

    def end(self) -> None:
        """The body is whole."""
        ...

    def cut(self) -> None:
        """The body will never be whole."""
        ...

    def fail(self, status: int, kind: str, message: str) -> None:
        """An error of the gateway's own."""
        ...


@dataclass(slots=True, kw_only=True)
class Flight:
    """A call that has begun."""

    number: int
    asked: Asked
    held: Held
    meter: Meter
    at: datetime
    started: float
    sent: bool = True
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""


class Forwarder:
    """Carries the calls of one agent; from many threads."""

    def __init__(self, orders: Orders, client: httpx2.Client) -> None:
        self._upstream, self._client = orders.upstream, client
        self._allowance = Allowance(orders.usd_left, orders.tokens_left)
        self._prices = Prices(orders.upstream.provider, "" if orders.upstream.official else orders.upstream.base,
                              orders.price)  # fmt: skip
        self._log = CallLog(Path(orders.calls))
        self._lock = threading.Lock()
        self._flights: dict[int, Flight] = {}
        self._largest = 0

    @property
    def capped(self) -> bool:
        """Whether there is a budget to keep."""
        return self._allowance.capped

    @property
    def largest(self) -> int:
        """Tokens of the largest call so far: what a later one may carry along on the provider's side."""
        return self._largest

    def carry(self, asked: Asked, query: str, headers: Mapping[str, str], out: Out) -> None:
        """Make a call for the agent, unless the budget forbids it. Raises OSError when the agent has gone."""
        try:
            flight = self._begin(asked)
        except BudgetError as error:
            self._refuse(asked, str(error))
            out.fail(402, BUDGET, str(error))
            return
        except OSError as error:  # what is not on record must not be spent
            out.fail(503, GATEWAY, f"the call could not be recorded, so it was not made: {error}")
            return
        try:
            self._exchange(flight, query, headers, out)
        except OSError:
            flight.failure = AGENT_GONE
            raise
        finally:
            self._finish(flight)

    def abandon(self) -> None:
        """The end has come: record the calls in flight as far as they are known."""
        for flight in list(self._flights.values()):
            flight.failure = flight.failure or AGENT_GONE
            self._finish(flight)

    def _begin(self, asked: Asked) -> Flight:
        usd = None if asked.free else self._prices.cost(asked.model, asked.most)
        held = Held(usd=0.0, tokens=0) if asked.free else self._allowance.hold(asked.model, usd, asked.most)
        at = datetime.now(UTC)
        most = Call(at=at, api=asked.api, model=asked.model, path=asked.path, input=asked.most.input,
                    output=asked.most.output, usd=usd if not asked.free else 0.0)  # fmt: skip
        try:
            number = self._log.begin(most)
        except OSError:
            self._allowance.settle(held, 0.0, 0)
            raise
        started = time.monotonic()
        flight = Flight(number=number, asked=asked, held=held, meter=Meter(asked), at=at, started=started)
        with self._lock:
            self._flights[number] = flight
        return flight

    def _refuse(self, asked: Asked, why: str) -> None:
        at = datetime.now(UTC)
        call = Call(
            at=at, api=asked.api, model=asked.model, path=asked.path, status=402, refused=True, error=BUDGET, reason=why
        )
        with contextlib.suppress(OSError):  # the disk is full: the agent hears of it all the same
            self._log.add(call)

    def _exchange(self, flight: Flight, query: str, headers: Mapping[str, str], out: Out) -> None:
        try:
            response = self._client.send(self._request(flight.asked, query, headers), stream=True)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            flight.sent = not isinstance(error, NEVER_SENT)
            flight.failure = "timeout" if isinstance(error, httpx2.TimeoutException) else "connection"
            flight.status = 504 if flight.failure == "timeout" else 502
            self._finish(flight)
            words = f"{type(error).__name__}: {error}".rstrip(": ")
            out.fail(flight.status, UPSTREAM, f"the provider at {self._upstream.base} did not answer: {words}")
            return
        try:
            flight.status = response.status_code
            flight.headers = {name.lower(): value for name, value in response.headers.items()}
            flight.meter.begin(flight.headers.get("content-type", ""))
            if flight.headers.get("content-type", "").startswith("text/event-stream"):
                self._stream(flight, response, out)
            else:
                self._whole(flight, response, out)
        finally:
            response.close()

    def _request(self, asked: Asked, query: str, headers: Mapping[str, str]) -> httpx2.Request:
        own = {name: value for name, value in headers.items() if name.lower() not in NOT_SENT}
        own |= {"accept-encoding": "identity", **self._upstream.signature()}
        address = self._upstream.address(asked.path) + (f"?{query}" if query else "")
        if asked.api is Api.MODELS:
            return self._client.build_request("GET", address, headers=own)
        return self._client.build_request("POST", address, headers=own, content=asked.body)

    def _stream(self, flight: Flight, response: httpx2.Response, out: Out) -> None:
        """Each piece goes to the agent as it comes."""
        out.begin(response.status_code, _returned(response), None)
        try:
            for piece in response.iter_raw():
                flight.meter.feed(piece)
                if flight.meter.complete:
                    self._finish(flight)
                out.write(piece)
        except httpx2.HTTPError as error:
            flight.failure = "timeout" if isinstance(error, httpx2.TimeoutException) else "cut"
            self._finish(flight)
            out.cut()
            return
        flight.meter.end()
        self._finish(flight)
        out.end()

    def _whole(self, flight: Flight, response: httpx2.Response, out: Out) -> None:
        """A plain answer is read before it is passed on, so that the call is settled when the agent has it."""
        pieces: list[bytes] = []
        try:
            for piece in response.iter_raw():
                flight.meter.feed(piece)
                pieces.append(piece)
        except httpx2.HTTPError as error:
            flight.failure = "timeout" if isinstance(error, httpx2.TimeoutException) else "cut"
        flight.meter.end()
        self._finish(flight)
        body = b"".join(pieces)
        if not flight.failure:
            now = datetime.now(UTC)
            limit = recognise(flight.status, flight.headers, flight.meter.error, now)
            out.begin(response.status_code, told(_returned(response), limit, now), len(body))
            out.write(body)
            return
        out.begin(response.status_code, _returned(response), None)
        out.write(body)
        out.cut()

    def _finish(self, flight: Flight) -> None:
        """Settle a call and record it, once."""
        with self._lock:
            if self._flights.pop(flight.number, None) is None:
                return
        call = self._call(flight)
        self._largest = max(self._largest, call.input + call.output)
        if not flight.asked.free:
            self._allowance.settle(flight.held, call.usd, call.input + call.output)
        try:
            self._log.end(flight.number, call)
        except OSError as error:  # what it could cost at most is on record, and holds then
            print(f"call {flight.number} could not be recorded: {error}", file=sys.stderr)  # noqa: T201

    def _call(self, flight: Flight) -> Call:
        asked, seconds = flight.asked, time.monotonic() - flight.started
        limit = recognise(flight.status, flight.headers, flight.meter.error, datetime.now(UTC))
        if flight.failure:
            weather = flight.failure != AGENT_GONE
            error = flight.failure if flight.meter.error is None else limit.error
            limit = Limit(error=error, limited=limit.limited or weather,
                          resume_at=limit.resume_at)  # fmt: skip
        usage, estimated = Usage(), False
        if not asked.free and flight.sent and (flight.status < 400 or flight.failure == "timeout"):
            usage, estimated = flight.meter.usage(seconds)
        cost: dict[str, Any] = {"usd": 0.0 if usage == Usage() else self._prices.cost(asked.model, usage)}
        return Call(
            at=flight.at,
            api=asked.api,
            model=asked.model,
            path=asked.path,
            status=flight.status,
            input=usage.input,
            cached=usage.cached,
            output=usage.output,
            seconds=seconds,
            limited=limit.limited,
            resume_at=limit.resume_at,
            error=limit.error,
            estimated=estimated,
            **cost,
        )


def _returned(response: httpx2.Response) -> list[tuple[str, str]]:
    return [(name, value) for name, value in response.headers.multi_items() if name.lower() not in NOT_RETURNED]
