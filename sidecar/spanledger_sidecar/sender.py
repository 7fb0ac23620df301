"""Send spans to an OTLP endpoint, or to the process that the sidecar runs in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spanledger_sidecar.spans import Span, readable

Post: TypeAlias = Callable[[bytes], bool]
"""Takes one encoded ExportTraceServiceRequest; true once it has been acknowledged."""

PROTOCOLS = ("grpc", "http/protobuf")
_TRACES_PATH = "/v1/traces"


class Sender(Protocol):
    """Hands spans over."""

    def send(self, spans: Sequence[Span]) -> bool:
        """Whether the other side has acknowledged all of `spans`. May block for as long as its timeout."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class InProcess:
    """Sends to a function of this process, without a socket."""

    post: Post

    def send(self, spans: Sequence[Span]) -> bool:
        return self.post(encode_spans([readable(span) for span in spans]).SerializeToString())

    def close(self) -> None:
        """There is nothing to close."""


class Otlp:
    """Sends with OpenTelemetry's own exporters; what they are not reported they take from OTEL_EXPORTER_OTLP_*."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def send(self, spans: Sequence[Span]) -> bool:
        return self._exporter.export([readable(span) for span in spans]) is SpanExportResult.SUCCESS

    def close(self) -> None:
        self._exporter.shutdown()


def otlp(endpoint: str | None, protocol: str | None, environ: Mapping[str, str]) -> Otlp:
    """A sender to `endpoint` by `protocol`; None: as OTEL_EXPORTER_OTLP_* say, else gRPC to localhost:4317.

    Raises:
        ValueError: a protocol that is not known.
    """
    given = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    chosen = protocol or given or PROTOCOLS[0]
    if chosen not in PROTOCOLS:
        raise ValueError(f"protocol {chosen}: use {' or '.join(PROTOCOLS)}")
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # the loop says it, once an outage
    if endpoint and "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    if chosen == "grpc":
        return Otlp(GrpcExporter(endpoint=endpoint))
    if endpoint and not endpoint.rstrip("/").endswith(_TRACES_PATH):
        endpoint = endpoint.rstrip("/") + _TRACES_PATH
    return Otlp(HttpExporter(endpoint=endpoint))
