"""The real Collector sends to a running Spanledger in every compression that its exporters have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from backend import Backend
from compressions import COMPRESS
from served import Served
from tools import parts
from tools.programs import Program, answers, eventually, free_port

pytestmark = pytest.mark.integration

CAPTURE = Path(__file__).parents[1] / "data" / "otlp" / "anthropic-native" / "S3-anthropic" / "001.traces.binpb"

CONFIG = """
extensions: {{health_check: {{endpoint: "127.0.0.1:{health}"}}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
exporters:
  out:
    endpoint: "{to}"
    compression: {compression}
    tls: {{insecure: true}}
    sending_queue: {{enabled: false}}
    retry_on_failure: {{enabled: false}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [out]}}}}
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        yield served


def sent(served: Served, folder: Path, exporter: str, compression: str) -> int:
    """The status that the Collector answers with when it has sent a recorded request on."""
    ports = {"health": free_port(), "http": free_port()}
    to = f"http://127.0.0.1:{served.http}" if exporter == "otlp_http" else f"127.0.0.1:{served.grpc}"
    config = folder / f"otelcol-{compression}.yaml"
    text = CONFIG.format(**ports, to=to, compression=compression).replace(
        "exporters: [out]", f"exporters: [{exporter}]"
    )
    config.write_text(text.replace("  out:", f"  {exporter}:"))
    command = [str(parts.obtain("otelcol")), f"--config={config}"]
    program = Program(
        f"otelcol-{compression}", command, folder, lambda: answers(f"http://127.0.0.1:{ports['health']}/")
    )
    program.start()
    try:
        answer = httpx2.post(
            f"http://127.0.0.1:{ports['http']}/v1/traces",
            content=CAPTURE.read_bytes(),
            headers={"content-type": "application/x-protobuf"},
            timeout=30,
        )
        return answer.status_code
    finally:
        program.stop()


def test_every_compression_of_its_http_exporter_is_taken(otelcol: None, served: Served, tmp_path: Path) -> None:
    for count, compression in enumerate(COMPRESS, 1):
        assert sent(served, tmp_path, "otlp_http", compression) == 200, compression
        assert served.metric("spanledger_requests_total", protocol="http", outcome="ok") == count
    assert served.metric("spanledger_refused_requests_total") == 0


def test_every_compression_of_its_grpc_exporter_is_taken(otelcol: None, served: Served, tmp_path: Path) -> None:
    for count, compression in enumerate(("zstd", "snappy", "gzip", "none"), 1):
        assert sent(served, tmp_path, "otlp_grpc", compression) == 200, compression
        assert served.metric("spanledger_requests_total", protocol="grpc", outcome="ok") == count
    assert served.metric("spanledger_refused_requests_total") == 0


@pytest.mark.parametrize("compression", ["zstd", "snappy"])
def test_what_grpc_refuses_without_the_relay_is_logged_with_the_address_and_what_to_do(
    otelcol: None, tmp_path: Path, compression: str
) -> None:
    """The Collector drops the data: gRPC in Python ends the call before anything of ours can answer it."""
    more = {"receivers": {"otlp": {"protocols": {"grpc": {"zstd": False}}}}}
    with Backend() as backend, Served(tmp_path, backend.port, more) as served:
        assert sent(served, tmp_path, "otlp_grpc", compression) != 200
        _told(served)


def _told(served: Served) -> None:
    def logged() -> None:
        line = next((line for line in served.program.log().splitlines() if " ERROR " in line), "")
        assert "traces by gRPC from 127.0.0.1 ended before its message was read" in line
        assert "compression: gzip" in line

    eventually(logged)
    assert served.metric("spanledger_requests_total", protocol="grpc", outcome="ok") == 0
