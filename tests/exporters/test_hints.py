"""A destination that is spoken to wrongly: what is logged and answered says what to set. Against real servers."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from backend import Backend
from certificates import Certificates
from spanledger_exporters.interface import Result, Signal, Verdict
from spanledger_exporters.otlp_grpc import OtlpGrpc, failure
from spanledger_exporters.otlp_http import OtlpHttp
from spanledger_exporters.responses import with_hint
from spanledger_exporters.settings import OtlpGrpcSettings, OtlpHttpSettings


class _NotFound(BaseHTTPRequestHandler):
    timeout = 5

    def do_POST(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Nothing is written."""


@contextmanager
def _http(certificates: Certificates | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NotFound)
    server.daemon_threads = True
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.cert("server"), certificates.key("server"))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def _sent(exporter: OtlpGrpc | OtlpHttp, signal: Signal = "traces") -> str:
    await exporter.start()
    result = await exporter.send(signal, b"", asyncio.get_running_loop().time() + 20)
    await exporter.close()
    assert result.verdict is not Verdict.ACCEPTED
    return result.reason


def _grpc(endpoint: str, **tls: Any) -> OtlpGrpc:
    return OtlpGrpc("g", OtlpGrpcSettings.model_validate({"endpoint": endpoint, "tls": tls, "timeout": "20s"}))


def _to_http(endpoint: str, **tls: Any) -> OtlpHttp:
    return OtlpHttp("h", OtlpHttpSettings.model_validate({"endpoint": endpoint, "tls": tls}))


async def test_a_forgotten_tls_insecure() -> None:
    with Backend() as backend:
        assert "set tls.insecure to true" in await _sent(_grpc(f"127.0.0.1:{backend.port}"))
        assert "write http://" in await _sent(_to_http(f"https://127.0.0.1:{backend.port}"))


async def test_nobody_listens() -> None:
    """In the system's words, which are what is searched for."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        port = taken.getsockname()[1]
        assert await _sent(_to_http(f"http://127.0.0.1:{port}")) == "cannot connect: Connection refused"
        assert "Connection refused" in await _sent(_grpc(f"127.0.0.1:{port}", insecure=True))


async def test_grpc_to_an_http_port_and_the_reverse() -> None:
    with Backend() as backend, _http() as port:
        assert "use otlp_http" in await _sent(_grpc(f"127.0.0.1:{port}", insecure=True))
        assert "use otlp_grpc" in await _sent(_to_http(f"http://127.0.0.1:{backend.port}"))


async def test_a_destination_that_speaks_tls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with _http(certificates) as port:
        assert "write https://" in await _sent(_to_http(f"http://127.0.0.1:{port}"))
        assert "tls.ca_file" in await _sent(_to_http(f"https://localhost:{port}"))
        trusted = {"ca_file": str(certificates.authority)}
        assert "tls.server_name_override" in await _sent(_to_http(f"https://127.0.0.1:{port}", **trusted))


async def test_a_destination_that_takes_no_logs() -> None:
    with _http() as port:
        assert "leave logs out of signals" in await _sent(_to_http(f"http://127.0.0.1:{port}"), "logs")
    unimplemented = failure(grpc.StatusCode.UNIMPLEMENTED, "unknown service LogsService", b"")
    assert "takes no logs" in with_hint(unimplemented, "grpc", "logs").reason


@pytest.mark.parametrize("verdict", [Verdict.RETRYABLE, Verdict.PERMANENT])
def test_other_failures_stay_as_they_are(verdict: Verdict) -> None:
    result = Result(verdict, "HTTP 503: try later")
    assert with_hint(result, "https", "traces") is result
