"""From a request and what was appended to its items back to bytes, as a whole or in parts.

A part is fields of the request that stand side by side, or of one of its resources or scopes, which then stands around
them in each of its parts. Where a request is cut depends on its own bytes alone, so one that comes again is cut at the
same places, whatever is appended to it by then.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import chain
from typing import NamedTuple, TypeAlias

from spanledger_processor.otlp.envelope import SLICE_CUT, SLICE_PARTS, Items, ScopeGroup
from spanledger_processor.otlp.wire import LENGTH, SHORT_VARINTS, WireField, fields, write_varint

SLICE_ITEMS = 1024
"""Items written between two pauses: a few milliseconds."""
SLICE_BYTES = 2**20
"""Bytes written, or joined, between two pauses: likewise, and those of one item more."""
_LONG_PIECE = 4096
"""Bytes between two edited items, on average, from which on no piece of the request is copied but into the result."""

_GROUPS, _SCOPED, _ITEMS = 1, 2, 2
"""Field numbers: groups of a request, scopes of a group, items of a scope."""
_TAGS = (bytes((_GROUPS << 3 | LENGTH,)), bytes((_SCOPED << 3 | LENGTH,)))
"""Of what stands around the fields of a part, the outermost first."""
_ITEM_TAG = bytes((_ITEMS << 3 | LENGTH,))

_Bytes: TypeAlias = bytes | memoryview
_Chunk: TypeAlias = list[_Bytes]
"""Pieces of a message, one after the other."""
Contents: TypeAlias = Mapping[int, dict[int, bytes]]
"""Content by scope, counted over the whole request, and by item, counted inside its scope."""


class RequestPart(NamedTuple):
    """Fields of a request at [start, end), which hold so many `items`.

    `around` is what stands before and behind them, in the resource (and the scope) that was cut, the resource first.
    `scope` is the first scope in it, counted over the request; [first, last) are the items of a scope that was cut.
    """

    start: int
    end: int
    items: int
    scope: int = 0
    around: tuple[tuple[bytes, bytes], ...] = ()
    first: int = 0
    last: int = 0

    def encoded(self, body: bytes) -> bytes:
        """Return the part of `body`, as a request, as it came."""
        if not self.around and len(body) == self.end - self.start:
            return body
        content: _Chunk = [body[self.start : self.end]]
        edited = _Edited(self.end - self.start, [content])
        return b"".join(chain.from_iterable(_framed(self, edited).chunks))


class _Edited(NamedTuple):
    """A message that was edited, in chunks, and its size."""

    size: int
    chunks: list[_Chunk]


_Edits: TypeAlias = Generator[None, None, _Edited | None]


def splicing(
    body: bytes, groups: Sequence[ScopeGroup], extras: Contents, replaced: Contents, part: RequestPart
) -> Generator[None, None, bytes]:
    """Return a part of a request with extras[scope][item] appended to those items, and others replaced.

    An item is either appended to or replaced. Yields after each `SLICE_ITEMS` items of a scope. Nothing is copied but
    into the result, and both mappings are emptied on the way.
    """
    scopes: Iterator[int] = iter(range(part.scope, len(groups)))
    edited_items = sum(map(len, extras.values())) + sum(map(len, replaced.values()))
    source: _Bytes = body if len(body) <= min(SLICE_BYTES, _LONG_PIECE * edited_items) else memoryview(body)

    def scoped(start: int, end: int) -> _Edits:
        scope = next(scopes)
        appended, new = extras.get(scope, _NONE), replaced.get(scope, _NONE)
        if not (appended or new):
            return None
        places = sorted(appended.keys() | new.keys())
        return (yield from _edit(groups[scope].items, source, start, end, appended, new, places))

    def group(start: int, end: int) -> _Edits:
        return _replace(body, source, start, end, _SCOPED, scoped)

    match len(part.around):
        case 0:
            edited = yield from _replace(body, source, part.start, part.end, _GROUPS, group)
        case 1:
            edited = yield from _replace(body, source, part.start, part.end, _SCOPED, scoped)
        case _:
            appended, new = extras.get(part.scope, _NONE), replaced.get(part.scope, _NONE)
            places = [place for place in range(part.first, part.last) if place in appended or place in new]
            items = groups[part.scope].items
            edited = yield from _edit(items, source, part.start, part.end, appended, new, places)
    return part.encoded(body) if edited is None else (yield from _joined(_framed(part, edited)))


def _framed(part: RequestPart, edited: _Edited) -> _Edited:
    """Return the fields of a part inside what stands around them."""
    size, chunks = edited
    for tag, (head, tail) in reversed([*zip(_TAGS, part.around, strict=False)]):
        content = len(head) + size + len(tail)
        before: _Chunk = [tag, write_varint(content), head]
        chunks = [before, *chunks, [tail]]
        size = content + len(tag) + len(before[1])
    return _Edited(size, chunks)


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
    items: Items,
    source: _Bytes,
    start: int,
    end: int,
    extras: dict[int, bytes],
    replaced: dict[int, bytes],
    places: Sequence[int],
) -> _Edits:
    """Return the part of a scope at [start, end) with `extras` appended to its items, or items `replaced`, at `places`;
    both are emptied of them. None where there are none.
    """
    if not places:
        return None
    body, starts, ends = items.body, items.starts, items.ends
    chunks: list[_Chunk] = []
    chunk: _Chunk = []
    copied, pause, edited_size = start, start + SLICE_BYTES, end - start
    for number, place in enumerate(places, 1):
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
            if to - content <= SLICE_BYTES:
                chunk += (source[copied:tag_end], length, source[content:to], extra)
            else:  # to copy all of it at once takes as long as many slices
                chunks.append([*chunk, source[copied:tag_end], length])
                chunks += ([source[at : min(at + SLICE_BYTES, to)]] for at in range(content, to, SLICE_BYTES))
                chunk = [extra]
        edited_size += len(length) + size - (to - tag_end)
        copied = to
    chunk.append(source[copied:end])
    chunks.append(chunk)
    return _Edited(edited_size, chunks)


def planning(
    body: bytes, groups: Sequence[ScopeGroup], most: int, growth: int
) -> Generator[None, None, list[RequestPart]]:
    """Return the parts of a request, in order, in slices: each of `most` bytes at most where no item is longer, if its
    items grow by `growth` bytes each.

    A resource that is longer is cut between its scopes, and such a scope between its items, if these stand side by
    side. What stands around is repeated in each part; where that is long a part holds as much again, so that all of
    them together have about twice the bytes of the request at most.
    """
    plan = _Plan(body, groups, most, growth)
    if not (yield from plan.cutting()):
        return [RequestPart(0, len(body), sum(len(group.items) for group in groups))]
    return plan.parts


class _Plan:
    """The parts of a request up to some field, and the run of fields of which the next one will be."""

    def __init__(self, body: bytes, groups: Sequence[ScopeGroup], most: int, growth: int) -> None:
        self.parts: list[RequestPart] = []
        self._body = body
        self._groups = groups
        self._most = most
        self._growth = growth
        self._around: tuple[tuple[bytes, bytes], ...] = ()
        self._room = most
        self._start = self._end = 0
        self._weight = self._items = 0
        self._scope = self._next = 0
        """The first scope of the run, and the first one behind it, counted over the request."""

    def cutting(self) -> Generator[None, None, bool]:
        """Add all resources; return whether there is nothing else in the request, which nobody could read by itself."""
        at = 0
        for number, field in enumerate(fields(self._body, 0, len(self._body)), 1):
            if number % SLICE_PARTS == 0:
                yield
            if not _is(field, _GROUPS):
                return False
            scopes = yield from _find_scopes(self._body, field)
            if not self._add(at, field.end, scopes.number) and not (yield from self._cutting_group(field, scopes)):
                self._add_alone(at, field.end, scopes.number)
            at = field.end
        self._close(at)
        return bool(self.parts)

    def _cutting_group(self, field: WireField, scopes: _Scopes) -> Generator[None, None, bool]:
        """Add a resource in parts; return whether it can be cut."""
        if not scopes.number or not scopes.side_by_side:
            return False
        self._enter((self._body[field.start : scopes.start], self._body[scopes.end : field.end]), scopes.start)
        at = scopes.start
        for number, scope in enumerate(fields(self._body, scopes.start, scopes.end), 1):
            if number % SLICE_PARTS == 0:
                yield
            if not self._add(at, scope.end, 1) and not (yield from self._cutting_scope(scope)):
                self._add_alone(at, scope.end, 1)
            at = scope.end
        self._close(at)
        self._around, self._room, self._start = (), self._most, field.end
        return True

    def _cutting_scope(self, field: WireField) -> Generator[None, None, bool]:
        """Add a scope in parts; return whether it can be cut."""
        items = self._groups[self._next].items
        starts, ends = items.starts, items.ends
        if len(items) < 2 or not (yield from _stand_side_by_side(items)):
            return False
        begin = starts[0] - len(_header(ends[0] - starts[0]))
        outer = self._around
        self._enter((self._body[field.start : begin], self._body[ends[-1] : field.end]), begin)
        at, first = begin, 0
        for number, end in enumerate(ends):
            if number % SLICE_CUT == SLICE_CUT - 1:
                yield
            weight = end - at + self._growth
            if self._weight and self._weight + weight > self._room:
                self._end_items(first, number)
                first = number
            self._weight += weight
            at = self._end = end
        self._end_items(first, len(ends))
        self._next += 1
        self._around, self._room = outer, self._room_in(outer)
        self._close(field.end)
        return True

    def _end_items(self, first: int, last: int) -> None:
        self.parts.append(RequestPart(self._start, self._end, last - first, self._next, self._around, first, last))
        self._start, self._weight = self._end, 0

    def _enter(self, around: tuple[bytes, bytes], start: int) -> None:
        """Begin a run inside a resource or scope."""
        self._around = (*self._around, around)
        self._room, self._start = self._room_in(self._around), start

    def _room_in(self, around: tuple[tuple[bytes, bytes], ...]) -> int:
        repeated = sum(map(len, chain.from_iterable(around)))
        return max(self._most - repeated, repeated)

    def _add(self, start: int, end: int, scopes: int) -> bool:
        """Add a field that holds so many scopes to the run, or to the next one; return whether there is room for it."""
        items = self._items_of(scopes)
        weight = end - start + self._growth * items
        if self._weight and self._weight + weight > self._room:
            self._close(start)
        if weight > self._room:
            return False
        self._end, self._weight, self._items = end, self._weight + weight, self._items + items
        self._next += scopes
        return True

    def _add_alone(self, start: int, end: int, scopes: int) -> None:
        """Add a field that is longer than a part, and cannot be cut, as a part."""
        self._start, self._end, self._weight, self._items = start, end, 1, self._items_of(scopes)
        self._next += scopes
        self._close(end)

    def _items_of(self, scopes: int) -> int:
        return sum(len(group.items) for group in self._groups[self._next : self._next + scopes])

    def _close(self, start: int) -> None:
        """End the run, if there is one; the next one begins at `start`."""
        if self._weight:
            self.parts.append(RequestPart(self._start, self._end, self._items, self._scope, self._around))
        self._start, self._weight, self._items, self._scope = start, 0, 0, self._next


class _Scopes(NamedTuple):
    """How many scopes a resource has, where the first begins and the last ends, and whether only they are between."""

    number: int
    start: int
    end: int
    side_by_side: bool


def _find_scopes(body: bytes, field: WireField) -> Generator[None, None, _Scopes]:
    number, start, end, side_by_side = 0, 0, 0, True
    at = field.start
    for read, inner in enumerate(fields(body, field.start, field.end), 1):
        if read % SLICE_PARTS == 0:
            yield
        if _is(inner, _SCOPED):
            if number:
                side_by_side = side_by_side and at == end
            else:
                start = at
            number, end = number + 1, inner.end
        at = inner.end
    return _Scopes(number, start, end, side_by_side)


def _stand_side_by_side(items: Items) -> Generator[None, None, bool]:
    """Return whether nothing is between the items, and their tags and lengths are no longer than needed."""
    body, before = items.body, 0
    for number, (start, end) in enumerate(zip(items.starts, items.ends, strict=True)):
        if number % SLICE_CUT == SLICE_CUT - 1:
            yield
        header = _header(end - start)
        begin = start - len(header)
        if body[begin:start] != header or (number and begin != before):
            return False
        before = end
    return True


def _header(size: int) -> bytes:
    return _ITEM_TAG + write_varint(size)


def _is(field: WireField, number: int) -> bool:
    return field.number == number and field.wire_type == LENGTH
