"""What is shown of a request: one line for it, one for each item, and the attributes that hold no content."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from spanledger_exporters.debug.harmless import shown
from spanledger_exporters.interface import Signal
from spanledger_exporters.text import one_line
from spanledger_processor.otlp.request import count_data_points, count_log_records, parse_logs, parse_traces
from spanledger_processor.otlp.views import Attributes, LogView, SpanView
from spanledger_processor.otlp.wire import MalformedError

_ERROR = 2
"""Status.code of a span that failed."""
_LONGEST_NAME = 80


def summary(signal: Signal, body: bytes) -> str:
    """One line for a request."""
    if signal == "traces":
        return f"traces: {_spans_summary([*_views(body)])}"
    if signal == "logs":
        return f"logs: {count_log_records(body)} log records"
    return f"metrics: {count_data_points(body)} data points"


def items(signal: Signal, body: bytes, *, detailed: bool) -> Iterator[str]:
    """One line for each span, log record or metric, and where `detailed`, one for each attribute that may be shown."""
    return _ITEMS[signal](body, detailed)


def _views(body: bytes) -> Iterator[SpanView | None]:
    """All spans; None for one that cannot be read."""
    for span in chain.from_iterable(group.items for group in parse_traces(body).groups):
        try:
            yield SpanView.parse(span)
        except MalformedError:
            yield None


def _spans_summary(views: list[SpanView | None]) -> str:
    known = [view.attributes for view in views if view is not None and "spanledger.kind" in view.attributes]
    if not known:
        return f"{len(views)} spans"
    costs = (_usd(attributes) for attributes in known)
    unpriced = sum("spanledger.cost.unpriced" in attributes for attributes in known)
    ending = f", {unpriced} unpriced" if unpriced else ""
    return f"{len(views)} spans, {len(known)} GenAI, {math.fsum(costs):.6g} USD{ending}"


def _usd(attributes: Attributes) -> float:
    try:
        cost = attributes.get("spanledger.cost.usd")
    except MalformedError:
        return 0.0
    return cost if isinstance(cost, float) else 0.0


def _spans(body: bytes, detailed: bool) -> Iterator[str]:  # noqa: FBT001
    for view in _views(body):
        if view is None:
            yield "  a span that cannot be read"
            continue
        attributes = shown(view.attributes)
        seconds = max(0, view.end_ns - view.start_ns) / 1e9
        parts = [
            one_line(view.name, _LONGEST_NAME) or "a span without a name",
            f"{seconds:.3f} s",
            "error" if view.status_code == _ERROR else "",
            _cost(attributes),
            *_named(attributes, "spanledger.session.id", "spanledger.run.id"),
            f"trace {view.trace_id.hex()} span {view.span_id.hex()}",
        ]
        yield "  " + ", ".join(part for part in parts if part)
        if detailed:
            yield from _detail(attributes)


def _logs(body: bytes, detailed: bool) -> Iterator[str]:  # noqa: FBT001
    for encoded in chain.from_iterable(group.items for group in parse_logs(body)):
        try:
            record = LogView.parse(encoded)
        except MalformedError:
            yield "  a log record that cannot be read"
            continue
        parts = [
            one_line(record.event_name, _LONGEST_NAME) or "a log record",
            f"severity {record.severity_number}" if record.severity_number else "",
            f"trace {record.trace_id.hex()} span {record.span_id.hex()}" if record.trace_id else "",
        ]
        yield "  " + ", ".join(part for part in parts if part)
        if detailed:
            yield from _detail(shown(record.attributes))


def _metrics(body: bytes, detailed: bool) -> Iterator[str]:  # noqa: ARG001, FBT001
    try:
        request = ExportMetricsServiceRequest.FromString(body)
    except DecodeError:  # text that is not UTF-8: allowed in our pipeline, not in this parser
        yield "  metrics whose names cannot be read"
        return
    for resource in request.resource_metrics:
        for metric in chain.from_iterable(scope.metrics for scope in resource.scope_metrics):
            data = metric.WhichOneof("data")
            points = len(getattr(metric, data).data_points) if data else 0
            yield f"  {one_line(metric.name, _LONGEST_NAME)}, {data or 'no data'}, {points} data points"


_ITEMS: Mapping[Signal, Callable[[bytes, bool], Iterator[str]]] = {
    "traces": _spans,
    "logs": _logs,
    "metrics": _metrics,
}


def _cost(attributes: Mapping[str, str]) -> str:
    if cost := attributes.get("spanledger.cost.usd"):
        return f"{cost} USD"
    reason = attributes.get("spanledger.cost.unpriced")
    return f"unpriced ({reason})" if reason else ""


def _named(attributes: Mapping[str, str], *keys: str) -> Iterator[str]:
    for key in keys:
        if key in attributes:
            yield f"{key.split('.')[1]} {attributes[key]}"


def _detail(attributes: Mapping[str, str]) -> Iterator[str]:
    return (f"    {key}: {value}" for key, value in attributes.items())
