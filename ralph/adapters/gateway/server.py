"""The process of one gateway: ``python -P -m ralph.adapters.gateway.server FD``, its orders and key to come through FD.

It may be started before there is an agent. Until its orders come it has no key and no door, and does what it can
without them. It serves one agent and ends with the socket FD, the other end of which its supervisor holds.

Covered: requests without the agent's own key (another process of this machine must not spend), paths that are not on
the list, bodies beyond `LONGEST_BODY`.
Not covered: one who may look into this process, as every process of the same user can that no sandbox keeps in.
"""

import hmac
import importlib
import json
import os
import select
import socket
import ssl
import sys
import threading
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, urlencode, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import httpx2

from ralph.adapters.gateway import prices
from ralph.adapters.gateway.asked import BadRequestError, api_of, ask
from ralph.adapters.gateway.forward import CONNECT_S, SEND_S, Forwarder
from ralph.adapters.gateway.orders import Orders, Provider, take

LONGEST_BODY = 32 * 2**20  # what Anthropic takes
IDLE_S = 600.0  # a connection without a word, or that takes none
CONNECTIONS = 64
PIECE = 65536
LATER = ("httpcore2", "encodings.idna")  # what the first call imports


class Gateway:
    """Listens for one agent."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.forwarder = Forwarder(orders, _client(orders))
        self._room = threading.BoundedSemaphore(CONNECTIONS)

    def listen(self) -> None:
        """Answer connections for ever."""
        listener = _listener(self.orders)
        while listener is not None:
            self._room.acquire()
            try:
                connection, _ = listener.accept()
            except OSError:
                self._room.release()  # it gave up before it was its turn
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Handler(connection, self)
        except OSError:
            pass  # the agent has gone; what its call cost is on record
        finally:
            connection.close()
            self._room.release()


class Handler(BaseHTTPRequestHandler):
    """One connection of the agent."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def __init__(self, connection: socket.socket, gateway: Gateway) -> None:
        self._gateway = gateway
        self._chunked = False
        super().__init__(connection, ("agent", 0), None)  # type: ignore[arg-type]  # there is no socketserver

    def do_GET(self) -> None:
        """List of models."""
        self._answer()

    def do_POST(self) -> None:
        """All else."""
        self._answer()

    def _answer(self) -> None:
        orders = self._gateway.orders
        body = self._body()
        if body is None:
            return
        url = urlsplit(self.path)
        query = [pair for pair in parse_qsl(url.query, keep_blank_values=True) if pair[0] != "key"]
        if not self._is_agent(dict(parse_qsl(url.query)).get("key", "")):
            self.fail(401, "authentication_error", "this gateway serves one agent, which has another key")
            return
        api = api_of(self.command, url.path, gemini=orders.upstream.provider is Provider.GEMINI)
        if api is None:
            self.fail(404, "not_found_error", f"{self.command} {url.path} is not among what this gateway lets through")
            return
        forwarder = self._gateway.forwarder
        old_name = not orders.upstream.official
        try:
            asked = ask(api, url.path, body, capped=forwarder.capped, carried=forwarder.largest, old_name=old_name)
        except BadRequestError as error:
            self.fail(400, "invalid_request_error", str(error))
            return
        forwarder.carry(asked, urlencode(query), dict(self.headers.items()), self)

    def _is_agent(self, in_query: str) -> bool:
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        shown = (self.headers.get("x-api-key", ""), self.headers.get("x-goog-api-key", ""), bearer, in_query)
        dummy = self._gateway.orders.dummy.encode()
        return any(hmac.compare_digest(each.strip().encode(), dummy) for each in shown)

    def _body(self) -> bytes | None:
        """The request's body; None if it is none, which has been answered then."""
        try:
            if "chunked" in self.headers.get("transfer-encoding", "").lower():
                return self._chunks()
            length = int(self.headers.get("content-length") or 0)
            if not 0 <= length <= LONGEST_BODY:
                raise OverflowError
            return self.rfile.read(length)
        except OverflowError:
            self.close_connection = True
            self.fail(413, "request_too_large", f"a request may have {LONGEST_BODY} bytes")
        except ValueError:
            self.close_connection = True
            self.fail(400, "invalid_request_error", "the request's length cannot be read")
        return None

    def _chunks(self) -> bytes:
        found = bytearray()
        while size := int(self.rfile.readline(PIECE).split(b";")[0], 16):
            if not 0 <= size <= LONGEST_BODY - len(found):
                raise OverflowError
            found += self.rfile.read(size)
            self.rfile.readline(PIECE)
        while self.rfile.readline(PIECE).strip():
            pass  # trailers
        return bytes(found)

    # --- the agent's side of a call, as the forwarder wants it

    def begin(self, status: int, headers: Iterable[tuple[str, str]], length: int | None) -> None:
        """Status and headers."""
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self._chunked = length is None
        self.send_header(*(("transfer-encoding", "chunked") if length is None else ("content-length", str(length))))
        self.end_headers()

    def write(self, data: bytes) -> None:
        """Some of the body."""
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """The body is whole."""
        if self._chunked:
            self.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """The body will never be whole: the agent sees the connection end in the middle."""
        self.close_connection = True

    def fail(self, status: int, kind: str, message: str) -> None:
        """An error of ours, in a form that every SDK can read. None of them should try again what we forbid."""
        error = {"type": "error", "error": {"type": kind, "code": kind, "message": message}}
        body = json.dumps(error).encode()
        retry = [("x-should-retry", "false")] if status < 500 else []
        self.begin(status, [("content-type", "application/json"), *retry], len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library cannot read, and methods that nobody needs here."""
        self.close_connection = True
        self.fail(
            404 if code == HTTPStatus.NOT_IMPLEMENTED else code,
            "invalid_request_error",
            message or explain or "the request cannot be read",
        )

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Calls are on record elsewhere."""


def _listener(orders: Orders) -> socket.socket | None:
    """The socket to listen at; one from inside a sandbox is handed over through the latch."""
    door = socket.socket(fileno=orders.door)
    if not orders.latched:
        return door
    with door as latch:
        _, fds, _, _ = socket.recv_fds(latch, 1, 1)
    return socket.socket(fileno=fds[0]) if fds else None  # none: the sandbox ended before its agent began


def _client(orders: Orders) -> httpx2.Client:
    os.environ.update(orders.proxies)  # of this process alone: /proc shows the environment it was started with
    url = urlsplit(orders.upstream.base)
    proxies = getproxies_environment()
    here = url.hostname in ("localhost", "127.0.0.1", "::1")
    bypass = here or bool(proxy_bypass(url.netloc))
    return httpx2.Client(
        proxy=None if bypass else proxies.get(url.scheme, proxies.get("all")),
        verify=_authorities() if url.scheme == "https" else False,
        trust_env=False,  # a .netrc would sign requests with something else
        follow_redirects=False,
        timeout=httpx2.Timeout(CONNECT_S, read=orders.answer_s, write=SEND_S, pool=None),
        limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=60.0),
    )


@cache
def _authorities() -> ssl.SSLContext:
    """Those whose certificates count; to read them takes a tenth of a second."""
    return httpx2.create_ssl_context()


def _prepare() -> None:
    """Whatever a first call would wait for."""
    for name in LATER:
        importlib.import_module(name)
    _authorities()
    prices.load()


def main(fd: int) -> None:
    """Serve until the channel ends."""
    channel = socket.socket(fileno=fd)
    if not select.select([channel], [], [], 0.0)[0]:  # nobody waits yet
        _prepare()
    orders = take(channel)
    if orders is None:
        return
    gateway = Gateway(orders)
    threading.Thread(target=gateway.listen, daemon=True).start()
    try:
        if orders.price is None:
            prices.load()  # while the agent starts
        channel.recv(1)
    finally:
        gateway.forwarder.abandon()
    os._exit(0)  # threads may wait for a provider that will not answer for minutes


if __name__ == "__main__":
    main(int(sys.argv[1]))
