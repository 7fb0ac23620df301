"""The envelope that all signals share: request, groups by resource, groups by scope, items.

A body is taken for an export request if its envelope can be read, something in it is a field of such a request, and
its items are not evidently another signal's: a field that OTLP knows never changes its wire type, so a "span" whose
field 1 is a fixed64 is a log record sent to the wrong address. What fields OTLP does not know hold is not looked at. An
item that cannot be read at all makes no request malformed: it passes as it is.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate, islice, repeat
from typing import Any, NamedTuple, TypeAlias, TypeVar, overload

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.values import (
    GIANT,
    MANY_FIELDS,
    MOST_COMPARED,
    Attributes,
    attributes_of,
    other_fields,
    walked,
)
from spanledger_processor.otlp.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    MalformedError,
    Steps,
    WireField,
    fields,
    pause,
    read_varint,
)

T = TypeVar("T")


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


class _ResourceFound(NamedTuple):
    """A resource: its place, and its bytes. A message sent in pieces is joined, which merges it."""

    number: int
    encoded: bytes


class _ScopeFound(NamedTuple):
    """A scope of the resource that was found last: its place there, its bytes, likewise joined, and its items."""

    number: int
    encoded: bytes
    items: Items


_Found: TypeAlias = _ResourceFound | _ScopeFound


def check_envelope(body: bytes, envelope: Envelope) -> None:
    """Raise MalformedError where a body is no export request of that signal."""
    for _ in _walking(body, envelope):
        pass


def finding_items(body: bytes, envelope: Envelope) -> Iterator[Items | Callable[[], None] | None]:
    """Go over an export request in slices: yields the items of each scope, and None or `pause`.

    Raises:
        MalformedError: it is no export request of that signal.
    """
    for found in _walking(body, envelope):
        if isinstance(found, _ScopeFound):
            yield found.items
        elif not isinstance(found, _ResourceFound):
            yield found


def _walking(body: bytes, envelope: Envelope) -> Iterator[_Found | Callable[[], None] | None]:
    """Go over an export request in slices: yields each resource and behind it its scopes, and None or `pause` after
    each `SLICE_PARTS`. What a request holds is found on the way: a hundred thousand scopes take less than 1 MiB.

    Raises:
        MalformedError: it is no export request of that signal.
    """
    groups = yield from _messages(body, 0, len(body), {1: envelope.resources}, _GROUPS, envelope.request)
    if body and not groups.starts:
        raise MalformedError(f"{envelope.request}: holds no {envelope.resources}")
    parts, items, since = groups.number, 0, 0
    foreign = _Foreign(envelope)
    for number, (start, end) in enumerate(zip(groups.starts, groups.ends, strict=True)):
        location = f"{envelope.resources}[{number}]"
        known = {1: "resource", 2: envelope.scoped, 3: "schema_url"}
        inside = yield from _messages(body, start, end, known, _SCOPES, location)
        parts += inside.number
        yield _ResourceFound(number, bytes(inside.joined))
        for place, (at, to) in enumerate(zip(inside.starts, inside.ends, strict=True)):
            scope, found = yield from _reading_scope(body, at, to, envelope, f"{location}.{envelope.scoped}[{place}]")
            items, since = items + len(found), since + len(found)
            if parts > MAX_PARTS or items > MAX_ITEMS:
                raise MalformedError(f"{envelope.request}: {_TOO_MANY}")
            yield _ScopeFound(place, scope, found)
            if not foreign.is_settled:
                yield from foreign.looking_at(found)
            if place % SLICE_PARTS == SLICE_PARTS - 1:
                yield None
        if parts > MAX_PARTS:
            raise MalformedError(f"{envelope.request}: {_TOO_MANY}")
        if number % SLICE_PARTS == SLICE_PARTS - 1 or since >= SLICE_CUT:
            since = 0
            yield None
    foreign.refuse()


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
                next(_finding(body, scope.start, scope.end, starts, array("L"), bytearray()), None)
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


def _reading_scope(body: bytes, start: int, end: int, envelope: Envelope, location: str) -> Steps[tuple[bytes, Items]]:
    """Return the scope and the items of the group at [start, end), in slices."""
    if start == end:
        return b"", Items(body)
    starts, ends, scope = array("L"), array("L"), bytearray()
    try:
        for _ in _finding(body, start, end, starts, ends, scope):
            if len(starts) > MAX_ITEMS:
                raise MalformedError(_TOO_MANY)
            yield pause  # a request of few items may have many other fields
    except MalformedError as error:
        raise MalformedError(f"{location}: {error}") from None
    if not starts:
        yield from _messages(body, start, end, {1: "scope", 2: envelope.items, 3: "schema_url"}, 0, location)
    return bytes(scope), Items(body, starts, ends) if starts else Items(body)


def _finding(
    body: bytes, start: int, end: int, starts: array[int], ends: array[int], scope: bytearray
) -> Iterator[None]:
    """Find where the items of the scope at [start, end) start and end, and the bytes of its field `scope`; yields after
    each `SLICE_CUT` items, or `SLICE_PARTS` other fields.

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
                at = yield from _passing_over(body, at, end, starts, ends, scope)
            else:
                return
        yield


def _passing_over(
    body: bytes, at: int, end: int, starts: array[int], ends: array[int], scope: bytearray
) -> Generator[None, None, int]:
    """Do as `_finding` up to the next item, and return where that ends."""
    for read, field in enumerate(fields(body, at, end), 1):
        at = field.end
        if _is_part(field, _SCOPE):
            scope += body[field.start : at]
        elif _is_part(field, _ITEMS):
            starts.append(field.start)
            ends.append(at)
            break
        if read % SLICE_PARTS == 0:
            yield
    return at


def counting_fields(body: bytes, start: int, end: int, number: int) -> Steps[int]:
    """Count the fields `number`, below 16, of the message at [start, end), in slices. They are not kept.

    Raises:
        MalformedError: a field that cannot be read.
    """
    count, at, last, tag = 0, start, end - 2, number << 3 | LENGTH
    while at < end:
        for _ in repeat(None, SLICE_CUT):
            if at > last or body[at] != tag or body[at + 1] > 0x7F:
                break
            at += 2 + body[at + 1]
            count += 1
        for read, field in enumerate(fields(body, at, end), 1):
            at = field.end
            if _is_part(field, number):
                count += 1
                break
            if read % SLICE_PARTS == 0:
                yield pause
        yield pause
    if at > end:
        raise MalformedError(f"byte {end}: {at - end} bytes more are needed than there are")
    return count


_SCOPE, _ITEMS = 1, 2
"""Field numbers of a group's part that holds items: its scope, its items."""
_ITEM_TAG = _ITEMS << 3 | LENGTH


class _Foreign:
    """Whether the items of a request are evidently another signal's: all of them, up to the first that may be its own
    or cannot be read.
    """

    def __init__(self, envelope: Envelope) -> None:
        self.is_settled = False
        self._envelope = envelope
        self._problem: str | None = None

    def looking_at(self, items: Items) -> Iterator[None]:
        """Look at further items, in slices."""
        looked_at = 0
        for start, end in zip(items.starts, items.ends, strict=True):
            self._problem, read = _contradiction(items.body, start, end, self._envelope)
            if self._problem is None:
                self.is_settled = True
                return
            looked_at += read
            if looked_at >= SLICE_PARTS:
                looked_at = 0
                yield None

    def refuse(self) -> None:
        """Raise MalformedError if all of them are."""
        if self._problem is not None:
            request, items = self._envelope.request, self._envelope.items
            raise MalformedError(f"{request}: not one of its {items} is one: {self._problem}")


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


def _contradiction(body: bytes, start: int, end: int, envelope: Envelope) -> tuple[str | None, int]:
    """Return why the item at [start, end) is another signal's, None if it may be of this one, or cannot be read to its
    end; and how many fields were looked at.
    """
    if end - start <= MANY_FIELDS and _fits(body[start:end], envelope):
        return None, 0
    result, looked_at = None, 0
    try:
        for field in islice(fields(body, start, end), _MOST_LOOKED_AT):
            looked_at += 1
            result = result or _mismatch(field, envelope.item)
            if result is None and field.number == envelope.attributes:
                for part in islice(fields(body, field.start, field.end), max(0, _MOST_LOOKED_AT - looked_at)):
                    looked_at += 1
                    result = result or _mismatch(part, _KEY_VALUE)
    except MalformedError:
        return None, looked_at
    return result, looked_at


def _mismatch(field: WireField, known: Mapping[int, int]) -> str | None:
    if known.get(field.number, field.wire_type) == field.wire_type:
        return None
    return f"field {field.number} has wire type {field.wire_type}, not {known[field.number]}"


class _Messages(NamedTuple):
    """The known fields of a message: how many there are, where those of the wanted number start and end, in order, and
    the content of the others with the number 1, joined.
    """

    number: int
    starts: array[int]
    ends: array[int]
    joined: bytearray


def _messages(
    body: bytes, start: int, end: int, known: Mapping[int, str], wanted: int, location: str
) -> Steps[_Messages]:
    """Return the known fields of a message; all of them are length-delimited."""
    number, starts, ends, joined = 0, array("L"), array("L"), bytearray()
    try:
        for read, field in enumerate(fields(body, start, end)):
            if read % SLICE_PARTS == SLICE_PARTS - 1:
                yield pause  # as in a scope
            if field.number not in known:
                continue
            if field.wire_type != LENGTH:
                raise MalformedError(f"{known[field.number]} has wire type {field.wire_type}, not {LENGTH}")
            number += 1
            if number > MAX_PARTS:
                raise MalformedError(_TOO_MANY)
            if field.number == wanted:
                starts.append(field.start)
                ends.append(field.end)
            elif field.number == 1:
                joined += body[field.start : field.end]
    except MalformedError as error:
        raise MalformedError(f"{location}: {error}") from None
    return _Messages(number, starts, ends, joined)


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
    groups: list[ScopeGroup] = []
    resource, number = Attributes({}), 0
    last: bytes | None = None
    """The scope that was read last, if it is empty and of the same resource."""
    for found in _walking(body, envelope):
        if isinstance(found, _ResourceFound):
            number = found.number
            resource = yield from _in_turn(_resource, found.encoded, f"{envelope.resources}[{number}]")
            last = None
        elif isinstance(found, _ScopeFound):
            items, encoded = found.items, found.encoded
            if items or encoded != last:
                location = f"{envelope.resources}[{number}].{envelope.scoped}[{found.number}]"
                name, version = yield from _in_turn(_scope, encoded, location)
                groups.append(ScopeGroup(resource, name, version, items))
                last = None if items else encoded
            else:
                groups.append(groups[-1])  # empty, and like the one before
        else:
            yield found
    return groups


def _in_turn(read: Callable[[bytes, str], T], encoded: bytes, location: str) -> Steps[T]:
    """Read a resource or scope, on a thread where it is giant."""
    if len(encoded) <= GIANT:
        return read(encoded, location)
    result: T = yield partial(read, encoded, location)
    return result


def counting_items(body: bytes, envelope: Envelope) -> Steps[int]:
    """Count the items of an export request, in slices.

    Raises:
        MalformedError: it is no such request; says what is wrong and where.
    """
    usual = _usual_count(body, envelope) if len(body) <= _COUNTED_BYTES else None
    if usual is not None:
        return usual
    count, number = 0, 0
    for found in _walking(body, envelope):
        if isinstance(found, _ResourceFound):
            number = found.number
            yield from _in_turn(_resource, found.encoded, f"{envelope.resources}[{number}]")
        elif isinstance(found, _ScopeFound):
            if found.encoded:
                location = f"{envelope.resources}[{number}].{envelope.scoped}[{found.number}]"
                yield from _in_turn(_scope, found.encoded, location)
            count += len(found.items)
        else:
            yield found
    return count


def _usual_count(body: bytes, envelope: Envelope) -> int | None:
    """Return how many items a request holds, None where it is not as requests usually are, and may be refused."""
    try:
        request = schema.Request.FromString(body)
        resources = request.resources
        if len(resources) > SLICE_PARTS or len(resources) + sum(map(_part_count, resources)) > SLICE_PARTS:
            return None
        for encoded in [b"".join(resource.resource) for resource in resources]:
            if len(encoded) > GIANT:
                return None
            _attributes(encoded)
        items = []
        for scope in [scope for resource in resources for scope in resource.scopes]:
            if len(scope.scope) > SLICE_PARTS:
                return None
            schema.Scope.FromString(b"".join(scope.scope))
            items.append(scope.items)
    except DecodeError:
        return None
    if not items or not all(items) or _contradiction(items[0][0], 0, len(items[0][0]), envelope)[0] is not None:
        return None
    count = sum(map(len, items))
    return None if any(map(other_fields, (*resources, request))) else count


def _part_count(resource: Any) -> int:
    return len(resource.resource) + len(resource.scopes)


def _resource(encoded: bytes, location: str) -> Attributes:
    try:
        return _attributes(encoded)
    except DecodeError:
        raise MalformedError(f"{location}.resource: cannot be read") from None


def _attributes(encoded: bytes) -> Attributes:
    """Return the attributes of a resource."""
    return (_resource_kept if len(encoded) <= MOST_COMPARED else _resource_read)(encoded)


def _resource_read(encoded: bytes) -> Attributes:
    if len(encoded) > GIANT:
        return Attributes(walked(encoded, 1).attributes)
    return attributes_of(schema.Resource.FromString(encoded), encoded, 1)


_resource_kept = lru_cache(maxsize=256)(_resource_read)
"""Requests of one process have one resource."""


def _scope(encoded: bytes, location: str) -> tuple[str, str]:
    try:
        if len(encoded) > GIANT:
            encoded = walked(encoded, _SCOPE_ATTRIBUTES).rest
        scope = schema.Scope.FromString(encoded)
    except DecodeError:
        raise MalformedError(f"{location}.scope: cannot be read") from None
    return schema.text(scope.name), schema.text(scope.version)


_SCOPE_ATTRIBUTES = 3
"""Field number."""
