"""Bodies of OTLP responses in either encoding, and the partial success that they report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanledger_exporters.interface import ACCEPTED, Result, Signal, Verdict, one_line

Parsed = TypeVar("Parsed", bound=Message)

PROTOBUF, JSON = "application/x-protobuf", "application/json"

LONGEST_WAIT = 3600.0
"""Seconds: a destination that asks for more is asked again after this long."""


@dataclass(frozen=True, slots=True)
class Body:
    """The body of an answer, as far as it was read."""

    content: bytes
    media_type: str

    def parse(self, message: Parsed) -> Parsed | None:
        """`message`, filled from the body; None where the body is none such."""
        try:
            if self.media_type == PROTOBUF:
                message.ParseFromString(self.content)
            elif self.media_type == JSON:
                json_format.Parse(self.content, message, ignore_unknown_fields=True)
            else:
                return None
        except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError):
            return None
        return message


def reason(status: str, message: str) -> str:
    """Return the reason of a failure, for people."""
    return f"{status}: {one_line(message)}" if message else status


Response: TypeAlias = ExportTraceServiceResponse | ExportLogsServiceResponse | ExportMetricsServiceResponse

_RESPONSES: Mapping[Signal, tuple[type[Response], str]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
}


def success(signal: Signal, body: Body) -> Result:
    """Accepted, with what the answer says of items that were not. An answer that cannot be read says nothing."""
    if not body.content:
        return ACCEPTED
    message, rejected = _RESPONSES[signal]
    response = body.parse(message())
    if response is None:
        return ACCEPTED
    partial = response.partial_success
    reason = one_line(partial.error_message)
    return Result(Verdict.ACCEPTED, reason, rejected=max(0, getattr(partial, rejected)))
