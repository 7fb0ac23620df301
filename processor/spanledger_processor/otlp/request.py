"""Export requests: read the items of one, append to its spans, count the items of other signals.

Appending goes by bytes: lengths around what was appended are rewritten, every other byte is copied. Encoded messages
concatenate: the bytes of a span followed by encoded attribute fields are that span with those attributes after its
own. Nothing is parsed into messages and written anew, so order, unknown fields, duplicates and encodings that are
longer than needed come through.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from types import MappingProxyType

from google.protobuf.message import DecodeError

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.counting import counting_fields, counting_items
from spanledger_processor.otlp.envelope import SLICE_PARTS, Items, ScopeGroup, finding_items, reading_groups
from spanledger_processor.otlp.signals import LOGS, METRICS, TRACES
from spanledger_processor.otlp.splice import RequestPart, planning, splicing
from spanledger_processor.otlp.values import MANY_FIELDS
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import LENGTH, MalformedError, Steps, fields, finished, pause


class TraceRequest:
    """A trace request that was read, and what is to be appended to its spans.

    `groups` are empty where only the spans were counted. `views` are those of spans that were encoded here, by group
    and place in it: they need not be parsed.
    """

    __slots__ = ("_extras", "_replaced", "_views", "body", "groups", "span_count")

    def __init__(
        self,
        body: bytes,
        groups: list[ScopeGroup],
        span_count: int,
        views: Mapping[tuple[int, int], SpanView] = MappingProxyType({}),
    ) -> None:
        self.groups = groups
        self.span_count = span_count
        self.body = body
        self._views = views
        self._extras: dict[int, dict[int, bytes]] = {}
        self._replaced: dict[int, dict[int, bytes]] = {}

    def view(self, group: int, span: int, encoded: bytes | None = None) -> SpanView:
        """Return the span at groups[group].items[span] as it can be read; `encoded` is that span where it is at hand.

        Raises:
            MalformedError: it cannot.
        """
        view = self._views.get((group, span)) if self._views else None
        if view is None:
            view = SpanView.parse(self.groups[group].items[span] if encoded is None else encoded)
        return view

    def append(self, group: int, span: int, extra: bytes) -> None:
        """Append encoded `attributes` fields of Span to the span at groups[group].items[span]."""
        extras = self._extras.get(group)
        if extras is None:
            extras = self._extras[group] = {}
        if extras.setdefault(span, extra) is not extra:
            extras[span] += extra

    def replace(self, group: int, span: int, content: bytes) -> None:
        """Put the encoded span `content` in the place of the one at groups[group].items[span]."""
        self._replaced.setdefault(group, {})[span] = content

    @property
    def whole(self) -> RequestPart:
        """Return all of it as one part."""
        return RequestPart(0, len(self.body), self.span_count)

    def serialize(self) -> bytes:
        """Return the request with what was appended and replaced, once; every other byte is as it came."""
        return finished(self.serializing())

    def serializing(self, part: RequestPart | None = None) -> Generator[None, None, bytes]:
        """Serialize the request, or a part of it, in slices; lets go of what was appended to that. Parts come in order
        or in any other.
        """
        part = part or self.whole
        if not (self._extras or self._replaced):
            return part.encoded(self.body)
        return (yield from splicing(self.body, self.groups, self._extras, self._replaced, part))

    def planning(self, most: int, growth: int) -> Steps[list[RequestPart]]:
        """Return in slices into which parts of about `most` bytes the request is to be cut, so that whoever takes it
        takes them, if its spans grow by `growth` bytes each.
        """
        if not self.groups:  # only counted
            self.groups = yield from reading_groups(self.body, TRACES)
        return (yield from planning(self.body, self.groups, most, growth))

    def appended_size(self) -> int:
        """Return how many bytes are to be appended, or to be put in the place of spans."""
        return sum(sum(map(len, of.values())) for of in (*self._extras.values(), *self._replaced.values()))


def parse_traces(body: bytes) -> TraceRequest:
    """Read an ExportTraceServiceRequest; its spans stay encoded.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    return finished(parsing_traces(body))


def parsing_traces(body: bytes) -> Steps[TraceRequest]:
    """Do as `parse_traces`, in slices."""
    groups = yield from reading_groups(body, TRACES)
    return TraceRequest(body, groups, sum(len(group.items) for group in groups))


def counting_traces(body: bytes) -> Steps[TraceRequest]:
    """Return the same request in slices, its spans counted and not handed out, for one that passes.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    return TraceRequest(body, [], (yield from counting_items(body, TRACES)))


def count_traces(body: bytes) -> TraceRequest:
    """Do as `counting_traces`, in one go."""
    return finished(counting_traces(body))


def parsing_logs(body: bytes) -> Steps[list[ScopeGroup]]:
    """Read an ExportLogsServiceRequest in slices; its records stay encoded, and its bytes are never changed.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    return (yield from reading_groups(body, LOGS))


def parse_logs(body: bytes) -> list[ScopeGroup]:
    """Do as `parsing_logs`, in one go."""
    return finished(parsing_logs(body))


def count_log_records(body: bytes) -> int:
    """Count the log records of an ExportLogsServiceRequest.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    return finished(counting_items(body, LOGS))


def count_data_points(body: bytes) -> int:
    """Count the data points of an ExportMetricsServiceRequest; a metric that cannot be read counts none.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    return finished(counting_data_points(body))


def counting_data_points(body: bytes) -> Steps[int]:
    """Do as `count_data_points`, in slices."""
    count = 0
    for found in finding_items(body, METRICS):
        if not isinstance(found, Items):
            yield found
            continue
        for number, metric in enumerate(found, 1):
            count += _points(metric) if len(metric) <= MANY_FIELDS else (yield from _counting_points(metric))
            if number % SLICE_PARTS == 0:
                yield None
    return count


def _points(metric: bytes) -> int:
    try:
        read = schema.Metric.FromString(metric)
    except DecodeError:
        return 0
    return sum(len(points.data_points) for _, points in read.ListFields())


def _counting_points(metric: bytes) -> Steps[int]:
    """Count the points of a long metric: a schema would take 16 bytes for each, and be done with all in one go."""
    count = 0
    try:
        for read, field in enumerate(fields(metric, 0, len(metric)), 1):
            if field.number in _POINTS and field.wire_type == LENGTH:
                count += yield from counting_fields(metric, field.start, field.end, _DATA_POINTS)
            if read % SLICE_PARTS == 0:
                yield pause
    except MalformedError:
        return 0
    return count


_POINTS = frozenset(field.number for field in schema.Metric.DESCRIPTOR.fields)
_DATA_POINTS = 1
"""Field numbers: the kinds of metrics, and their points."""
