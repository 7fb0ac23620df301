"""The metrics of the table as collectors, label values kept from growing without end, and the scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase

from spanledger_processor.telemetry.table import PREFIX, Row, Type

OTHER = "other"

_LONGEST = 120
"""Characters of a label value that are kept."""


class Bounded:
    """Lets the first `limit` distinct tuples of values through; every later one becomes "other"."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[tuple[str, ...]] = set()

    def __call__(self, *values: str) -> tuple[str, ...]:
        clean = tuple(_clean(value) for value in values)
        if clean in self._known:
            return clean
        if len(self._known) >= self._limit:
            return (OTHER,) * len(values)
        self._known.add(clean)
        return clean


def _clean(value: str) -> str:
    """What may stand in a scrape: valid UTF-8, no control characters, not long, never empty."""
    kept = "".join(char if char.isprintable() else "?" for char in value[:_LONGEST])
    return kept or "unknown"


_Metric = TypeVar("_Metric", bound=MetricWrapperBase)

Question: TypeAlias = Callable[[], None]
"""Called before every scrape, to set what is read from elsewhere."""


class Registry:
    """One collector a row, found by the row's name; the process's own metrics stand beside them."""

    def __init__(self, rows: Iterable[Row]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._collectors = {row.name: _collector(row, self._registry) for row in rows}
        self._questions: list[Question] = []
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter. `labels` are values in the row's order."""
        self._child(Counter, name, labels).inc(by)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._child(Gauge, name, labels).set(value)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add one observation to a histogram."""
        self._child(Histogram, name, labels).observe(value)

    def ask(self, question: Question) -> None:
        """Call `question` before every scrape; it sets gauges. What it raises fails the scrape."""
        self._questions.append(question)

    def scrape(self) -> bytes:
        """Everything in the Prometheus text format (`prometheus_client.CONTENT_TYPE_LATEST`)."""
        for question in self._questions:
            question()
        return generate_latest(self._registry)

    def _child(self, kind: type[_Metric], name: str, labels: tuple[str, ...]) -> _Metric:
        collector = self._collectors[name]
        assert isinstance(collector, kind), f"{name} is no {kind.__name__}"
        return collector.labels(*labels) if labels else collector


def _collector(row: Row, registry: CollectorRegistry) -> MetricWrapperBase:
    name = PREFIX + row.name
    if row.buckets:
        return Histogram(name, row.description, row.labels, buckets=row.buckets, registry=registry)
    kinds: dict[Type, type[Counter | Gauge]] = {"counter": Counter, "gauge": Gauge}
    return kinds[row.type](name, row.description, row.labels, registry=registry)
