"""Export requests: the spans that stand in one and what is appended to them; how much the other signals hold."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from spanledger_processor.wire import schema
from spanledger_processor.wire.envelope import LOGS, METRICS, TRACES, read_envelope
from spanledger_processor.wire.groups import count_items, read_groups
from spanledger_processor.wire.splice import splice
from spanledger_processor.wire.values import Attributes


@dataclass(slots=True)
class ScopeGroup:
    """The spans of one instrumentation scope of one resource. `spans` are encoded, in the order they came."""

    resource_attributes: Attributes
    scope_name: str
    scope_version: str
    spans: list[bytes]


class TraceRequest:
    """A trace request that was read, and what is to be appended to its spans."""

    __slots__ = ("_body", "_extras", "groups")

    def __init__(self, body: bytes, groups: list[ScopeGroup]) -> None:
        self.groups = groups
        self._body = body
        self._extras: dict[int, dict[int, bytes]] = {}

    @property
    def span_count(self) -> int:
        return sum(len(group.spans) for group in self.groups)

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
    return TraceRequest(body, [ScopeGroup(*group) for group in read_groups(body, TRACES)])


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
