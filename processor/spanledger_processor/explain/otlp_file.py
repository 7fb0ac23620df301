"""A file of OTLP as requests: one in protobuf, one in JSON, or a line each as file exporters write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger_exporters.interface import Signal
from spanledger_processor.otlp.json_form import to_protobuf
from spanledger_processor.otlp.wire import MalformedError

Captured: TypeAlias = tuple[Signal, bytes]
"""A signal and an encoded export request of it."""

_MARK = "spanledger.kind"
_FIRST_KEYS: Mapping[bytes, Signal] = {
    b'"resourceSpans"': "traces",
    b'"resourceLogs"': "logs",
    b'"resourceMetrics"': "metrics",
}


def requests_in(data: bytes) -> list[Captured]:
    """Return the requests that a file holds, in order.

    Raises:
        MalformedError: it holds none; says what is wrong and on which line.
    """
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
        return [_protobuf(data)]
    lines = [(number, line) for number, line in enumerate(data.splitlines(), start=1) if line.strip()]
    try:
        return [json_request(data)]
    except MalformedError:
        if not all(_signal(line) for _, line in lines):
            raise
    return [_line(number, line) for number, line in lines]


def without_marks(body: bytes) -> tuple[bytes, int]:
    """Return a trace request as it was before Spanledger appended to it, and of how many spans that is true.

    What was appended stands behind everything that came in, and begins with `spanledger.kind`.
    """
    request = ExportTraceServiceRequest.FromString(body)
    marked = [span for span in _spans(request) if any(attribute.key == _MARK for attribute in span.attributes)]
    for span in marked:
        first = next(index for index, attribute in enumerate(span.attributes) if attribute.key == _MARK)
        del span.attributes[first:]
    return (request.SerializeToString(), len(marked)) if marked else (body, 0)


def _line(number: int, text: bytes) -> Captured:
    try:
        return json_request(text)
    except MalformedError as error:
        raise MalformedError(f"line {number}: {error}") from None


def json_request(text: bytes) -> Captured:
    """Return the request that one JSON text is; raises MalformedError where it is none."""
    signal = _signal(text)
    if signal is None:
        raise MalformedError("JSON, but no OTLP: it holds none of resourceSpans, resourceLogs, resourceMetrics")
    return signal, to_protobuf(signal, text)


def _signal(text: bytes) -> Signal | None:
    positions: dict[int, Signal] = {text.find(key): signal for key, signal in _FIRST_KEYS.items() if key in text}
    return positions[min(positions)] if positions else None


def _protobuf(data: bytes) -> Captured:
    """Return the signal of an encoded request: on the wire only the fields of their items differ."""
    for signal, (kind, fits) in _FITS.items():
        request = kind()
        try:
            request.ParseFromString(data)
        except DecodeError:
            continue
        if fits(request):
            return signal, data
    nor_json = "neither OTLP in protobuf (one export request) nor in JSON"
    raise MalformedError(nor_json if data.strip() else "it is empty: no request")


def _holds_spans(request: Message) -> bool:
    assert isinstance(request, ExportTraceServiceRequest)
    spans = list(_spans(request))
    return bool(spans) and all(
        span.start_time_unix_nano or (len(span.trace_id) == 16 and len(span.span_id) == 8) for span in spans
    )


def _holds_logs(request: Message) -> bool:
    assert isinstance(request, ExportLogsServiceRequest)
    records = [log for group in request.resource_logs for scope in group.scope_logs for log in scope.log_records]
    return bool(records) and all(log.time_unix_nano or log.observed_time_unix_nano for log in records)


def _holds_metrics(request: Message) -> bool:
    assert isinstance(request, ExportMetricsServiceRequest)
    metrics = [
        metric for group in request.resource_metrics for scope in group.scope_metrics for metric in scope.metrics
    ]
    return bool(metrics) and all(metric.name and metric.WhichOneof("data") for metric in metrics)


_FITS: Mapping[Signal, tuple[Callable[[], Message], Callable[[Message], bool]]] = {
    "traces": (ExportTraceServiceRequest, _holds_spans),
    "logs": (ExportLogsServiceRequest, _holds_logs),
    "metrics": (ExportMetricsServiceRequest, _holds_metrics),
}


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for group in request.resource_spans:
        for scope in group.scope_spans:
            yield from scope.spans
