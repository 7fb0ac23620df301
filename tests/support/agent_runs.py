"""Recorded runs of coding agents with all their signals, moved to now and labelled so that a shared backend finds them.

Ids stay as recorded: a run is sent once to a ledger.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from captures import FOLDER, captures
from gaps import reported_calls
from replays import LABEL, spans_of

AGENTS = ("claude-code", "codex", "gemini-cli")
_REQUESTS: Mapping[str, Any] = {
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
_RESOURCES = {"logs": "resource_logs", "metrics": "resource_metrics", "traces": "resource_spans"}


@dataclass(frozen=True, slots=True)
class AgentRun:
    """One run: `requests` are signal and body in recorded order, `cost` (USD), `calls` and `tokens` the truth.

    `label` is the resource attribute `replay` of everything in it.
    """

    label: str
    requests: tuple[tuple[str, bytes], ...]
    cost: Decimal
    calls: int
    tokens: Counter[str]

    @property
    def records(self) -> Counter[bytes]:
        """Every log record, encoded, with how often it was sent."""
        return records(body for signal, body in self.requests if signal == "logs")


def runs() -> list[str]:
    """Names of all recorded runs."""
    return [capture.name for capture in captures() if capture.name.partition("/")[0] in AGENTS]


def prepare_run(name: str) -> AgentRun:
    """The run `name`, ended a second ago."""
    requests = [(signal, _REQUESTS[signal].FromString(body)) for signal, body in _recorded(name)]
    shift = time.time_ns() - 10**9 - max(_times(requests))
    label = f"{name.replace('/', '-')}-{secrets.token_hex(4)}"
    for signal, request in requests:
        for group in getattr(request, _RESOURCES[signal]):
            group.resource.attributes.add(key=LABEL).value.string_value = label
        _shift(signal, request, shift)
    (capture,) = (capture for capture in captures() if capture.name == name)
    calls = reported_calls(capture)
    tokens: Counter[str] = Counter()
    for call in calls:
        tokens.update(call.tokens)
    cost = sum((call.cost for call in calls), Decimal(0))
    bodies = tuple((signal, request.SerializeToString()) for signal, request in requests)
    return AgentRun(label, bodies, cost, len(calls), tokens)


def records(bodies: Iterable[bytes]) -> Counter[bytes]:
    """The log records in `bodies`, encoded, with how often each is there.

    The Collector writes an empty body where there was none; such a body is left out.
    """
    counted: Counter[bytes] = Counter()
    for body in bodies:
        for record in _records_of(ExportLogsServiceRequest.FromString(body)):
            if record.body.WhichOneof("value") is None:
                record.ClearField("body")
            counted[record.SerializeToString(deterministic=True)] += 1
    return counted


def _recorded(name: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted((FOLDER / name).glob("*.binpb")):
        yield path.name.split(".")[1], path.read_bytes()


def _records_of(request: ExportLogsServiceRequest) -> Iterator[LogRecord]:
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            yield from scope.log_records


def _times(requests: Iterable[tuple[str, Any]]) -> Iterator[int]:
    for signal, request in requests:
        if signal == "traces":
            yield from (span.end_time_unix_nano for span in spans_of(request))
        elif signal == "logs":
            yield from (max(record.time_unix_nano, record.observed_time_unix_nano) for record in _records_of(request))


def _shift(signal: str, request: Any, shift: int) -> None:
    if signal == "traces":
        for span in spans_of(request):
            span.start_time_unix_nano += shift
            span.end_time_unix_nano += shift
    elif signal == "logs":
        for record in _records_of(request):
            record.time_unix_nano += shift if record.time_unix_nano else 0
            record.observed_time_unix_nano += shift if record.observed_time_unix_nano else 0
            for attribute in record.attributes:
                if attribute.key == "event.timestamp":
                    moment = datetime.fromisoformat(attribute.value.string_value) + timedelta(microseconds=shift / 1000)
                    attribute.value.string_value = moment.astimezone(UTC).isoformat()
