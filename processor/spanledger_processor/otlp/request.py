"""Export requests: the spans that stand in one and what is appended to them; how much the other signals hold."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.envelope import LOGS, METRICS, TRACES, read_envelope
from spanledger_processor.otlp.groups import count_items, read_groups
from spanledger_processor.otlp.splice import splice
from spanledger_processor.otlp.values import Attributes


@dataclass(slots=True)
class ScopeGroup:
    """The spans of one instrumentation scope of one resource. `spans` are encoded, in the order they came."""

    resource_attributes: Attributes
    scope_name: str
    scope_version: str
    spans: list[bytes]


class TraceRequest:
    """A trace request that was read, and what is to be appended to its spans.

    `groups` are empty where only the spans were counted.
    """

    __slots__ = ("_body", "_extras", "groups", "span_count")

    def __init__(self, body: bytes, groups: list[ScopeGroup], span_count: int) -> None:
        self.groups = groups
        self.span_count = span_count
        self._body = body
        self._extras: dict[int, dict[int, bytes]] = {}

    def append(self, group: int, span: int, extra: bytes) -> None:
        """Append encoded `attributes` fields of Span to the span at groups[group].spans[span]."""
        extras = self._extras.get(group)
        if extras is None:
            extras = self._extras[group] = {}
        extras[span] = extras[span] + extra if span in extras else extra

    def serialize(self) -> bytes:
        """The request with what was appended; every other byte is as it came."""
        return splice(self._body, self._extras) if self._extras else self._body


def parse_traces(body: bytes) -> TraceRequest:
    """Read an ExportTraceServiceRequest; its spans stay encoded.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    groups = [ScopeGroup(*group) for group in read_groups(body, TRACES)]
    return TraceRequest(body, groups, sum(len(group.spans) for group in groups))


def count_traces(body: bytes) -> TraceRequest:
    """The same request, its spans counted and not handed out: half the cost, for one that passes as it is.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    return TraceRequest(body, [], count_items(body, TRACES))


def count_log_records(body: bytes) -> int:
    """How many log records an ExportLogsServiceRequest holds.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    return count_items(body, LOGS)


def count_data_points(body: bytes) -> int:
    """How many data points an ExportMetricsServiceRequest holds; a metric that cannot be read counts none.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    groups = read_envelope(body, METRICS)
    return sum(_points(item) for group in groups for scoped in group.scopes for item in scoped.items)


def _points(item: bytes) -> int:
    try:
        metric = schema.Metric.FromString(item)
    except DecodeError:
        return 0
    return sum(len(points.data_points) for _, points in metric.ListFields())
