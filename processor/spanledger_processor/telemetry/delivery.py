"""Counts what goes out; implements `spanledger_exporters.interface.Observer`."""

from __future__ import annotations

from spanledger_exporters.interface import Signal, Verdict
from spanledger_processor.telemetry.registry import Registry


class Delivery:
    """Answers of destinations, and the items in them. Exporter names come from the configuration."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def answered(self, exporter: str, signal: Signal, verdict: Verdict) -> None:
        """A destination answered one request."""
        self._registry.count("export_requests_total", exporter, signal, verdict.value)

    def forwarded(self, exporter: str, signal: Signal, items: int) -> None:
        """A destination took items."""
        self._registry.count("forwarded_items_total", exporter, signal, by=items)

    def rejected(self, exporter: str, signal: Signal, items: int) -> None:
        """A destination left items out of a request that it accepted."""
        self._registry.count("export_rejected_items_total", exporter, signal, by=items)

    def retried(self, exporter: str, signal: Signal, attempts: int) -> None:
        """Attempts after the first."""
        self._registry.count("export_retries_total", exporter, signal, by=attempts)

    def dropped(self, exporter: str, signal: Signal, items: int) -> None:
        """Items were not sent to a destination that is not required."""
        self._registry.count("export_dropped_items_total", exporter, signal, by=items)

    def unclaimed(self, signal: Signal, items: int) -> None:
        """Items were accepted that no exporter takes."""
        self._registry.count("unclaimed_items_total", signal, by=items)
