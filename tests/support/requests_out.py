"""Exporters and deliveries while a test needs them, requests to send, and an observer that counts their results."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from spanledger_exporters import Delivery, Exporter, build
from spanledger_exporters.interface import Signal, Verdict
from spanledger_exporters.settings import TYPES, ExporterSettings
from tools.programs import PATIENCE

_LOOKS_AGAIN_S = 0.1


def settings(kind: str, **given: Any) -> ExporterSettings:
    """Settings as a configuration file gives them."""
    return TYPES[kind].model_validate(given)


@asynccontextmanager
async def exporting(name: str, **given: Any) -> AsyncIterator[Exporter]:
    """Run the exporter `name` (its kind, or the kind, a slash and a name) with these settings."""
    exporter = build(name, settings(name.partition("/")[0], **given))
    await exporter.start()
    try:
        yield exporter
    finally:
        await exporter.close()


@asynccontextmanager
async def delivering(*exporters: Exporter, counts: Counts | None = None, **more: Any) -> AsyncIterator[Delivery]:
    """Run a delivery to these exporters."""
    delivery = Delivery(exporters, counts or Counts(), **more)
    await delivery.start()
    try:
        yield delivery
    finally:
        await delivery.close(grace=PATIENCE)


def soon(seconds: float = PATIENCE) -> float:
    """A deadline."""
    return asyncio.get_running_loop().time() + seconds


_LOOKING: set[asyncio.Event] = set()
"""One for each `until` that waits."""


def happened() -> None:
    """Have each `until` of this loop look again."""
    for event in _LOOKING:
        event.set()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another task is about to do.

    It looks at once when a backend got a request or `Counts` were told of something, and else now and then.
    """
    event = asyncio.Event()
    _LOOKING.add(event)
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                with suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), _LOOKS_AGAIN_S)
                event.clear()
    finally:
        _LOOKING.discard(event)


def spans(*names: str, **attributes: str | float) -> bytes:
    """A trace request with one span of each name, all with these attributes (`__` in a key stands for a dot)."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number, name in enumerate(names, 1):
        span = scope.spans.add(name=name, trace_id=bytes(15) + b"\1", span_id=number.to_bytes(8, "big"))
        span.start_time_unix_nano, span.end_time_unix_nano = 10**18, 10**18 + 1_500_000_000
        for key, value in attributes.items():
            span.attributes.append(KeyValue(key=key.replace("__", "."), value=_any(value)))
    return request.SerializeToString()


def log_records(*bodies: str) -> bytes:
    """A log request with one record of each body."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for body in bodies:
        scope.log_records.add(body=AnyValue(string_value=body), event_name="user_prompt", severity_number=9)
    return request.SerializeToString()


def data_points(count: int) -> bytes:
    """A metrics request with one sum of so many points."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="tokens")
    for value in range(count):
        metric.sum.data_points.add(as_int=value)
    return request.SerializeToString()


def _any(value: str | float) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)


class _Counter(Counter[tuple[str, ...]]):
    def __setitem__(self, labels: tuple[str, ...], count: int) -> None:
        super().__setitem__(labels, count)
        happened()


@dataclass
class Counts:
    """Implements `spanledger_exporters.DeliveryObserver`: one counter for each kind of event and its labels."""

    of: Counter[tuple[str, ...]] = field(default_factory=_Counter)
    queues: dict[str, int] = field(default_factory=dict)
    """The size of each queue."""

    def answered(self, exporter: str, signal: Signal, verdict: Verdict, items: int, seconds: float) -> None:
        self.of["answered", exporter, signal, verdict.value] += 1

    def forwarded(self, exporter: str, signal: Signal, items: int) -> None:
        self.of["forwarded", exporter, signal] += items

    def rejected(self, exporter: str, signal: Signal, items: int) -> None:
        self.of["rejected", exporter, signal] += items

    def refused(self, exporter: str, signal: Signal, items: int) -> None:
        self.of["refused", exporter, signal] += items

    def retried(self, exporter: str, signal: Signal, attempts: int) -> None:
        self.of["retried", exporter, signal] += attempts

    def dropped(self, exporter: str, signal: Signal, items: int) -> None:
        self.of["dropped", exporter, signal] += items

    def queue(self, exporter: str, size: int, capacity: int) -> None:
        self.queues[exporter] = size
        happened()

    def queue_refused(self, exporter: str, signal: Signal, items: int) -> None:
        self.of["queue_refused", exporter, signal] += items

    def set_aside(self, exporter: str, segments: int) -> None:
        self.of["set_aside", exporter] += segments

    def unclaimed(self, signal: Signal, items: int) -> None:
        self.of["unclaimed", signal] += items
