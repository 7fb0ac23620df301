"""The real Collector sends to a running Spanledger in every compression that its exporters have."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend import Backend
from compressions import COMPRESS
from real_parts import collector, written
from served import Served
from tools.programs import PATIENCE, eventually, free_port, http_post

pytestmark = pytest.mark.integration

CAPTURE = Path(__file__).parents[1] / "data" / "otlp" / "anthropic-native" / "S3-anthropic" / "001.traces.binpb"


@contextmanager
def sending(folder: Path, served: Served, exporter: str, compressions: Iterable[str]) -> Iterator[Callable[[str], int]]:
    """Run a Collector, and give a call that has it send a recorded request on in one of its `compressions`.

    The call returns the status of the Collector's answer, which has no queue and tries nothing again.
    """
    ports, health, off = {name: free_port() for name in compressions}, free_port(), {"enabled": False}
    to = f"http://127.0.0.1:{served.http}" if exporter == "otlp_http" else f"127.0.0.1:{served.grpc}"
    out = {"endpoint": to, "tls": {"insecure": True}, "sending_queue": off, "retry_on_failure": off}
    out["timeout"] = f"{PATIENCE:g}s"
    config = {
        "extensions": {"health_check": {"endpoint": f"127.0.0.1:{health}"}},
        "receivers": {
            f"otlp/{name}": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}} for name, port in ports.items()
        },
        "exporters": {f"{exporter}/{name}": {**out, "compression": name} for name in ports},
        "service": {
            "extensions": ["health_check"],
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                f"traces/{name}": {"receivers": [f"otlp/{name}"], "exporters": [f"{exporter}/{name}"]} for name in ports
            },
        },
    }

    def send(compression: str) -> int:
        headers = {"content-type": "application/x-protobuf"}
        url = f"http://127.0.0.1:{ports[compression]}/v1/traces"
        return http_post(url, content=CAPTURE.read_bytes(), headers=headers).status_code

    program = collector(folder, [written(folder / "otelcol.yaml", json.dumps(config))], health)  # JSON is YAML
    program.start()
    try:
        yield send
    finally:
        program.stop()


@pytest.mark.parametrize(
    ("exporter", "protocol", "compressions"),
    [("otlp_http", "http", tuple(COMPRESS)), ("otlp_grpc", "grpc", ("zstd", "snappy", "gzip", "none"))],
)
def test_every_compression_of_its_exporters_is_taken(
    exporter: str, protocol: str, compressions: tuple[str, ...], otelcol: None, served: Served, tmp_path: Path
) -> None:
    with sending(tmp_path, served, exporter, compressions) as send:
        for count, compression in enumerate(compressions, 1):
            assert send(compression) == 200, compression
            assert served.metric("spanledger_requests_total", protocol=protocol, outcome="ok") == count
    assert served.metric("spanledger_refused_requests_total") == 0


@pytest.mark.parametrize("compression", ["zstd", "snappy"])
def test_what_grpc_refuses_without_the_relay_is_logged_with_the_address_and_what_to_do(
    otelcol: None, tmp_path: Path, compression: str
) -> None:
    """The Collector drops the data: gRPC in Python ends the call before anything of ours can answer it."""
    more = {"receivers": {"otlp": {"protocols": {"grpc": {"zstd": False}}}}}
    with Backend() as backend, Served(tmp_path, backend.port, more) as served:
        with sending(tmp_path, served, "otlp_grpc", [compression]) as send:
            assert send(compression) != 200
        _told(served)


def _told(served: Served) -> None:
    def logged() -> None:
        line = next((line for line in served.program.log().splitlines() if " ERROR " in line), "")
        assert "traces by gRPC from 127.0.0.1 ended before its message was read" in line
        assert "compression: gzip" in line

    eventually(logged)
    assert served.metric("spanledger_requests_total", protocol="grpc", outcome="ok") == 0
