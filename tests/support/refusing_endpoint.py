"""An OTLP/HTTP endpoint that refuses what it is told to refuse."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class RefusingEndpoint:
    """`answer` gives the status for the names of a request's spans; `arrived` are names of spans that were taken.

    `rejected` is what it says to have left out of each request that it takes.
    """

    def __init__(self, answer: Callable[[list[str]], int], rejected: int = 0) -> None:
        self.arrived: list[str] = []
        self.requests = 0
        self.ledger: set[str] = set()
        """Sessions that its API knows, with `?tenant=` behind those that are of another than the default tenant."""
        self.tenants: list[str | None] = []
        self.token = ""
        """What its API asks for, if anything."""
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportTraceServiceRequest.FromString(body)
                groups = [scope for resource in request.resource_spans for scope in resource.scope_spans]
                names = [span.name for group in groups for span in group.spans]
                endpoint.requests += 1
                status = answer(names)
                if status == 200:
                    endpoint.arrived += names
                partial = ExportTracePartialSuccess(
                    rejected_spans=rejected, error_message="told to" if rejected else ""
                )
                self._end(status, ExportTraceServiceResponse(partial_success=partial).SerializeToString())

            def do_GET(self) -> None:
                if endpoint.token and self.headers["authorization"] != f"Bearer {endpoint.token}":
                    self._end(401, b'{"error": "show the token"}')
                    return
                if self.path == "/api/v1/tenants":
                    self._end(200, json.dumps({"tenants": [{"tenant": name} for name in endpoint.tenants]}).encode())
                    return
                known = self.path.rpartition("/")[2] in endpoint.ledger
                self._end(200 if known else 404, b'{"cost_usd": 1.0}' if known else b"{}")

            def _end(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                """Nothing is written."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> RefusingEndpoint:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
