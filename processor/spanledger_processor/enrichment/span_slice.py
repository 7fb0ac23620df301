"""Spans of one group, and the traces that they are of.

The ids of many spans are cut out at once, as bytes: libraries write the trace of a span first, its own id behind it;
the Collector writes them last, the other way round. Only of spans that have them elsewhere each is read.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import compress, filterfalse
from typing import TypeVar

from spanledger_processor.otlp.envelope import Items
from spanledger_processor.otlp.views import head_of
from spanledger_processor.otlp.wire import MalformedError

TRACE_ID, SPAN_ID = b"\x0a\x10", b"\x12\x08"
"""Tag and length of each id."""
_BOTH_IDS = 28
"""Bytes of a span's own two ids with their tags."""
MOST = 512
"""Spans of a slice at most."""

T = TypeVar("T")


class SpanSlice:
    """The spans of a group at some places, in order. `items` are all spans of the group, `places` indexes of these."""

    __slots__ = ("_ids", "_tagged", "_tags", "ends", "items", "places", "starts")

    def __init__(self, items: Items, places: Sequence[int]) -> None:
        """Take the spans at `places`; there is one at least, and `MOST` at most."""
        self.items, self.places = items, places
        self.starts, self.ends = starts, ends = _at(places, items.starts), _at(places, items.ends)
        body = items.body
        self._tags = TRACE_ID
        self._ids: Sequence[bytes] = [body[start : start + 18] for start in starts]
        if not self._ids[0].startswith(TRACE_ID):
            self._tags = SPAN_ID + TRACE_ID
            self._ids = [body[end - 28 : end - 26] + body[end - 18 : end] for end in ends]
        self._tagged = set(self._ids)
        """All different ids: each has the tags before it, if ids stand there."""

    def split(self, known: Container[bytes]) -> tuple[Sequence[int], SpanSlice | None]:
        """Return the places of spans that may be of these traces, and the slice of all others.

        A span whose ids stand elsewhere than at its begin or end may be of any trace.
        """
        tags, ids, body = self._tags, self._ids, self.items.body
        some = {one for one in self._tagged if not one.startswith(tags) or one[len(tags) :] in known}
        maybe = [*compress(range(len(ids)), map(some.__contains__, ids))] if some else []
        found = [number for number in maybe if _may_be_of(known, body, self.starts[number], self.ends[number])]
        if not found:
            return (), self
        others = without(range(len(ids)), found)
        if not others:
            return self.places, None
        return _at(found, self.places), self._only(others, self._tagged - some if len(found) == len(maybe) else None)

    def _only(self, numbers: Sequence[int], tagged: set[bytes] | None) -> SpanSlice:
        """Return the slice of some of these spans, by their numbers in it; `tagged` are their ids, where known."""
        some = SpanSlice.__new__(SpanSlice)
        some.items, some.places, some._tags = self.items, _at(numbers, self.places), self._tags
        some.starts, some.ends, some._ids = _at(numbers, self.starts), _at(numbers, self.ends), _at(numbers, self._ids)
        some._tagged = set(some._ids) if tagged is None else tagged
        return some

    def traces(self) -> set[bytes]:
        """Return the traces of its spans, as far as they can be read."""
        tags = self._tags
        if all(one.startswith(tags) for one in self._tagged):
            return {one[len(tags) :] for one in self._tagged}
        return set[bytes]().union(*(trace_of(self.items[place]) for place in self.places))


def _at(places: Sequence[int], column: Sequence[T]) -> Sequence[T]:
    """Return what stands at some places of a column; a range is cut out at once."""
    return column[places.start : places.stop] if isinstance(places, range) else [*map(column.__getitem__, places)]


def without(places: Sequence[int], some: Sequence[int]) -> Sequence[int]:
    """Return `places` less `some` of them, both in order; as a range where they are one, less its first or last."""
    number = len(some)
    if not number or some[-1] == places[number - 1]:
        return places[number:]
    if some[0] == places[-number]:
        return places[:-number]
    return [*filterfalse(set(some).__contains__, places)]


def _may_be_of(known: Container[bytes], body: bytes, start: int, end: int) -> bool:
    """Return whether the span at [start, end) is of one of these traces, also where its ends do not show it."""
    if body.startswith(TRACE_ID, start, end):
        return body[start + 2 : min(start + 18, end)] in known
    last = body[max(start, end - _BOTH_IDS) : end]
    if last[-18:-16] == TRACE_ID and last[-28:-26] == SPAN_ID:
        return last[-16:] in known
    return True


def trace_of(span: bytes) -> set[bytes]:
    """Return the trace of a span, as a set that is empty where it cannot be read."""
    if span.startswith(TRACE_ID):
        return {span[2:18]}
    try:
        return {head_of(span)[0]} - {b""}
    except MalformedError:
        return set()
