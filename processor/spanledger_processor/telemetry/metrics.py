"""One observer for each room, over one registry: everything that the process counts about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from time import monotonic
from typing import TypeAlias

from spanledger_exporters.interface import Signal, Verdict
from spanledger_processor.ledger.rows import Row
from spanledger_processor.ledger.store import StateError, StoreUsage
from spanledger_processor.telemetry.log import on_suppressed
from spanledger_processor.telemetry.otlp import Tracer
from spanledger_processor.telemetry.registry import (
    Registry,
    label_text,
)
from spanledger_processor.telemetry.stage_metrics import StageMetrics
from spanledger_processor.telemetry.table import TABLE


class RequestMetrics:
    """Implements `receivers.driver.RequestObserver`.

    Requests, their answers and what they hold.
    """

    def __init__(self, registry: Registry, tracer: Tracer) -> None:
        self._registry = registry
        self._tracer = tracer

    def began(self) -> None:
        """Begin the span of a request; what this task and those that it starts do is done for it."""
        self._tracer.begin()

    def answered(self, signal: Signal, protocol: str, outcome: str, cause: str, seconds: float) -> None:
        """Count an answered request."""
        self._tracer.request(signal, protocol, outcome, cause, seconds)
        self._registry.count("requests_total", signal, protocol, outcome)
        self._registry.observe("request_duration_seconds", seconds, signal, protocol)
        if cause:
            self._registry.count("refused_requests_total", signal, protocol, cause)

    def received(self, signal: Signal, protocol: str, size: int) -> None:
        """Count a request that was read."""
        self._registry.count("received_bytes_total", signal, protocol, by=size)

    def in_flight(self, size: int) -> None:
        """Set the bytes held to `size`."""
        self._registry.set("in_flight_bytes", size)

    def internal_error(self, where: str) -> None:
        """Count a failure of ours."""
        self._registry.count("internal_errors_total", where)


class LedgerMetrics:
    """Implements `ledger.writer.LedgerObserver`, called on its thread.

    Commits, sizes, and whether the state can be written at all.
    """

    def __init__(self, registry: Registry) -> None:
        self.is_available = False
        self._registry = registry

    def committed(self, seconds: float, works: int, usage: StoreUsage) -> None:
        """Count a commit."""
        self._registry.observe("state_commit_duration_seconds", seconds)
        self._registry.observe("state_commit_requests", works)
        self._registry.set("state_used_bytes", usage.used_bytes)
        self._registry.set("state_map_bytes", usage.map_bytes)
        self._registry.set("state_records", usage.records)
        self._registry.set("state_evicted_records", usage.evicted)

    def available(self, available: bool) -> None:  # noqa: FBT001 - the writer's protocol
        """Set that the state can be written from now on, or cannot."""
        self.is_available = available
        self._registry.set("state_available", available)

    def read_correction(self, read: Callable[[], float]) -> None:
        """Let every scrape `read` the late correction in USD from the ledger; while it cannot be, the last one stands.

        It cannot be counted up from zero: it outlives the process.
        """

        def ask() -> None:
            try:
                self._registry.set("late_correction_usd_total", read())
            except StateError:
                return

        self._registry.before_scrape(ask)

    def read_budgets(self, read: Callable[[], Iterable[BudgetUse]]) -> None:
        """Let scrapes `read` what is used of budgets from the ledger, the most used first, for a tenth of the time at
        most; while it cannot be read, nothing is told of it.
        """
        next_at = 0.0

        def ask() -> None:
            nonlocal next_at
            began = monotonic()
            if began < next_at:
                return
            known: dict[tuple[str, ...], Row] = {}
            try:
                for names, row in read():
                    known.setdefault(tuple(map(label_text, names)), row)
            except StateError:
                known = {}
            for name, field in _OF_BUDGETS.items():
                self._registry.set_all(name, {names: row[field] for names, row in known.items()})
            next_at = monotonic() + _PAUSE * (monotonic() - began)

        self._registry.before_scrape(ask)


_PAUSE = 9
"""Times as long as it took to read what is used of budgets until it is read again."""
BudgetUse: TypeAlias = tuple[tuple[str, ...], Row]
"""Budget, period, tenant and value; and the row that the API has of it."""
_OF_BUDGETS = {
    "budget_used_usd": "used_usd",
    "budget_amount_usd": "amount_usd",
    "budget_used_ratio": "used",
    "budget_unpriced_calls": "unpriced_calls",
}
_BY_DESTINATION = tuple(row.name for row in TABLE if row.type == "counter" and row.labels == ("exporter", "signal"))


class DeliveryMetrics:
    """Implements `spanledger_exporters.DeliveryObserver`.

    Answers of destinations, and the items in them. Exporter names come from the configuration.
    """

    def __init__(self, registry: Registry, tracer: Tracer) -> None:
        self._registry = registry
        self._tracer = tracer

    def begin(self, exporter: str, signals: Iterable[Signal]) -> None:
        """Show the counters of a destination as 0 from the start; `signals` are those that it takes."""
        for name, signal in product(_BY_DESTINATION, signals):
            self._registry.begin(name, exporter, signal)

    def answered(self, exporter: str, signal: Signal, verdict: Verdict, items: int, seconds: float) -> None:
        """Count an answer of a destination."""
        self._tracer.export(exporter, signal, verdict.value, items, seconds)
        self._registry.count("export_requests_total", exporter, signal, verdict.value)

    def forwarded(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that a destination took."""
        self._registry.count("forwarded_items_total", exporter, signal, by=items)

    def rejected(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that a destination left out of a request that it accepted."""
        self._registry.count("export_rejected_items_total", exporter, signal, by=items)

    def refused(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that a destination refused for good."""
        self._registry.count("export_refused_items_total", exporter, signal, by=items)

    def retried(self, exporter: str, signal: Signal, attempts: int) -> None:
        """Count attempts after the first."""
        self._registry.count("export_retries_total", exporter, signal, by=attempts)

    def dropped(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that were not sent to a destination that is not required."""
        self._registry.count("export_dropped_items_total", exporter, signal, by=items)

    def queue(self, exporter: str, size: int, capacity: int) -> None:
        """Set the size of a queue, and its capacity."""
        self._registry.set("export_queue_size", size, exporter)
        self._registry.set("export_queue_capacity", capacity, exporter)

    def queue_refused(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that were not put into a queue."""
        self._registry.count("export_queue_refused_items_total", exporter, signal, by=items)

    def set_aside(self, exporter: str, segments: int) -> None:
        """Count damaged files of a queue that were set aside."""
        self._registry.count("export_queue_set_aside_total", exporter, by=segments)

    def unclaimed(self, signal: Signal, items: int) -> None:
        """Count items that were accepted and that no exporter takes."""
        self._registry.count("unclaimed_items_total", signal, by=items)


class Telemetry:
    """One observer for each room, over one registry.

    `window` is `state.retention.spans` in seconds, `budget` the bytes that may be in flight. Spend is also counted by
    each of `dimensions`, of which so many pairs of value and model are distinguished (`values`).
    """

    def __init__(
        self, version: str, *, window: float, budget: int, dimensions: Sequence[str] = (), values: int = 200
    ) -> None:
        self.registry = Registry(TABLE)
        self.tracer = Tracer()
        self.requests = RequestMetrics(self.registry, self.tracer)
        self.stage = StageMetrics(self.registry, int(window * 1e9), dimensions, values)
        self.ledger = LedgerMetrics(self.registry)
        self.delivery = DeliveryMetrics(self.registry, self.tracer)
        on_suppressed(lambda: self.registry.count("suppressed_log_lines_total"))
        self.registry.set("build_info", 1, version)
        self.registry.set("in_flight_budget_bytes", budget)
