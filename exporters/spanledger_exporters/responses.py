"""Read OTLP responses: bodies in either encoding, partial success, and a hint where a failure gives its cause away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar

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
        """Return `message`, filled from the body; None where the body is none such."""
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
    """Return the result of a success, with the rejected items of its body, if that can be read."""
    if not body.content:
        return ACCEPTED
    message, rejected = _RESPONSES[signal]
    response = body.parse(message())
    if response is None:
        return ACCEPTED
    partial = response.partial_success
    reason = one_line(partial.error_message)
    return Result(Verdict.ACCEPTED, reason, rejected=max(0, getattr(partial, rejected)))


Protocol: TypeAlias = Literal["grpc", "https", "http", "grpc without TLS"]

_NO_GRPC = (
    "what answers there is no gRPC, perhaps OTLP/HTTP: send to its gRPC port (4317 unless configured), or use otlp_http"
)
_NO_HTTP = (
    "what answers there is no HTTP, perhaps gRPC: send to its HTTP port (4318 unless configured), or use otlp_grpc"
)
_NO_SERVICE = "this destination takes no {signal}: leave {signal} out of the exporter's signals"
_UNKNOWN_AUTHORITY = "put the authority that signed the destination's certificate into tls.ca_file"
_OTHER_NAME = "the certificate is for another name: set tls.server_name_override to it"

_HINTS: Mapping[Protocol, tuple[tuple[str, str], ...]] = {
    "grpc": (
        ("WRONG_VERSION_NUMBER", "the destination speaks no TLS: set tls.insecure to true, or write http:// in front"),
        ("CERTIFICATE_VERIFY_FAILED|unable to get local issuer", _UNKNOWN_AUTHORITY),
        ("Hostname Verification|Peer name .* is not in", _OTHER_NAME),
        ("Failed parsing HTTP/2|http1|No ALPN|ALPN", _NO_GRPC),
        ("^UNIMPLEMENTED", _NO_SERVICE),
    ),
    "grpc without TLS": (
        ("Failed parsing HTTP/2|http1", _NO_GRPC),
        ("Connection reset|Socket closed", "if the destination speaks TLS, leave tls.insecure out, or write https://"),
        ("^UNIMPLEMENTED", _NO_SERVICE),
    ),
    "https": (
        ("WRONG_VERSION_NUMBER", "the destination speaks no TLS at this port: write http://, or give its TLS port"),
        ("CERTIFICATE_VERIFY_FAILED.*(?:ostname|IP address) mismatch", _OTHER_NAME),
        ("CERTIFICATE_VERIFY_FAILED", _UNKNOWN_AUTHORITY),
        ("^HTTP 404", "nothing takes {signal} at this URL: correct its path, or leave {signal} out of signals"),
    ),
    "http": (
        ("illegal request line|illegal status line", _NO_HTTP),
        ("^ReadError|disconnected", "if the destination speaks TLS, write https://; if gRPC, use otlp_grpc"),
        ("^HTTP 404", "nothing takes {signal} at this URL: correct its path, or leave {signal} out of signals"),
    ),
}
"""By how it was spoken to: a pattern in the reason of a failure, and what is to be done."""


def with_hint(result: Result, protocol: Protocol, signal: Signal) -> Result:
    """Return the result of a send, with a hint in the reason of a failure that is known."""
    if result.verdict is Verdict.ACCEPTED:
        return result
    for pattern, hint in _HINTS[protocol]:
        if re.search(pattern, result.reason):
            return replace(result, reason=f"{result.reason} ({hint.format(signal=signal)})")
    return result
