"""What the process knows about itself as OTLP: its metrics, and a span for each request and each exporter's answer."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeAlias

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

SCOPE = "spanledger"

_Labels: TypeAlias = tuple[tuple[str, str], ...]


def metrics_request(families: Iterable[Metric], resource: Mapping[str, str], start_ns: int, now_ns: int) -> bytes:
    """Return families of metrics as an export request: counters as sums since `start_ns`, without their `_total`."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(_attributes(resource))
    scope = group.scope_metrics.add()
    scope.scope.name = SCOPE
    for family in families:
        built = scope.metrics.add(name=family.name, description=family.documentation)
        if family.type == "histogram":
            built.histogram.aggregation_temporality = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
            built.histogram.data_points.extend(_histograms(family.samples, start_ns, now_ns))
            continue
        if family.type == "counter":
            built.sum.aggregation_temporality = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
            built.sum.is_monotonic = True
            points, since = built.sum.data_points, start_ns
        else:
            points, since = built.gauge.data_points, 0
        for sample in family.samples:
            point = points.add(time_unix_nano=now_ns, start_time_unix_nano=since, as_double=sample.value)
            point.attributes.extend(_attributes(sample.labels))
            if sample.exemplar is not None:
                point.exemplars.append(_exemplar(sample.exemplar))
    return request.SerializeToString()


def _exemplar(exemplar: Exemplar) -> metrics_pb2.Exemplar:
    return metrics_pb2.Exemplar(
        time_unix_nano=round(float(exemplar.timestamp or 0) * 1e9),
        as_double=exemplar.value,
        trace_id=bytes.fromhex(exemplar.labels["trace_id"]),
        span_id=bytes.fromhex(exemplar.labels["span_id"]),
    )


def _histograms(samples: Iterable[Sample], start_ns: int, now_ns: int) -> Iterator[metrics_pb2.HistogramDataPoint]:
    points: dict[_Labels, metrics_pb2.HistogramDataPoint] = {}
    below: dict[_Labels, float] = {}
    for sample in samples:
        labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        point = points.get(labels)
        if point is None:
            point = points[labels] = metrics_pb2.HistogramDataPoint(
                start_time_unix_nano=start_ns, time_unix_nano=now_ns, attributes=_attributes(dict(labels))
            )
        if sample.name.endswith("_bucket"):
            point.bucket_counts.append(round(sample.value - below.get(labels, 0.0)))
            below[labels] = sample.value
            if sample.labels["le"] != "+Inf":
                point.explicit_bounds.append(float(sample.labels["le"]))
        elif sample.name.endswith("_count"):
            point.count = round(sample.value)
        elif sample.name.endswith("_sum"):
            point.sum = sample.value
    yield from points.values()


@dataclass(slots=True)
class _Context:
    """The span of the request that is being worked on."""

    trace_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    span_id: bytes = field(default_factory=lambda: secrets.token_bytes(8))


_current: ContextVar[_Context | None] = ContextVar("own span", default=None)


class Tracer:
    """Keeps spans until they are taken: the last `limit` that there was room for. A limit of 0 makes none."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.left_out = 0
        self._spans: deque[Span] = deque()

    def begin(self) -> None:
        """Begin the span of a request in this task, and in those that it starts."""
        if self.limit:
            _current.set(_Context())

    def request(self, signal: str, protocol: str, outcome: str, cause: str, seconds: float) -> None:
        """End the span of a request."""
        context = _current.get() if self.limit else None
        if context is not None:
            span = Span(trace_id=context.trace_id, span_id=context.span_id, kind=Span.SPAN_KIND_SERVER)
            details = {"receiver": "otlp", "transport": protocol, "signal": signal, "outcome": outcome, "cause": cause}
            self._keep(span, f"receiver/otlp/{signal}", details, seconds, failed=outcome != "ok")

    def export(self, exporter: str, signal: str, verdict: str, items: int, seconds: float) -> None:
        """Make a span of an exporter's answer; out of a queue it has no parent."""
        if self.limit:
            parent = _current.get()
            trace_id, above = (parent.trace_id, parent.span_id) if parent else (secrets.token_bytes(16), b"")
            span = Span(trace_id=trace_id, span_id=secrets.token_bytes(8), parent_span_id=above)
            span.kind = Span.SPAN_KIND_CLIENT
            details: dict[str, str | int] = {"exporter": exporter, "signal": signal, "verdict": verdict, "items": items}
            self._keep(span, f"exporter/{exporter}/{signal}", details, seconds, failed=verdict != "accepted")

    def take(self, resource: Mapping[str, str]) -> bytes | None:
        """Return the spans that there are as an export request; None where there are none."""
        if not self._spans:
            return None
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        group.resource.attributes.extend(_attributes(resource))
        scope = group.scope_spans.add()
        scope.scope.name = SCOPE
        scope.spans.extend(self._spans)
        self._spans.clear()
        return request.SerializeToString()

    def _keep(self, span: Span, name: str, details: Mapping[str, str | int], seconds: float, *, failed: bool) -> None:
        if len(self._spans) >= self.limit:
            self.left_out += 1
            return
        now_ns = time.time_ns()
        span.name = name
        span.start_time_unix_nano, span.end_time_unix_nano = now_ns - round(seconds * 1e9), now_ns
        span.attributes.extend(_attributes({key: value for key, value in details.items() if value != ""}))
        if failed:
            span.status.code = Status.STATUS_CODE_ERROR
        self._spans.append(span)


def _attributes(values: Mapping[str, str] | Mapping[str, str | int]) -> Iterator[KeyValue]:
    for key, value in values.items():
        typed = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
        yield KeyValue(key=key, value=typed)
