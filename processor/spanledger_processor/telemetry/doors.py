"""Counts what comes in at the doors; implements `receivers.observer.Observer`."""

from __future__ import annotations

from spanledger_exporters.interface import Signal
from spanledger_processor.telemetry.registry import Registry


class Doors:
    """Requests, their answers and what they hold."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def answered(self, signal: Signal, protocol: str, outcome: str, cause: str, seconds: float) -> None:
        """A request got its answer."""
        self._registry.count("requests_total", signal, protocol, outcome)
        self._registry.observe("request_duration_seconds", seconds, signal, protocol)
        if cause:
            self._registry.count("refused_requests_total", signal, protocol, cause)

    def received(self, signal: Signal, protocol: str, size: int) -> None:
        """A request was read."""
        self._registry.count("received_bytes_total", signal, protocol, by=size)

    def in_flight(self, size: int) -> None:
        """Bytes held have become `size`."""
        self._registry.set("in_flight_bytes", size)

    def internal_error(self, where: str) -> None:
        """Something of ours failed."""
        self._registry.count("internal_errors_total", where)
