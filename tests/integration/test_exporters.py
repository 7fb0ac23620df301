"""Our exporters and the real Collector: it takes what they send, and its JSON and ours say the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import typing
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from destinations import GrpcBackend, HttpBackend
from real_parts import collector, written
from requests_out import exporting, soon, spans
from spanledger_exporters import ACCEPTED, Result, Signal, Verdict
from spanledger_exporters.settings import HttpCompression
from tools.programs import PATIENCE, free_port

pytestmark = pytest.mark.integration

CAPTURES = Path(__file__).parents[1] / "data" / "otlp"
FILES = [
    CAPTURES / "anthropic-native" / "S3-anthropic" / "001.traces.binpb",
    CAPTURES / "openinference" / "S3-openai-chat" / "001.traces.binpb",
    CAPTURES / "claude-code" / "logs-only" / "001.logs.binpb",
    CAPTURES / "claude-code" / "logs-only" / "003.metrics.binpb",
]

CONFIG = """
extensions: {{health_check: {{endpoint: "127.0.0.1:{health}"}}}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
exporters:
  {exporter}:
    endpoint: "http://127.0.0.1:{backend}"
    tls: {{insecure: true}}
    timeout: {patience:g}s
    {encoding}
    sending_queue: {{enabled: false}}
    retry_on_failure: {{enabled: false}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [{exporter}]}}
    logs: {{receivers: [otlp], exporters: [{exporter}]}}
    metrics: {{receivers: [otlp], exporters: [{exporter}]}}
"""


@contextlib.asynccontextmanager
async def collecting(folder: Path, backend: int, *, json_out: bool = False) -> AsyncIterator[dict[str, int]]:
    """A Collector that answers when its backend has, and its ports."""
    ports = {"health": free_port(), "grpc": free_port(), "http": free_port()}
    exporter, encoding = ("otlp_http", "encoding: json") if json_out else ("otlp_grpc", "")
    text = CONFIG.format(**ports, backend=backend, exporter=exporter, encoding=encoding, patience=PATIENCE)
    program = collector(folder, [written(folder / "otelcol.yaml", text)], ports["health"])
    await asyncio.to_thread(program.start)
    try:
        yield ports
    finally:
        await asyncio.to_thread(program.stop)


def ways(ports: dict[str, int]) -> list[tuple[str, dict[str, Any]]]:
    """Every way to send to the Collector."""
    once = {"retry_on_failure": {"enabled": False}, "timeout": f"{PATIENCE:g}s"}
    http = {"endpoint": f"http://127.0.0.1:{ports['http']}", **once}
    return [
        ("otlp_grpc", {"endpoint": f"http://127.0.0.1:{ports['grpc']}", **once}),
        ("otlp_grpc", {"endpoint": f"http://127.0.0.1:{ports['grpc']}", "compression": "none", **once}),
        *(("otlp_http", {"compression": name, **http}) for name in typing.get_args(HttpCompression)),
        ("otlp_http", {"encoding": "json", **http}),
        ("otlp_http", {"encoding": "json", "compression": "none", **http}),
    ]


def read(file: Path) -> tuple[Signal, bytes]:
    signals: dict[str, Signal] = {"traces": "traces", "logs": "logs", "metrics": "metrics"}
    return signals[file.name.split(".")[1]], file.read_bytes()


async def test_the_collector_takes_what_we_send_in_every_way(otelcol: None, tmp_path: Path) -> None:
    """And passes on the same each time, whether it came as protobuf or as JSON."""
    backend = GrpcBackend()
    async with backend.serving(), collecting(tmp_path, backend.port) as ports:
        for signal, body in map(read, FILES):
            backend.received.clear()
            for kind, given in ways(ports):
                async with exporting(kind, **given) as exporter:
                    assert await exporter.send(signal, body, soon()) == ACCEPTED
            passed_on = {request.body for request in backend.received}
            assert (len(backend.received), len(passed_on)) == (len(ways(ports)), 1)


async def test_a_line_of_our_file_says_what_the_collector_says_in_json(otelcol: None, tmp_path: Path) -> None:
    """Its file exporter writes lines with the marshaler that its OTLP/HTTP exporter uses for JSON."""
    backend, path = HttpBackend(), tmp_path / "ours.jsonl"
    async with (
        backend.serving(),
        collecting(tmp_path, backend.port, json_out=True) as ports,
        exporting("file", path=str(path)) as ours,
        exporting("otlp_grpc", endpoint=f"http://127.0.0.1:{ports['grpc']}", timeout=f"{PATIENCE:g}s") as theirs,
    ):
        for signal, body in map(read, FILES):
            for exporter in (ours, theirs):
                assert await exporter.send(signal, body, soon()) == ACCEPTED
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [said(line) for line in lines] == [said(json.loads(request.body)) for request in backend.received]


def said(value: Any) -> Any:
    """JSON without what says nothing: a field that is empty or zero may be left out. Attribute values stay whole."""
    if isinstance(value, list):
        return [said(element) for element in value]
    if not isinstance(value, dict):
        return value
    fields = {key: field if key == "value" else said(field) for key, field in value.items()}
    return {key: field for key, field in fields.items() if field not in ("", 0, [], {}, None, "0")}


async def test_what_the_collector_answers(otelcol: None, tmp_path: Path) -> None:
    """Its backend gone: retryable. No OTLP, or more than it takes in one message: it never will."""
    backend = GrpcBackend()
    async with backend.serving():
        pass
    async with collecting(tmp_path, backend.port) as ports:
        results: dict[str, list[Result]] = {"gone": [], "malformed": [], "large": []}
        for kind, given in ways(ports)[:3]:
            async with exporting(kind, **{**given, "compression": "none"}) as exporter:
                results["gone"].append(await exporter.send("traces", spans("a"), soon()))
                results["malformed"].append(await exporter.send("traces", b"\xff\xff", soon()))
                results["large"].append(await exporter.send("traces", spans("x" * 21 * 2**20), soon()))
    verdicts = {name: {result.verdict for result in found} for name, found in results.items()}
    assert verdicts["gone"] == {Verdict.RETRYABLE}, results
    assert verdicts["large"] == {Verdict.PERMANENT}, results
    assert [result.verdict for result in results["malformed"]] == [
        Verdict.RETRYABLE,  # gRPC answers INTERNAL before the Collector's own code is asked
        Verdict.RETRYABLE,
        Verdict.PERMANENT,
    ], results


async def test_the_bytes_of_a_capture_come_through_the_collector_unharmed(otelcol: None, tmp_path: Path) -> None:
    backend = GrpcBackend()
    signal, body = read(FILES[0])
    async with backend.serving(), collecting(tmp_path, backend.port) as ports:
        kind, given = ways(ports)[3]
        async with exporting(kind, **given) as exporter:
            assert await exporter.send(signal, body, soon()) == ACCEPTED
    sent, received = map(ExportTraceServiceRequest.FromString, (body, backend.received[0].body))
    assert sent == received
