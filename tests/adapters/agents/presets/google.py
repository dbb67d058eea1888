"""A provider that speaks as much of the Gemini API as a conversation with one tool call needs, always as a stream."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.provider import Api, Reply, Request, Script


class Google:
    """Like `tests.provider.Provider`: `url`, and the `requests` that asked for an answer."""

    def __init__(self, script: Script) -> None:
        assert callable(script)
        self.requests: list[Request] = []
        self.script = script
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

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
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a kept connection would hold the end back

    def __init__(self, provider: Google) -> None:
        self.provider = provider
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        return

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(raw)
        tools = [each for tool in body.get("tools", ()) for each in tool.get("functionDeclarations", ())]
        headers = {name.lower(): value for name, value in self.headers.items()}
        path, _, query = self.path.partition("?")
        request = Request(
            number=0, path=path, query=query, api=Api.CHAT, headers=headers, body={"tools": tools}, raw=raw
        )
        self.server.provider.requests.append(request)
        data = b"data: " + json.dumps(_answer(self.server.provider.script(request))).encode() + b"\r\n\r\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _answer(reply: Reply) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": reply.text}] if reply.text else []
    parts += [{"functionCall": {"name": tool.name, "args": tool.arguments}} for tool in reply.tools]
    told: dict[str, Any] = {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}]
    }
    if reply.usage is not None:
        read, written = reply.usage.input, reply.usage.output
        told["usageMetadata"] = {
            "promptTokenCount": read, "candidatesTokenCount": written, "totalTokenCount": read + written,
        }  # fmt: skip
    return told
