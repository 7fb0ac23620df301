"""Export requests: read the items of one, append to its spans, count the items of other signals.

Appending goes by bytes: lengths around what was appended are rewritten, every other byte is copied. Encoded messages
concatenate: the bytes of a span followed by encoded attribute fields are that span with those attributes after its
own. Nothing is parsed into messages and written anew, so order, unknown fields, duplicates and encodings that are
longer than needed come through.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from io import BytesIO
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from google.protobuf.message import DecodeError

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.envelope import (
    LOGS,
    METRICS,
    SLICE_PARTS,
    TRACES,
    FoundScopes,
    Items,
    ScopeGroup,
    counting_items,
    reading_envelope,
    reading_groups,
)
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import LENGTH, SHORT_VARINTS, Steps, fields, finished, write_varint

SLICE_ITEMS = 1024
"""Items written between two pauses: a few milliseconds."""
SLICE_BYTES = 2**20
"""Bytes written, or joined, between two pauses: likewise, and those of one item more."""


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

    def view(self, group: int, span: int) -> SpanView:
        """Return the span at groups[group].items[span] as it can be read.

        Raises:
            MalformedError: it cannot.
        """
        view = self._views.get((group, span)) if self._views else None
        return SpanView.parse(self.groups[group].items[span]) if view is None else view

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

    def serialize(self) -> bytes:
        """Return the request with what was appended and replaced, once; every other byte is as it came."""
        return finished(self.serializing())

    def serializing(self) -> Generator[None, None, bytes]:
        """Serialize in slices: yields after each `SLICE_ITEMS` items of a scope, returns the request."""
        if not (self._extras or self._replaced):
            return self.body
        return (yield from _splice(self, self._extras, self._replaced))


def parse_traces(body: bytes) -> TraceRequest:
    """Read an ExportTraceServiceRequest; its spans stay encoded.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    return finished(parsing_traces(body))


def parsing_traces(body: bytes, scopes: FoundScopes | None = None) -> Steps[TraceRequest]:
    """Do as `parse_traces`, in slices; `scopes` is what `survey` has found in this request."""
    groups = yield from reading_groups(body, TRACES, scopes)
    return TraceRequest(body, groups, sum(len(group.items) for group in groups))


def counting_traces(body: bytes, scopes: FoundScopes | None = None) -> Steps[TraceRequest]:
    """Return the same request in slices, its spans counted and not handed out, for one that passes.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    return TraceRequest(body, [], (yield from counting_items(body, TRACES, scopes)))


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


def counting_data_points(body: bytes) -> Generator[None, None, int]:
    """Do as `count_data_points`, in slices."""
    groups = yield from reading_envelope(body, METRICS)
    count = 0
    metrics = (item for group in groups for scoped in group.scopes for item in scoped.items)
    for number, metric in enumerate(metrics):
        count += _points(metric)
        if number % SLICE_PARTS == SLICE_PARTS - 1:
            yield
    return count


def _points(item: bytes) -> int:
    try:
        metric = schema.Metric.FromString(item)
    except DecodeError:
        return 0
    return sum(len(points.data_points) for _, points in metric.ListFields())


_Bytes: TypeAlias = bytes | memoryview
_Chunk: TypeAlias = list[_Bytes]
"""Pieces of a message, one after the other."""


class _Edited(NamedTuple):
    """A message that was edited, in chunks, and its size."""

    size: int
    chunks: list[_Chunk]


_GROUPS, _SCOPED = 1, 2
"""Field numbers: groups of a request, scopes of a group."""


_Contents: TypeAlias = Mapping[int, dict[int, bytes]]
"""Content by scope, counted over the whole request, and by item, counted inside its scope."""


_Edits: TypeAlias = Generator[None, None, _Edited | None]


def _splice(request: TraceRequest, extras: _Contents, replaced: _Contents) -> Generator[None, None, bytes]:
    """Return the request with extras[scope][item] appended to those items, and others replaced.

    An item is either appended to or replaced. Done in slices, see `TraceRequest.serializing`. Of a large request
    nothing is copied but into the result, and both mappings are emptied on the way.
    """
    body, scopes = request.body, iter(enumerate(request.groups))
    source: _Bytes = body if len(body) <= SLICE_BYTES else memoryview(body)

    def scoped(start: int, end: int) -> _Edits:
        scope, group = next(scopes)
        appended, new = extras.get(scope, _NONE), replaced.get(scope, _NONE)
        return (yield from _edit(group.items, source, start, end, appended, new)) if appended or new else None

    def group(start: int, end: int) -> _Edits:
        return _replace(body, source, start, end, _SCOPED, scoped)

    edited = yield from _replace(body, source, 0, len(body), _GROUPS, group)
    return body if edited is None else (yield from _joined(edited))


def _joined(edited: _Edited) -> Generator[None, None, bytes]:
    """Join in slices; frees the pieces on the way."""
    chunks = edited.chunks
    if edited.size <= SLICE_BYTES:
        return b"".join(chain.from_iterable(chunks))
    joined, paused = BytesIO(), SLICE_BYTES
    chunks.reverse()
    while chunks:
        joined.writelines(chunks.pop())
        if joined.tell() >= paused:
            paused = joined.tell() + SLICE_BYTES
            yield
    return joined.getvalue()  # its own buffer, not a copy


def _replace(
    body: bytes, source: _Bytes, start: int, end: int, number: int, new: Callable[[int, int], _Edits]
) -> _Edits:
    """Replace the fields `number` of the message at [start, end), in slices; None if `new` has nothing for any of them.

    Short chunks become one, so that what stands around has few to handle.
    """
    chunks: list[_Chunk] = []
    chunk: _Chunk = []
    copied, size = start, end - start
    for place, field in enumerate(fields(body, start, end)):
        if place % SLICE_PARTS == SLICE_PARTS - 1:
            yield
        if field.number != number or field.wire_type != LENGTH:
            continue
        edited = yield from new(field.start, field.end)
        if edited is None:
            continue
        length = write_varint(edited.size)
        chunk += (source[copied : field.tag_end], length)
        size += len(length) + edited.size - (field.end - field.tag_end)
        copied = field.end
        if len(edited.chunks) == 1:
            chunk += edited.chunks[0]
        else:
            chunks += (chunk, *edited.chunks)
            chunk = []
        if len(chunk) > SLICE_ITEMS:
            chunks.append(chunk)
            chunk = []
            yield
    if copied == start:
        return None
    chunk.append(source[copied:end])
    chunks.append(chunk)
    return _Edited(size, chunks)


_NONE: dict[int, bytes] = {}


def _edit(
    items: Items, source: _Bytes, start: int, end: int, extras: dict[int, bytes], replaced: dict[int, bytes]
) -> _Edits:
    """Return the scope at [start, end) with `extras` appended to its items, or items `replaced`; both are emptied."""
    body, starts, ends = items.body, items.starts, items.ends
    chunks: list[_Chunk] = []
    chunk: _Chunk = []
    copied, pause, edited_size = start, start + SLICE_BYTES, end - start
    for number, place in enumerate(sorted(extras.keys() | replaced.keys()), 1):
        content, to = starts[place], ends[place]
        if number % SLICE_ITEMS == 0 or content > pause:
            chunks.append(chunk)
            chunk = []
            pause = content + SLICE_BYTES
            yield
        tag_end = content - 1
        while body[tag_end - 1] > 0x7F:  # the bytes of a number but the last one, in front of which a tag ends
            tag_end -= 1
        extra = extras.pop(place, None)
        if extra is None:
            new = replaced.pop(place)
            size = len(new)
            length = write_varint(size)
            chunk += (source[copied:tag_end], length, new)
        else:
            size = to - content + len(extra)
            length = SHORT_VARINTS[size] if size < 0x4000 else write_varint(size)
            chunk += (source[copied:tag_end], length, source[content:to], extra)
        edited_size += len(length) + size - (to - tag_end)
        copied = to
    chunk.append(source[copied:end])
    chunks.append(chunk)
    return _Edited(edited_size, chunks)
