"""The envelope that all signals share: request, groups by resource, groups by scope, items.

A body is taken for an export request if its envelope can be read, something in it is a field of such a request, and
its items are not evidently another signal's: a field that OTLP knows never changes its wire type, so a "span" whose
field 1 is a fixed64 is a log record sent to the wrong address. What fields OTLP does not know hold is not looked at. An
item that cannot be read at all makes no request malformed: it passes as it is.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import repeat
from typing import NamedTuple, TypeAlias, TypeVar, overload

from google.protobuf.message import DecodeError

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.signals import GROUPS, SCOPES, Envelope, contradiction
from spanledger_processor.otlp.values import GIANT, MOST_COMPARED, Attributes, attributes_of, walked
from spanledger_processor.otlp.wire import LENGTH, MalformedError, Steps, fields, pause, read_varint

T = TypeVar("T")

MAX_PARTS, MAX_ITEMS = 2**18, 2**20
"""Resources and scopes, and items, that one request may hold. Real ones reach 64 MiB long before; without a limit two
bytes an item would take gigabytes to read."""
_TOO_MANY = f"more than {MAX_PARTS} resources and scopes or {MAX_ITEMS} items; send them in smaller requests"

SLICE_PARTS = 512
"""Resources, scopes or fields read between two pauses: a few milliseconds."""

SLICE_CUT = 8192
"""Items found in a scope between two pauses: likewise."""


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
    groups = yield from _messages(body, 0, len(body), {1: envelope.resources}, GROUPS, envelope.request)
    if body and not groups.starts:
        raise MalformedError(f"{envelope.request}: holds no {envelope.resources}")
    parts, items, since = groups.number, 0, 0
    foreign = _Foreign(envelope)
    for number, (start, end) in enumerate(zip(groups.starts, groups.ends, strict=True)):
        location = f"{envelope.resources}[{number}]"
        known = {1: "resource", 2: envelope.scoped, 3: "schema_url"}
        inside = yield from _messages(body, start, end, known, SCOPES, location)
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


def count_first(body: bytes, start: int, end: int) -> int:
    """Return how many items the scope at [start, end) has; of many, those that are found before the first pause.

    Raises:
        MalformedError: a field that cannot be read.
    """
    starts = array("L")
    next(_finding(body, start, end, starts, array("L"), bytearray()), None)
    return len(starts)


def _passing_over(
    body: bytes, at: int, end: int, starts: array[int], ends: array[int], scope: bytearray
) -> Generator[None, None, int]:
    """Do as `_finding` up to the next item, and return where that ends."""
    for read, field in enumerate(fields(body, at, end), 1):
        at = field.end
        if field.is_message(_SCOPE):
            scope += body[field.start : at]
        elif field.is_message(_ITEMS):
            starts.append(field.start)
            ends.append(at)
            break
        if read % SLICE_PARTS == 0:
            yield
    return at


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
            self._problem, read = contradiction(items.body, start, end, self._envelope)
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
    yield from visiting_groups(body, envelope, groups.append)
    return groups


def visiting_groups(body: bytes, envelope: Envelope, visit: Callable[[ScopeGroup], None]) -> Steps[None]:
    """Do as `reading_groups`, and hand each group to `visit` instead of keeping it."""
    resource, number = Attributes({}), 0
    group = ScopeGroup(resource, "", "", Items(body))
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
                group = ScopeGroup(resource, name, version, items)
                last = None if items else encoded
            visit(group)  # an empty one like the one before is the same
        else:
            yield found


def _in_turn(read: Callable[[bytes, str], T], encoded: bytes, location: str) -> Steps[T]:
    """Read a resource or scope, on a thread where it is giant."""
    if len(encoded) <= GIANT:
        return read(encoded, location)
    result: T = yield partial(read, encoded, location)
    return result


def _resource(encoded: bytes, location: str) -> Attributes:
    try:
        return resource_attributes(encoded)
    except DecodeError:
        raise MalformedError(f"{location}.resource: cannot be read") from None


def resource_attributes(encoded: bytes) -> Attributes:
    """Return the attributes of a resource.

    Raises:
        DecodeError: it cannot be read.
    """
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
