"""The server: a threaded one on loopback that plays its script and records what it is asked."""

import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.provider import chat, messages, responses
from tests.provider.messages import Event
from tests.provider.replies import Api, Fault, Reply, Request, Script

APIS: Mapping[str, Api] = {
    "/v1/messages": Api.MESSAGES,
    "/v1/responses": Api.RESPONSES,
    "/v1/chat/completions": Api.CHAT,
}
BROKEN = (Fault.OVERLOADED, Fault.FAILED)
PATIENCE_S = 60.0  # a held answer is let go then, so that no test hangs for ever


class Provider:
    """`requests` are those to the three APIs, in the order they came; `others` the paths of all the rest."""

    def __init__(self, script: Script) -> None:
        self.requests: list[Request] = []
        self.others: list[str] = []
        self.failures: list[str] = []
        self.closing = threading.Event()
        self._script = script
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="provider")

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            for one in self._sockets:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the other side was faster
        self._server.server_close()
        if kind is None:
            assert not self.failures, f"the provider's script failed: {self.failures}"

    def answer(self, request: Request) -> tuple[Request, Reply]:
        """Record a request and look up its reply."""
        with self._lock:
            request = replace(request, number=len(self.requests))
            self.requests.append(request)
            if callable(self._script):
                return request, self._script(request)
            return request, self._script[min(request.number, len(self._script) - 1)]

    def opened(self, one: socket.socket) -> None:
        """Remember a connection, to end it when the server ends."""
        with self._lock:
            self._sockets.add(one)

    def closed(self, one: socket.socket) -> None:
        """Forget it."""
        with self._lock:
            self._sockets.discard(one)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the server's faults."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else 40 ms a call
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.provider.opened(self.connection)

    def finish(self) -> None:
        self.server.provider.closed(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        return

    def do_HEAD(self) -> None:
        self._other(b"")

    def do_GET(self) -> None:
        model = {"id": "test-model", "object": "model", "type": "model", "display_name": "Test", "owned_by": "test"}
        self._other(json.dumps({"object": "list", "data": [model], "has_more": False}).encode())

    def do_POST(self) -> None:
        raw = self._body()
        path, _, query = self.path.partition("?")
        api = APIS.get(path)
        if api is None:
            counted = path == "/v1/messages/count_tokens"
            self._other(b'{"input_tokens": 100}' if counted else b"{}", status=200 if counted else 404)
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            asked = Request(number=0, path=path, query=query, api=api, headers=headers, body=json.loads(raw), raw=raw)
            request, reply = self.server.provider.answer(asked)
        except Exception as error:
            self.server.provider.failures.append(f"{type(error).__name__}: {error}")
            self._send(500, {}, json.dumps({"error": {"message": f"the script failed: {error}"}}).encode())
            return
        self._play(request, reply)

    def _play(self, request: Request, reply: Reply) -> None:
        if reply.hold is not None:
            reply.hold.wait(PATIENCE_S)
        if reply.fault is Fault.HANG:
            self._hang()
        elif reply.fault is Fault.CONTEXT or reply.status != 200:
            reply = replace(reply, status=400) if reply.fault is Fault.CONTEXT else reply
            body = messages.error(request, reply) if request.api is Api.MESSAGES else responses.error(reply)
            self._send(reply.status, reply.headers, json.dumps(body).encode())
        elif request.streamed:
            self._stream(request, reply)
        else:
            self._whole(request, reply)

    def _whole(self, request: Request, reply: Reply) -> None:
        if reply.fault in BROKEN:
            failed = replace(reply, status=529)
            body = messages.error(request, failed) if request.api is Api.MESSAGES else responses.error(failed)
            self._send(529, reply.headers, json.dumps(body).encode())
            return
        speak = {Api.MESSAGES: messages.plain, Api.RESPONSES: responses.plain, Api.CHAT: chat.plain}[request.api]
        data = json.dumps(speak(request, reply)).encode()
        cut = reply.fault in (Fault.CUT, Fault.NO_END, Fault.HANG_STREAM)
        self._send(200, reply.headers, data[: len(data) // 2] if cut else data, length=len(data))
        if reply.fault is Fault.HANG_STREAM:
            self._hang()
        self.close_connection = self.close_connection or cut

    def _stream(self, request: Request, reply: Reply) -> None:
        speak = {Api.MESSAGES: messages.events, Api.RESPONSES: responses.events, Api.CHAT: chat.events}[request.api]
        events = speak(request, reply)
        if reply.fault in BROKEN:
            events = [*events[: max(1, len(events) // 2)], _broken(request, reply)]
        elif reply.fault in (Fault.CUT, Fault.HANG_STREAM):
            events = events[: max(1, len(events) // 2)]
        self.send_response(200)
        for name, value in {
            "content-type": "text/event-stream",
            "transfer-encoding": "chunked",
            **reply.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        for event in events:
            data = _written(event)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if reply.fault is Fault.HANG_STREAM:
            self._hang()
        elif reply.fault is Fault.CUT:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _hang(self) -> None:
        """Say nothing until the server ends or the client goes away; an early word of the client counts as going."""
        self.close_connection = True
        self.connection.settimeout(0.05)
        while not self.server.provider.closing.is_set():
            try:
                self.connection.recv(1)
            except TimeoutError:
                continue
            except OSError:
                return
            return

    def _other(self, body: bytes, status: int = 200) -> None:
        self.server.provider.others.append(f"{self.command} {self.path}")
        self._send(status, {}, body)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        own = {"content-type": "application/json", "content-length": str(len(body) if length is None else length)}
        for name, value in {**own, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


def _broken(request: Request, reply: Reply) -> Event:
    match request.api:
        case Api.MESSAGES:
            return messages.broken_event(reply)
        case Api.RESPONSES:
            return responses.broken_event(request, reply)
        case Api.CHAT:
            return chat.broken_event(reply)


def _written(event: Event) -> bytes:
    name, data = event
    told = chat.DONE if chat.DONE in data else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {told}\n\n".encode()
