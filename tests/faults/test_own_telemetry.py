"""A running server that sends its own metrics and traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from backend import Backend
from chats import chat, request
from replays import spans_of
from served import Served
from tools.programs import eventually


def telemetry(metrics: int, traces: int) -> dict[str, Any]:
    """Metrics and traces to these ports, often."""
    to = [{"otlp": {"protocol": "grpc", "endpoint": f"http://127.0.0.1:{port}"}} for port in (metrics, traces)]
    return {
        "metrics": {"readers": [{"periodic": {"interval": 200, "exporter": to[0]}}]},
        "traces": {"processors": [{"batch": {"schedule_delay": 200, "exporter": to[1]}}]},
    }


def requests(backend: Backend) -> float:
    """The counter of requests in what arrived last of it."""
    for body in reversed(list(backend.received)):
        message = ExportMetricsServiceRequest.FromString(body)
        for group in message.resource_metrics:
            for metric in (metric for scope in group.scope_metrics for metric in scope.metrics):
                if metric.name == "spanledger_requests":
                    return sum(point.as_double for point in metric.sum.data_points)
    return 0.0


def names(backend: Backend) -> set[str]:
    found: set[str] = set()
    for body in list(backend.received):
        found.update(span.name for span in spans_of(ExportTraceServiceRequest.FromString(body)))
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_and_traces_arrive(tmp_path: Path, workers: int) -> None:
    with Backend() as backend, Backend() as metrics, Backend() as traces:
        more = {"telemetry": telemetry(metrics.port, traces.port)}
        with Served(tmp_path, backend.port, more, arguments=("--workers", str(workers))) as served:
            served.export(*(request(chat()) for _ in range(5)))

            def arrived() -> None:
                assert requests(metrics) == 5
                assert {"receiver/otlp/traces", "exporter/otlp_grpc/traces"} <= names(traces)

            eventually(arrived)
            assert served.metric("spanledger_requests_total", outcome="ok") == 5  # /metrics stays
        assert len(backend.received) == 5  # nothing of it goes to the exporters


def test_a_destination_that_is_away_harms_nothing(tmp_path: Path) -> None:
    with Backend() as backend, Served(tmp_path, backend.port, {"telemetry": telemetry(1, 1)}) as served:
        served.export(request(chat()))

        def reported() -> None:
            assert "own metrics not accepted, and left out" in served.program.log()
            assert "own traces not accepted, and left out" in served.program.log(), "each is told of by itself"

        eventually(reported)
        served.export(request(chat()))
        assert len(backend.received) == 2
