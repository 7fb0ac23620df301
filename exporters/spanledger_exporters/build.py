"""From settings to an exporter."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from spanledger_exporters.interface import Exporter
from spanledger_exporters.retry import Retrying
from spanledger_exporters.settings import (
    DebugSettings,
    ExporterSettings,
    FileSettings,
    OtlpGrpcSettings,
    OtlpHttpSettings,
)

_EXPORTERS: Mapping[type[ExporterSettings], tuple[str, str]] = {
    OtlpGrpcSettings: ("otlp_grpc", "OtlpGrpc"),
    OtlpHttpSettings: ("otlp_http", "OtlpHttp"),
    FileSettings: ("file", "File"),
    DebugSettings: ("debug", "Debug"),
}
"""Module and class, imported when first built: gRPC and an HTTP client take long to load, and few need both."""


def build(name: str, settings: ExporterSettings) -> Exporter:
    """The exporter with component id `name` that these settings (one of `settings.TYPES`) describe, not yet started."""
    module, made = _EXPORTERS[type(settings)]
    exporter: Exporter = getattr(import_module(f"spanledger_exporters.{module}"), made)(name, settings)
    retries = getattr(settings, "retry_on_failure", None)
    return Retrying(exporter, retries) if retries is not None and retries.enabled else exporter
