"""A cheap search for words in bytes, before anything is decoded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable
from functools import lru_cache
from typing import Any

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from spanledger_processor.otlp.envelope import Items
from spanledger_processor.otlp.values import GIANT, holds
from spanledger_processor.otlp.wire import finished

_FIRST_WINDOW, _LARGEST_WINDOW = 2**12, 2**20
"""Bytes searched at a time. What was found in one window is not looked for in the next, or every match would cost."""
_LARGEST_GAP = 2**15
"""Bytes searched at a time for the next item with a mark: all marks in them are found, and one is used."""
_FEW = 4
"""Items without a mark that are looked at one after the other before the next mark is looked for."""
_SEARCHES = 256
"""Searches kept, 32 KiB each: one for each set of markers left, of which all recordings, mixed, come to 66. To make one
takes as long as to search a request twice.
"""


class Prefilter:
    """Words that every item of interest holds. Other texts may hold them by chance: structure decides later.

    A request without any of them costs this search and little else, so all are looked for in one pass: with thirty
    words that takes a twentieth of the time of looking for one after the other.
    """

    def __init__(self, markers: tuple[bytes, ...], any_of: Iterable[bytes] = ()) -> None:
        """Take the markers, printable ASCII: so none can begin before an item and end inside it.

        Of those in `any_of` it is only found whether there are any: each set of markers that is left to look for needs
        a search of its own.
        """
        self._any_of = tuple(any_of)
        self._markers = (*markers, *self._any_of)
        assert all(marker.isascii() and marker.decode().isprintable() for marker in self._markers)
        self._overlap = max(map(len, self._markers), default=1) - 1

    def hits(self, body: bytes) -> tuple[bytes, ...]:
        """Return markers in `body`, such that every item that holds a marker holds one of them; of those of which it is
        only found whether there are any, all or none.

        Of markers that overlap in the bytes the first is found, and the longest of those that begin together.
        """
        return finished(self.searching(body))

    def searching(self, body: bytes) -> Generator[None, None, tuple[bytes, ...]]:
        """Do as `hits`, in slices."""
        view, left = memoryview(body), self._markers
        at, size = 0, _FIRST_WINDOW
        while at < len(body) and left:
            result = {index for index, _, _ in _search(left)(view[at : at + size + self._overlap])}
            if result:
                found = {left[index] for index in result}
                if not found.isdisjoint(self._any_of):
                    found.update(self._any_of)
                left = tuple([marker for marker in left if marker not in found])
            at, size = at + size, min(2 * size, _LARGEST_WINDOW)
            if size == _LARGEST_WINDOW:
                yield
        return tuple([marker for marker in self._markers if marker not in left])


def next_holding(items: Items, place: int, marks: tuple[bytes, ...]) -> Generator[None, None, int]:
    """Return the place of the first item from `place` on that holds one of `marks`, behind the last where there is
    none; yields after each megabyte searched.

    Items with marks are looked at one by one, since a mark stands near the beginning of most. After some without one
    the next mark is searched for, and the items before it are passed over.
    """
    body, starts, ends, without = items.body, items.starts, items.ends, 0
    while marks and place < len(starts):
        start, end = starts[place], ends[place]
        if without < _FEW and end - start <= GIANT:
            if holds(body, start, end, marks):
                return place
            without += 1
        else:
            first, last = yield from _next_match(body, start, ends[-1], marks)
            place, without = bisect_right(starts, first, place) - 1, 0
            end = ends[place]
            if last <= end or (first < end and holds(body, first, end, marks)):
                return place
        place += 1
    return len(starts)


def _next_match(body: bytes, at: int, end: int, marks: tuple[bytes, ...]) -> Generator[None, None, tuple[int, int]]:
    """Return where the first of `marks` in [at, end) begins and ends, both behind `end` where there is none."""
    view, size, overlap = memoryview(body)[:end], _FIRST_WINDOW, max(map(len, marks)) - 1
    since = 0
    while at < end:
        if matches := _search(marks)(view[at : at + size + overlap]):
            _, first, last = matches[0]
            return at + first, at + last
        at, since, size = at + size, since + size, min(2 * size, _LARGEST_GAP)
        if since >= _LARGEST_WINDOW:
            since = 0
            yield
    return end + 1, end + 2


@lru_cache(_SEARCHES)
def _search(markers: tuple[bytes, ...]) -> Callable[[Any], list[tuple[int, int, int]]]:
    """Find matches of `markers` as (index, start, end); the leftmost kinds are searched by vector instructions."""
    return BytesAhoCorasick(markers, matchkind=MatchKind.LeftmostLongest).find_matches_as_indexes
