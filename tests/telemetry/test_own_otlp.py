"""Metrics and spans about the process itself, as OTLP."""

from __future__ import annotations

import asyncio

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger_exporters.interface import Verdict
from spanledger_processor.telemetry.metrics import Telemetry
from spanledger_processor.telemetry.otlp import metrics_request

RESOURCE = {"service.name": "spanledger"}


def sent(telemetry: Telemetry) -> dict[str, Metric]:
    request = ExportMetricsServiceRequest.FromString(metrics_request(telemetry.registry.families(), RESOURCE, 5, 9))
    (group,) = request.resource_metrics
    assert [(each.key, each.value.string_value) for each in group.resource.attributes] == list(RESOURCE.items())
    return {metric.name: metric for scope in group.scope_metrics for metric in scope.metrics}


def test_metrics_are_those_of_a_scrape() -> None:
    telemetry = Telemetry("1.2.3", window=60, budget=100)
    telemetry.requests.answered("traces", "grpc", "ok", "", 0.004)
    telemetry.requests.answered("traces", "grpc", "ok", "", 0.7)
    telemetry.requests.answered("traces", "grpc", "ok", "", 99.0)
    metrics = sent(telemetry)
    assert all(name.startswith("spanledger_") for name in metrics)
    requests = metrics["spanledger_requests"]
    assert requests.sum.is_monotonic
    assert requests.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    (point,) = (point for point in requests.sum.data_points if point.as_double)
    assert (point.as_double, point.start_time_unix_nano, point.time_unix_nano) == (3, 5, 9)
    labels = {each.key: each.value.string_value for each in point.attributes}
    assert labels == {"signal": "traces", "protocol": "grpc", "outcome": "ok"}
    (durations,) = metrics["spanledger_request_duration_seconds"].histogram.data_points
    assert (durations.count, durations.sum) == (3, 99.704)
    assert len(durations.bucket_counts) == len(durations.explicit_bounds) + 1
    counted = dict(zip([*durations.explicit_bounds, None], durations.bucket_counts, strict=True))
    assert {bound: count for bound, count in counted.items() if count} == {0.005: 1, 1.0: 1, None: 1}
    (budget,) = metrics["spanledger_in_flight_budget_bytes"].gauge.data_points
    assert budget.as_double == 100


def spans(telemetry: Telemetry) -> list[Span]:
    body = telemetry.tracer.take(RESOURCE)
    return (
        [] if body is None else list(ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans)
    )


async def request(telemetry: Telemetry, verdict: Verdict) -> None:
    """A request whose export is a task of its own, as in delivery."""

    async def export() -> None:
        telemetry.delivery.answered("otlp_grpc/a", "traces", verdict, 3, 0.5)

    telemetry.requests.began()
    await asyncio.create_task(export())
    telemetry.requests.answered("traces", "http", "ok" if verdict is Verdict.ACCEPTED else "retry", "", 1.0)


async def test_an_exporters_answer_is_below_its_request() -> None:
    telemetry = Telemetry("1.2.3", window=60, budget=100)
    telemetry.tracer.limit = 100
    await asyncio.gather(*(asyncio.create_task(request(telemetry, verdict)) for verdict in Verdict))
    made = spans(telemetry)
    above = {span.span_id: span for span in made if not span.parent_span_id}
    below = [span for span in made if span.parent_span_id]
    assert (len(above), len(below)) == (3, 3)
    for span in below:
        parent = above.pop(span.parent_span_id)
        assert (span.name, parent.name) == ("exporter/otlp_grpc/a/traces", "receiver/otlp/traces")
        assert span.trace_id == parent.trace_id
        assert span.status.code == parent.status.code
        assert span.end_time_unix_nano - span.start_time_unix_nano == 500_000_000
    assert spans(telemetry) == []


async def test_none_are_made_unless_asked_for_and_never_more_than_there_is_room_for() -> None:
    telemetry = Telemetry("1.2.3", window=60, budget=100)
    await request(telemetry, Verdict.ACCEPTED)
    assert spans(telemetry) == []
    telemetry.tracer.limit = 3
    for _ in range(3):
        await request(telemetry, Verdict.ACCEPTED)
    assert len(spans(telemetry)) == 3
    assert telemetry.tracer.left_out == 3


async def test_out_of_a_queue_an_answer_has_a_trace_of_its_own() -> None:
    telemetry = Telemetry("1.2.3", window=60, budget=100)
    telemetry.tracer.limit = 3
    telemetry.delivery.answered("otlp_grpc", "logs", Verdict.PERMANENT, 1, 0.1)
    (span,) = spans(telemetry)
    assert span.parent_span_id == b""
    assert len(span.trace_id) == 16
