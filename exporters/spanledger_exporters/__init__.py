"""Where enriched telemetry goes: one module per kind of destination behind one small interface."""

from spanledger_exporters.build import build
from spanledger_exporters.delivery import Delivery
from spanledger_exporters.errors import DestinationError, ExporterError
from spanledger_exporters.interface import ACCEPTED, Exporter, Outcome, Signal, Verdict
from spanledger_exporters.observer import Observer

__all__ = [
    "ACCEPTED",
    "Delivery",
    "DestinationError",
    "Exporter",
    "ExporterError",
    "Observer",
    "Outcome",
    "Signal",
    "Verdict",
    "build",
]
