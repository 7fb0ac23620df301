"""What other packages may import from the top."""

from __future__ import annotations

import pytest

import spanledger_exporters
from requests_out import settings
from spanledger_exporters import DestinationError, ExporterError, build
from spanledger_exporters.settings import TYPES

LEAST: dict[str, dict[str, str]] = {
    "otlp_grpc": {"endpoint": "localhost:4317"},
    "otlp": {"endpoint": "localhost:4317"},
    "otlp_http": {"endpoint": "http://localhost:4318"},
    "otlphttp": {"endpoint": "http://localhost:4318"},
    "file": {"path": "spans.jsonl"},
    "debug": {},
}
"""The least that each type must be given."""


def test_exported_names() -> None:
    """A name more or less here is a change of the interface."""
    assert set(spanledger_exporters.__all__) == {
        "ACCEPTED",
        "Delivery",
        "DeliveryObserver",
        "DestinationError",
        "Exporter",
        "ExporterError",
        "Result",
        "Signal",
        "Verdict",
        "build",
    }
    assert all(hasattr(spanledger_exporters, name) for name in spanledger_exporters.__all__)


def test_errors_have_one_base() -> None:
    assert issubclass(DestinationError, ExporterError)
    assert str(DestinationError("otlp/x", "tls.ca_file: gone")) == "exporters.otlp/x: tls.ca_file: gone"


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_can_be_built(kind: str) -> None:
    exporter = build(f"{kind}/name", settings(kind, **LEAST[kind], required=False, signals=["traces"]))
    assert (exporter.name, exporter.required, [*exporter.signals]) == (f"{kind}/name", False, ["traces"])
