"""Destinations of telemetry: one module per kind of destination behind one small interface."""

from spanledger_exporters.delivery import Delivery, build
from spanledger_exporters.interface import (
    ACCEPTED,
    DeliveryObserver,
    DestinationError,
    Exporter,
    ExporterError,
    Result,
    Signal,
    Verdict,
)

__all__ = [
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
]
