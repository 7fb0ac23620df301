"""A cheap search for words in bytes, before anything is decoded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import Any

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from spanledger_processor.otlp.envelope import Items
from spanledger_processor.otlp.wire import finished

_FIRST_WINDOW, _LARGEST_WINDOW = 2**9, 2**20
"""Bytes searched at a time. The first are few, since a mark stands near the beginning of most items that hold one."""
_LARGEST_GAP = 2**15
"""Bytes searched at a time for the next item with a mark: all marks in them are found, and one is used."""


class Prefilter:
    """Words that every item of interest holds. Other texts may hold them by chance: structure decides later.

    A request without any of them costs this search and little else, so all are looked for in one pass: with thirty
    words that takes a twentieth of the time of looking for one after the other.
    """

    def __init__(self, markers: tuple[bytes, ...]) -> None:
        """Take the markers, printable ASCII: so none can begin before an item and end inside it."""
        assert all(marker.isascii() and marker.decode().isprintable() for marker in markers)
        self.markers = markers

    def hits(self, body: bytes) -> bool:
        """Return whether a marker stands in `body`."""
        return finished(self.searching(body))

    def is_in(self, item: bytes) -> bool:
        """Return whether a marker stands in the bytes of an item, which are not many."""
        return bool(self.markers) and bool(_search(self.markers)[0](item))

    def searching(self, body: bytes) -> Generator[None, None, bool]:
        """Do as `hits`, in slices."""
        if not self.markers:
            return False
        first, _, _ = yield from _next_match(body, 0, len(body), self.markers, _LARGEST_WINDOW)
        return first < len(body)


def next_holding(items: Items, place: int, marks: tuple[bytes, ...]) -> Generator[None, None, tuple[int, bytes]]:
    """Return the place of the first item from `place` on that holds one of `marks`, and the mark; the place behind the
    last where there is none. Items before it are passed over. Yields after each megabyte searched.
    """
    body, starts, ends = items.body, items.starts, items.ends
    while marks and place < len(starts):
        first, last, mark = yield from _next_match(body, starts[place], ends[-1], marks, _LARGEST_GAP)
        place = bisect_right(starts, first, place) - 1
        end = ends[place]
        if last <= end:
            return place, mark
        for inner in marks if first < end else ():
            if body.find(inner, first, end) >= 0:
                return place, inner
        place += 1
    return len(starts), b""


def _next_match(
    body: bytes, at: int, end: int, marks: tuple[bytes, ...], largest: int
) -> Generator[None, None, tuple[int, int, bytes]]:
    """Return where the first of `marks` in [at, end) begins and ends, and which it is; both places are behind `end`
    where there is none. At most `largest` bytes are searched at a time.
    """
    view, size, since = memoryview(body)[:end], _FIRST_WINDOW, 0
    search, overlap = _search(marks)
    while at < end:
        if matches := search(view[at : at + size + overlap]):
            index, first, last = matches[0]
            return at + first, at + last, marks[index]
        at, since, size = at + size, since + size, min(2 * size, largest)
        if since >= _LARGEST_WINDOW:
            since = 0
            yield
    return end + 1, end + 2, b""


@lru_cache(16)
def _search(marks: tuple[bytes, ...]) -> tuple[Callable[[Any], list[tuple[int, int, int]]], int]:
    """Return what finds `marks` as (index, start, end), and by how many bytes what is searched in turn must overlap.

    The leftmost kinds are searched by vector instructions. Kept for the sets that there are, 32 KiB each: to make one
    takes as long as to search a request twice.
    """
    search = BytesAhoCorasick(marks, matchkind=MatchKind.LeftmostLongest)
    return search.find_matches_as_indexes, max(map(len, marks)) - 1
