"""Counts what the ledger does; implements `state.writer.Observer`, whose calls come from the writer's thread."""

from __future__ import annotations

from collections.abc import Callable

from spanledger_processor.ledger.store import StateError, Usage
from spanledger_processor.telemetry.registry import Registry


class Ledger:
    """Commits, sizes, and whether the state can be written at all."""

    def __init__(self, registry: Registry) -> None:
        self.is_available = False
        self._registry = registry

    def committed(self, seconds: float, works: int, usage: Usage) -> None:
        """A commit landed."""
        self._registry.observe("state_commit_duration_seconds", seconds)
        self._registry.observe("state_commit_requests", works)
        self._registry.set("state_used_bytes", usage.used_bytes)
        self._registry.set("state_map_bytes", usage.map_bytes)
        self._registry.set("state_records", usage.records)

    def available(self, available: bool) -> None:  # noqa: FBT001 - the writer's protocol
        """The state can be written from now on, or cannot."""
        self.is_available = available
        self._registry.set("state_available", available)

    def read_correction(self, read: Callable[[], float]) -> None:
        """At every scrape, `read` the late correction in USD from the ledger; while it cannot be, the last one stands.

        It cannot be counted up from zero: it outlives the process.
        """

        def ask() -> None:
            try:
                self._registry.set("late_correction_usd_total", read())
            except StateError:
                return

        self._registry.ask(ask)
