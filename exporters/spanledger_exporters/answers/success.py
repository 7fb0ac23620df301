"""What a success says: that all was taken, or all but some items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanledger_exporters.answers.body import Body
from spanledger_exporters.interface import ACCEPTED, Outcome, Signal, Verdict
from spanledger_exporters.text import one_line

Response: TypeAlias = ExportTraceServiceResponse | ExportLogsServiceResponse | ExportMetricsServiceResponse

_RESPONSES: Mapping[Signal, tuple[type[Response], str]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
}


def success(signal: Signal, body: Body) -> Outcome:
    """Accepted, with what the answer says of items that were not. An answer that cannot be read says nothing."""
    if not body.content:
        return ACCEPTED
    message, rejected = _RESPONSES[signal]
    response = body.parse(message())
    if response is None:
        return ACCEPTED
    partial = response.partial_success
    reason = one_line(partial.error_message)
    return Outcome(Verdict.ACCEPTED, reason, rejected=max(0, getattr(partial, rejected)))
