"""Takes OTLP/HTTP in and keeps the request bodies as they came, in order."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from tests.capture.bodies import body_of


class Sink(ThreadingHTTPServer):
    """Listens on a free port of this machine; `bodies` holds the signal, the form (binpb or json) and the body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[tuple[str, str, bytes]] = []
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Sink  # pyright: ignore[reportIncompatibleVariableOverride] - it is made by that one only
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = body_of(self)
        form = "json" if "json" in self.headers.get("content-type", "") else "binpb"
        with self.server.lock:
            self.server.bodies.append((self.path.rpartition("/")[2], form, body))
        self.send_response(200)
        self.send_header("content-type", self.headers.get("content-type", "application/x-protobuf"))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""
