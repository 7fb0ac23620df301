"""The metrics of the table as collectors, label values kept from growing without end, and the scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple, TypeAlias, TypeVar

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
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.samples import Exemplar

from spanledger_processor.telemetry.table import OTHER, PREFIX, MetricRow, MetricType

_LONGEST = 120
"""Characters of a label value that are kept."""
_NONE = "unknown"
"""The label value of what has none."""


class BoundedLabels:
    """Lets the first `limit` distinct tuples of values through; every later one becomes "other"."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[tuple[str, ...]] = set()

    def __call__(self, *values: str) -> tuple[str, ...]:
        if values in self._known:
            return values
        clean = tuple(_clean(value) for value in values)
        if clean in self._known:
            return clean
        if len(self._known) >= self._limit:
            return (OTHER,) * len(values)
        self._known.add(clean)
        return clean


class LabelsByTenant:
    """`BoundedLabels` of each tenant, so that names of one take no room from another's; late tenants share one."""

    def __init__(self, limit: int, tenants: int = 32) -> None:
        self._limit = limit
        self._most = tenants
        self._of: dict[bytes, BoundedLabels] = {}
        self._late = BoundedLabels(limit)

    def __call__(self, tenant: bytes) -> BoundedLabels:
        known = self._of.get(tenant)
        if known is None and len(self._of) < self._most:
            known = self._of[tenant] = BoundedLabels(self._limit)
        return known or self._late


def quoted(value: str) -> str:
    """Return a name as a label value; one that reads like the word for none or for all others stands in quotes."""
    return f'"{value}"' if value in (OTHER, _NONE) or value.startswith('"') else value


def label_text(value: str) -> str:
    """Return a name as the value of a label; empty for none."""
    return _clean(value) if value else ""


def _clean(value: str) -> str:
    """Return text that is allowed in a scrape: valid UTF-8, no control characters, not long, never empty."""
    return _printable(value[:_LONGEST])


@lru_cache(maxsize=1024)
def _printable(value: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in value) or _NONE


class CountedSpan(NamedTuple):
    """A span that was counted, the exemplar of a counter: what was added for it, and when (seconds since 1970)."""

    trace_id: bytes
    span_id: bytes
    amount: float
    at: float


_LabelValues: TypeAlias = tuple[tuple[str, str], ...]
_ENDINGS = ("_total", "_bucket", "_count", "_sum")
"""What a sample's name adds to its metric's."""

_Metric = TypeVar("_Metric", bound=MetricWrapperBase)

MetricQuestion: TypeAlias = Callable[[], None]
"""Called before metrics are read, to set what is read from elsewhere."""


ExemplarRow: TypeAlias = Sequence[Any] | None
"""Trace id and span id in hexadecimal, amount and time in seconds, as JSON takes them."""
Samples: TypeAlias = Sequence[tuple[str, Sequence[Sequence[str]], float, ExemplarRow]]
"""Name, labels with their values, value and exemplar of each sample."""


class _Merged:
    """A registry whose samples have those of others added: counts add up, and so do the gauges of processes."""

    def __init__(self, registry: CollectorRegistry, others: Iterable[Samples]) -> None:
        self._registry = registry
        self._others: dict[tuple[str, _LabelValues], float] = {}
        self._exemplars: dict[tuple[str, _LabelValues], Exemplar] = {}
        for samples in others:
            for name, labels, value, exemplar in samples:
                key = (name, _labels(labels))
                self._others[key] = self._others.get(key, 0.0) + value
                if exemplar is not None:
                    trace_id, span_id, *rest = exemplar
                    other = Exemplar({"trace_id": trace_id, "span_id": span_id}, *rest)
                    self._exemplars[key] = _later(self._exemplars.get(key), other)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric there is, with what others have of it."""
        for metric in self._registry.collect():
            if metric.name != f"{PREFIX}build_info":
                self._add(metric)
            yield metric

    def _add(self, metric: Metric) -> None:
        own = {(sample.name, _labels(sample.labels.items())) for sample in metric.samples}
        names = {metric.name, *(metric.name + ending for ending in _ENDINGS)}
        metric.samples = [
            sample._replace(value=sample.value + self._others.get(key, 0.0), exemplar=self._exemplars.get(key))
            for sample in metric.samples
            for key in [(sample.name, _labels(sample.labels.items()))]
        ]
        for (name, labels), value in self._others.items():
            if name in names and (name, labels) not in own:
                metric.add_sample(name, dict(labels), value, exemplar=self._exemplars.get((name, labels)))


class Registry:
    """One collector for each row, by the row's name, beside the process's own metrics."""

    def __init__(self, rows: Iterable[MetricRow]) -> None:
        self._rows = tuple(rows)
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._collectors = {row.name: _collector(row, self._registry) for row in self._rows}
        self._children: dict[tuple[str, tuple[str, ...]], MetricWrapperBase] = {}
        """By name and labels, as the collectors have them, which take a lock to look for one."""
        self._counted: dict[tuple[str, tuple[str, ...]], float] = {}
        """By name and labels: what was added to counters since they were read last."""
        self._examples: dict[tuple[str, tuple[str, ...]], CountedSpan] = {}
        """The latest exemplar of each."""
        self._set_to: dict[tuple[str, tuple[str, ...]], float] = {}
        """By name and labels: what gauges were set to last."""
        self._counting = Lock()
        for row in self._rows:
            for values in row.beginnings:
                self._collectors[row.name].labels(*values)
        self._questions: list[MetricQuestion] = []
        self._added_up: list[MetricQuestion] = []
        self._gone: Samples = []
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def count(self, name: str, *labels: str, by: float = 1, of: CountedSpan | None = None) -> None:
        """Add to a counter. `labels` are values in the row's order; `of` is a span that was counted, its exemplar."""
        series = name, labels
        if series not in self._children:
            self._child(Counter, name, labels)
        if by < 0:
            raise ValueError(f"{name} is a counter, which does not go down")
        with self._counting:
            self._counted[series] = self._counted.get(series, 0) + by
        if of is not None:
            self._examples[series] = of

    def _enter(self) -> None:
        """Enter what was counted and set into the collectors, which take several times as long for it."""
        for count in self._added_up:
            count()
        with self._counting:
            counted, self._counted = self._counted, {}
        for series, amount in counted.items():
            self._child(Counter, *series).inc(amount)
        for series, value in [*self._set_to.items()]:
            self._child(Gauge, *series).set(value)

    def _exemplars(self) -> Samples:
        """Return the exemplars of this process's counters, as samples that add nothing."""
        names = {row.name: row.labels for row in self._rows}
        return [
            (PREFIX + name, sorted(zip(names[name], labels, strict=True)), 0.0, [one.hex(), other.hex(), amount, at])
            for (name, labels), (one, other, amount, at) in [*self._examples.items()]
        ]

    def begin(self, name: str, *labels: str) -> None:
        """Show a counter as 0 until it counts something."""
        self._child(Counter, name, labels)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        series = name, labels
        if series not in self._children:
            self._child(Gauge, name, labels)
        self._set_to[series] = value

    def set_all(self, name: str, values: Mapping[tuple[str, ...], float]) -> None:
        """Set a gauge to these values by labels; series that it has besides end."""
        with self._counting:
            for series in [one for one in self._set_to if one[0] == name and one[1] not in values]:
                del self._set_to[series], self._children[series]
                self._collectors[name].remove(*series[1])
        for labels, value in values.items():
            self.set(name, value, *labels)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add one observation to a histogram."""
        self._child(Histogram, name, labels).observe(value)

    def before_reading(self, count: MetricQuestion) -> None:
        """Call `count` whenever the counters are read, also for another process: it counts what it has added up."""
        self._added_up.append(count)

    def before_scrape(self, question: MetricQuestion) -> None:
        """Call `question` before every scrape; it sets gauges. What it raises fails the scrape."""
        self._questions.append(question)

    def scrape(self, others: Iterable[Samples] = (), *, as_openmetrics: bool = False) -> bytes:
        """Return everything in the Prometheus text format, or in that of OpenMetrics, which has exemplars.

        `others` are the samples of other processes, which are added to this one's.
        """
        if as_openmetrics:
            whole: bytes = openmetrics(self._merged(others))  # type: ignore[no-untyped-call]
            return whole
        return generate_latest(self._merged(others))

    def families(self, others: Iterable[Samples] = ()) -> list[Metric]:
        """Return what a scrape returns, less the metrics of the Python process, as families."""
        return [family for family in self._merged(others).collect() if family.name.startswith(PREFIX)]

    def _merged(self, others: Iterable[Samples]) -> _Merged:
        for question in self._questions:
            question()
        self._enter()
        return _Merged(self._registry, [*others, self._gone, self._exemplars()])

    def samples(self) -> Samples:
        """Return the metrics of the table, for another process to add to its own."""
        self._enter()
        values: Samples = [
            (sample.name, sorted(sample.labels.items()), sample.value, None)
            for collector in self._collectors.values()
            for metric in collector.collect()
            for sample in metric.samples
        ]
        return [*values, *self._exemplars()]

    def keep_counters(self, samples: Samples) -> None:
        """Keep what another process counted, which has gone: counters do not go back. Its gauges go with it."""
        gauges = {PREFIX + row.name for row in self._rows if row.type == "gauge"}
        kept = {(name, _labels(labels)): value for name, labels, value, _ in self._gone}
        for name, labels, value, _ in samples:
            if name not in gauges:
                kept[name, _labels(labels)] = kept.get((name, _labels(labels)), 0.0) + value
        self._gone = [(name, labels, value, None) for (name, labels), value in kept.items()]

    def _child(self, kind: type[_Metric], name: str, labels: tuple[str, ...]) -> _Metric:
        child = self._children.get((name, labels))
        if child is None:
            collector = self._collectors[name]
            child = self._children[name, labels] = collector.labels(*labels) if labels else collector
        assert isinstance(child, kind), f"{name} is no {kind.__name__}"
        return child


def _later(one: Exemplar | None, other: Exemplar) -> Exemplar:
    return one if one is not None and float(one.timestamp or 0) > float(other.timestamp or 0) else other


def _labels(labels: Iterable[Sequence[str]]) -> _LabelValues:
    return tuple(sorted((name, value) for name, value in labels))


def _collector(row: MetricRow, registry: CollectorRegistry) -> MetricWrapperBase:
    name = PREFIX + row.name
    if row.buckets:
        return Histogram(name, row.description, row.labels, buckets=row.buckets, registry=registry)
    kinds: dict[MetricType, type[Counter | Gauge]] = {"counter": Counter, "gauge": Gauge}
    return kinds[row.type](name, row.description, row.labels, registry=registry)
