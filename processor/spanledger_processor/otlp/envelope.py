"""The envelope that all signals share: request, groups by resource, groups by scope, items.

A body is taken for an export request if its envelope can be read, something in it is a field of such a request, and
its items are not evidently another signal's: a field that OTLP knows never changes its wire type, so a "span" whose
field 1 is a fixed64 is a log record sent to the wrong address. What fields OTLP does not know hold is not looked at. An
item that cannot be read at all makes no request malformed: it passes as it is.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate, islice, repeat
from typing import Any, NamedTuple, overload

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.values import GIANT, MOST_COMPARED, Attributes, attributes_of, walked
from spanledger_processor.otlp.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    MalformedError,
    Steps,
    WireField,
    fields,
    finished,
    pause,
    read_varint,
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signal's names for the parts of its envelope, and the wire types of its items' fields.

    `attributes` is the number of the items' attributes, KeyValues whose fields are known as well; 0 if they have none.
    `schema` reads an item.
    """

    request: str
    resources: str
    scoped: str
    items: str
    item: Mapping[int, int]
    attributes: int
    schema: Any


MAX_PARTS, MAX_ITEMS = 2**18, 2**20
"""Resources and scopes, and items, that one request may hold. Real ones reach 64 MiB long before; without a limit two
bytes an item would take gigabytes to read."""
_TOO_MANY = f"more than {MAX_PARTS} resources and scopes or {MAX_ITEMS} items; send them in smaller requests"

SLICE_PARTS = 512
"""Resources, scopes or fields read between two pauses: a few milliseconds."""

SLICE_CUT = 8192
"""Items found in a scope between two pauses: likewise."""
_MOST_LOOKED_AT = 1024
"""Fields of an item by which it is distinguished from another signal's: what contradicts stands at its beginning."""

_KEY_VALUE = {1: LENGTH, 2: LENGTH}

TRACES = Envelope(
    "ExportTraceServiceRequest",
    "resource_spans",
    "scope_spans",
    "spans",
    dict.fromkeys((1, 2, 3, 4, 5, 9, 11, 13, 15), LENGTH)
    | dict.fromkeys((6, 10, 12, 14), VARINT)
    | {7: FIXED64, 8: FIXED64, 16: FIXED32},
    9,
    schema.Span,
)
LOGS = Envelope(
    "ExportLogsServiceRequest",
    "resource_logs",
    "scope_logs",
    "log_records",
    dict.fromkeys((3, 5, 6, 9, 10, 12), LENGTH) | {2: VARINT, 7: VARINT} | {1: FIXED64, 11: FIXED64, 8: FIXED32},
    6,
    schema.LogRecord,
)
METRICS = Envelope(
    "ExportMetricsServiceRequest",
    "resource_metrics",
    "scope_metrics",
    "metrics",
    dict.fromkeys((1, 2, 3, 5, 7, 9, 10, 11, 12), LENGTH),
    0,
    schema.Metric,
)


class Items(Sequence[bytes]):
    """The items of a scope in their order, by where they stand in the request: `starts` and `ends` of each.

    They are not copied: one is cut out of `body` when it is asked for.
    """

    __slots__ = ("body", "ends", "starts")

    def __init__(self, body: bytes, starts: Sequence[int] = (), ends: Sequence[int] = ()) -> None:
        self.body = body
        self.starts = starts
        self.ends = ends

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [*Items(self.body, self.starts[index], self.ends[index])]
        return self.body[self.starts[index] : self.ends[index]]

    def __iter__(self) -> Iterator[bytes]:
        return map(self.body.__getitem__, map(slice, self.starts, self.ends))


class ScopeItems(NamedTuple):
    """One scope of a resource: its path in errors, the scope's bytes, and its items."""

    location: str
    scope: bytes
    items: Items


class ResourceItems(NamedTuple):
    """One resource: its path in errors, its bytes, its scopes. A message sent in pieces is joined, which merges it."""

    location: str
    resource: bytes
    scopes: list[ScopeItems]


def read_envelope(body: bytes, envelope: Envelope) -> list[ResourceItems]:
    """Return the resources of an export request.

    Raises:
        MalformedError: it is no export request of that signal.
    """
    return finished(reading_envelope(body, envelope))


def reading_envelope(body: bytes, envelope: Envelope) -> Steps[list[ResourceItems]]:
    """Read an export request in slices: yields after each `SLICE_PARTS`, returns its resources.

    Raises:
        MalformedError: it is no export request of that signal.
    """
    result = yield from _messages(body, 0, len(body), {1: envelope.resources}, envelope.request)
    if body and not result:
        raise MalformedError(f"{envelope.request}: holds no {envelope.resources}")
    groups: list[ResourceItems] = []
    parts, items, since = len(result), 0, 0
    result.reverse()
    while result:  # freed on the way: to free many at once takes long
        number, (_, start, end) = len(groups), result.pop()
        group, read = yield from _reading_group(body, start, end, envelope, f"{envelope.resources}[{number}]")
        groups.append(group)
        parts += read
        found = sum(len(scoped.items) for scoped in group.scopes)
        items, since = items + found, since + found
        if parts > MAX_PARTS or items > MAX_ITEMS:
            raise MalformedError(f"{envelope.request}: {_TOO_MANY}")
        if number % SLICE_PARTS == SLICE_PARTS - 1 or since >= SLICE_CUT:
            since = 0
            yield None
    yield from _refuse_foreign(groups, envelope)
    return groups


def may_have_more_fields(most: int, body: bytes) -> bool:
    """Return whether an export request of any signal may have more than `most` fields in its envelope, with its items.

    protobuf counts them: to find the items of 512 plain spans here takes six times as long. But it counts to the end,
    in up to 25 ms and 23 MiB for each MiB, and so a longer request is gone through until it is known.
    """
    try:
        counts = _field_counts(schema.Request.FromString(body)) if len(body) <= _COUNTED_BYTES else _walked_counts(body)
        return any(fields > most for fields in accumulate(counts))
    except (DecodeError, MalformedError):
        return True  # what protobuf cannot read may be a request all the same


_COUNTED_BYTES = 2**20
"""Bytes of the longest request whose fields protobuf counts."""


def _walked_counts(body: bytes) -> Iterator[int]:
    """Do as `_field_counts`; of a scope at most as many items count as are found between two pauses."""
    for group in fields(body, 0, len(body)):
        yield 1
        for scope in fields(body, group.start, group.end) if _is_part(group, _GROUPS) else ():
            yield 1
            if _is_part(scope, _SCOPES):
                starts = array("L")
                next(_finding(body, scope.start, scope.end, starts, array("L"), []), None)
                yield len(starts)


def _field_counts(request: Any) -> Iterator[int]:
    """Yield how many fields of its schema each message of a request's envelope has."""
    yield len(request.resources)
    for resource in request.resources:
        yield len(resource.resource) + len(resource.scopes) + len(resource.schema_url)
        for scope in resource.scopes:
            yield len(scope.scope) + len(scope.items) + len(scope.schema_url)


_GROUPS, _SCOPES = 1, 2
"""Field numbers: groups of a request, scopes of a group."""


def _is_part(field: WireField, number: int) -> bool:
    return field.number == number and field.wire_type == LENGTH


def _reading_group(
    body: bytes, start: int, end: int, envelope: Envelope, location: str
) -> Steps[tuple[ResourceItems, int]]:
    """Return a resource, and of how many parts it is made."""
    parts = yield from _messages(body, start, end, {1: "resource", 2: envelope.scoped, 3: "schema_url"}, location)
    resource = b"".join(body[at:to] for number, at, to in parts if number == 1)
    scopes: list[ScopeItems] = []
    for number, at, to in parts:
        if number != _SCOPES:
            continue
        scoped = f"{location}.{envelope.scoped}[{len(scopes)}]"
        scopes.append((yield from _reading_scope(body, at, to, envelope, scoped)))
        if len(scopes) % SLICE_PARTS == 0:
            yield None
    return ResourceItems(location, resource, scopes), len(parts)


def _reading_scope(body: bytes, start: int, end: int, envelope: Envelope, location: str) -> Steps[ScopeItems]:
    """Return the items of the scope at [start, end), in slices."""
    starts, ends, scope = array("L"), array("L"), list[bytes]()
    try:
        for _ in _finding(body, start, end, starts, ends, scope):
            if len(starts) > MAX_ITEMS:
                raise MalformedError(_TOO_MANY)
            yield pause  # a request of few items may have many other fields
    except MalformedError as error:
        raise MalformedError(f"{location}: {error}") from None
    if not starts:
        yield from _messages(body, start, end, {1: "scope", 2: envelope.items, 3: "schema_url"}, location)
    return ScopeItems(location, b"".join(scope), Items(body, starts, ends) if starts else Items(body))


def _finding(
    body: bytes, start: int, end: int, starts: array[int], ends: array[int], scope: list[bytes]
) -> Iterator[None]:
    """Find where the items of the scope at [start, end) start and end, and the parts of its field `scope`; yields after
    each `SLICE_CUT` fields.

    Goes over every item of a request, so what is common is read in place: a tag of one byte, a length of one or two.

    Raises:
        MalformedError: a field that cannot be read.
    """
    add_start, add_end = starts.append, ends.append
    at, last = start, end - 3
    while True:
        for _ in repeat(None, SLICE_CUT):
            if at <= last and body[at] == _ITEM_TAG:
                size, content = body[at + 1], at + 2
                if size > 0x7F:
                    size, content = size & 0x7F | body[content] << 7, at + 3
                    if size > 0x3FFF:
                        size, content = read_varint(body, at + 1, end)
                if content + size > end:
                    next(fields(body, at, end))  # raises
                at = content + size
                add_start(content)
                add_end(at)
            elif at < end:
                field = next(fields(body, at, end))
                if _is_part(field, _SCOPE):
                    scope.append(body[field.start : field.end])
                elif _is_part(field, _ITEMS):
                    add_start(field.start)
                    add_end(field.end)
                at = field.end
            else:
                return
        yield


_SCOPE, _ITEMS = 1, 2
"""Field numbers of a group's part that holds items: its scope, its items."""
_ITEM_TAG = _ITEMS << 3 | LENGTH


def _refuse_foreign(groups: list[ResourceItems], envelope: Envelope) -> Steps[None]:
    foreign, looked_at = None, 0
    for group in groups:
        looked_at += 1
        if looked_at % SLICE_PARTS == 0:
            yield None
        for scoped in group.scopes:
            items = scoped.items
            for start, end in zip(items.starts, items.ends, strict=True):
                looked_at += 1
                if looked_at % SLICE_PARTS == 0:
                    yield None
                is_one = end - start <= GIANT and _fits(items.body[start:end], envelope)
                foreign = None if is_one else _contradiction(items.body, start, end, envelope)
                if foreign is None:
                    return
    if foreign is not None:
        raise MalformedError(f"{envelope.request}: not one of its {envelope.items} is one: {foreign}")


def _fits(item: bytes, envelope: Envelope) -> bool:
    """Return whether `_contradiction` certainly finds nothing, in a tenth of its time.

    A field of another wire type than the schema's is unknown to it, and so are attributes that are no plain KeyValues.
    """
    try:
        message = envelope.schema.FromString(item)
    except DecodeError:
        return False
    known, attributes = envelope.item, envelope.attributes
    unknown: Any = UnknownFieldSet(message)
    return all(
        field.field_number != attributes and known.get(field.field_number, field.wire_type) == field.wire_type
        for field in unknown
    )


def _contradiction(body: bytes, start: int, end: int, envelope: Envelope) -> str | None:
    """Return why the item at [start, end) is another signal's, None if it may be of this one, or cannot be read to its
    end.
    """
    result = None
    try:
        for field in islice(fields(body, start, end), _MOST_LOOKED_AT if end - start > GIANT else None):
            result = result or _mismatch(field, envelope.item)
            if result is None and field.number == envelope.attributes:
                parts = list(islice(fields(body, field.start, field.end), _MOST_LOOKED_AT))
                result = next(filter(None, (_mismatch(part, _KEY_VALUE) for part in parts)), None)
    except MalformedError:
        return None
    return result


def _mismatch(field: WireField, known: Mapping[int, int]) -> str | None:
    if known.get(field.number, field.wire_type) == field.wire_type:
        return None
    return f"field {field.number} has wire type {field.wire_type}, not {known[field.number]}"


def _messages(
    body: bytes, start: int, end: int, known: Mapping[int, str], location: str
) -> Steps[list[tuple[int, int, int]]]:
    """Return number, start and end of each known field; all of them are length-delimited."""
    result = []
    try:
        for read, field in enumerate(fields(body, start, end)):
            if read % SLICE_PARTS == SLICE_PARTS - 1:
                yield pause  # as in a scope
            if field.number in known:
                if field.wire_type != LENGTH:
                    raise MalformedError(f"{known[field.number]} has wire type {field.wire_type}, not {LENGTH}")
                result.append((field.number, field.start, field.end))
                if len(result) > MAX_PARTS:
                    raise MalformedError(_TOO_MANY)
    except MalformedError as error:
        raise MalformedError(f"{location}: {error}") from None
    return result


class ScopeGroup(NamedTuple):
    """The items of one instrumentation scope of one resource: spans, log records or metrics, encoded, as they came."""

    resource_attributes: Attributes
    scope_name: str
    scope_version: str
    items: Items


def reading_groups(body: bytes, envelope: Envelope) -> Steps[list[ScopeGroup]]:
    """Read an export request in slices; returns its groups, in the order of their scopes on the wire.

    Raises:
        MalformedError: it is no such request; says what is wrong and where.
    """
    groups = []
    read = yield from reading_envelope(body, envelope)
    read.reverse()
    while read:
        group = read.pop()
        if len(read) % SLICE_PARTS == 0:
            yield None
        resource = _resource(group) if len(group.resource) <= GIANT else (yield partial(_resource, group))
        for scoped in group.scopes:
            groups.append(ScopeGroup(resource, *_scope(scoped), scoped.items))
            if len(groups) % SLICE_PARTS == 0:
                yield None
    return groups


def counting_items(body: bytes, envelope: Envelope) -> Steps[int]:
    """Count the items of an export request, in slices.

    Raises:
        MalformedError: it is no such request; says what is wrong and where.
    """
    usual = _usual_count(body, envelope) if len(body) <= _COUNTED_BYTES else None
    if usual is not None:
        return usual
    count = 0
    read = yield from reading_envelope(body, envelope)
    while read:  # freed on the way
        group = read.pop()
        if len(group.resource) <= GIANT:
            _resource(group)
        else:
            yield partial(_resource, group)
        if len(read) % SLICE_PARTS == 0:
            yield None
        for number, scoped in enumerate(group.scopes):
            _scope(scoped)
            count += len(scoped.items)
            if number % SLICE_PARTS == SLICE_PARTS - 1:
                yield None
    return count


def _usual_count(body: bytes, envelope: Envelope) -> int | None:
    """Return how many items a request holds, None where it is not as requests usually are, and may be refused."""
    try:
        request = schema.Request.FromString(body)
        resources = request.resources
        if len(resources) + sum(len(resource.scopes) for resource in islice(resources, SLICE_PARTS)) > SLICE_PARTS:
            return None
        for encoded in [b"".join(resource.resource) for resource in resources]:
            if len(encoded) > GIANT:
                return None
            _attributes(encoded)
        items = []
        for scope in [scope for resource in resources for scope in resource.scopes]:
            schema.Scope.FromString(b"".join(scope.scope))
            items.append(scope.items)
    except DecodeError:
        return None
    if not items or not all(items) or len(items[0][0]) > GIANT or not _fits(items[0][0], envelope):
        return None
    count = sum(map(len, items))
    return None if any(map(_has_other_fields, (*resources, request))) else count


def _has_other_fields(message: Any) -> bool:
    """Return whether a message has fields that its schema has not, or not of their wire type; takes out the others.

    `UnknownFieldSet` makes an object of each, of which there may be a million.
    """
    for field, _ in message.ListFields():
        message.ClearField(field.name)
    return bool(message.ByteSize())


def _resource(group: ResourceItems) -> Attributes:
    try:
        return _attributes(group.resource)
    except DecodeError:
        raise MalformedError(f"{group.location}.resource: cannot be read") from None


def _attributes(encoded: bytes) -> Attributes:
    """Return the attributes of a resource."""
    return (_resource_kept if len(encoded) <= MOST_COMPARED else _resource_read)(encoded)


def _resource_read(encoded: bytes) -> Attributes:
    if len(encoded) > GIANT:
        return Attributes(walked(encoded, 1))
    return attributes_of(schema.Resource.FromString(encoded), encoded, 1)


_resource_kept = lru_cache(maxsize=256)(_resource_read)
"""Requests of one process have one resource."""


def _scope(scoped: ScopeItems) -> tuple[str, str]:
    try:
        scope = schema.Scope.FromString(scoped.scope)
    except DecodeError:
        raise MalformedError(f"{scoped.location}.scope: cannot be read") from None
    return schema.text(scope.name), schema.text(scope.version)
