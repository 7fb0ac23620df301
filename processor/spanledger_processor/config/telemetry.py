"""`telemetry`: what Spanledger sends about itself, in the Collector's vocabulary (`service.telemetry`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr

from spanledger_exporters.interface import Signal
from spanledger_exporters.settings import ExporterSettings, Headers, OtlpGrpcSettings, OtlpHttpSettings, Url
from spanledger_processor.config.section import NULL_IS_DEFAULT, Count, Section


def _named(given: Any) -> Any:
    """Return headers as a mapping, which the Collector writes as a list of `name` and `value`."""
    if isinstance(given, list) and all(isinstance(each, dict) and set(each) == {"name", "value"} for each in given):
        return {each["name"]: each["value"] for each in given}
    return given


class OwnOtlp(Section):
    """Where it goes by OTLP."""

    protocol: Literal["http/protobuf", "grpc"] = Field(default="http/protobuf", description="http/protobuf or grpc.")
    endpoint: Url = Field(
        description="URL. Over HTTP `/v1/metrics` or `/v1/traces` is added to one without a path; over gRPC https:// "
        "means TLS."
    )
    headers: Annotated[Mapping[str, SecretStr], BeforeValidator(_named)] = Field(
        default_factory=dict, description="Sent with every request; a list of `name` and `value`, or a section."
    )
    compression: Literal["gzip", "none"] = Field(default="gzip", description="gzip or none.")
    timeout: Count = Field(default=10000, description="Milliseconds for one attempt.")

    def settings(self, signal: Signal) -> ExporterSettings:
        """Return the settings of an exporter that sends there."""
        headers: Headers = self.headers
        shared = {"headers": headers, "compression": self.compression, "timeout": f"{self.timeout}ms"}
        if self.protocol == "grpc":
            return OtlpGrpcSettings.model_validate({"endpoint": self.endpoint, **shared})
        whole = urlsplit(self.endpoint).path not in ("", "/")
        key = f"{signal}_endpoint" if whole else "endpoint"
        return OtlpHttpSettings.model_validate({key: self.endpoint, "signals": [signal], **shared})


class OwnExporter(Section):
    """The exporter of a reader or a processor."""

    otlp: OwnOtlp = Field(description="OTLP, the only one.")


class Periodic(Section):
    """Metrics, every so often."""

    interval: Count = Field(default=60000, description="Milliseconds between two exports.")
    exporter: OwnExporter = Field(description="Where they go.")


class Reader(Section):
    """One way out for metrics."""

    periodic: Periodic = Field(description="Pushed; `/metrics` is there to be scraped beside it.")


class OwnMetrics(Section):
    """Metrics by OTLP: those of `/metrics`."""

    readers: tuple[Reader, ...] = Field(default=(), description="Ways out; none: only `/metrics`.")


class Batch(Section):
    """Spans in batches."""

    schedule_delay: Count = Field(default=5000, description="Milliseconds between two exports.")
    max_queue_size: Count = Field(default=2048, description="Spans kept until then; what is more is left out.")
    exporter: OwnExporter = Field(description="Where they go.")


class SpanProcessor(Section):
    """One way out for spans."""

    batch: Batch = Field(description="In batches.")


class OwnTraces(Section):
    """A span for each request received, and below it one for each exporter's answer. No content is in them."""

    processors: tuple[SpanProcessor, ...] = Field(default=(), description="Ways out; none: no spans are made.")


class OwnTelemetry(Section):
    """Spanledger about itself."""

    resource: Mapping[str, str] = Field(
        default_factory=dict, description="Resource attributes, over `service.name`, `.version` and `.instance.id`."
    )
    metrics: Annotated[OwnMetrics, NULL_IS_DEFAULT] = Field(default_factory=OwnMetrics, description="Metrics by OTLP.")
    traces: Annotated[OwnTraces, NULL_IS_DEFAULT] = Field(default_factory=OwnTraces, description="Traces by OTLP.")
