"""The links and times of one trace, indexed so that queries over all spans take time linear in their number.

Links come from the network: a parent may be unknown, and links may form a ring. A ring is cut above its smallest id, so
that the forest is a function of the set of links and every span of a ring has a position.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Protocol


class Link(Protocol):
    """A span as far as the forest looks at it."""

    @property
    def parent_id(self) -> bytes: ...


class Forest:
    """Spans by id in depth-first order: the descendants of a span follow it. Build it again after a change."""

    def __init__(self, links: Mapping[bytes, Link]) -> None:
        children: dict[bytes, list[bytes]] = {}
        roots: list[bytes] = []
        for span_id, link in links.items():
            if link.parent_id in links and link.parent_id != span_id:
                children.setdefault(link.parent_id, []).append(span_id)
            else:
                roots.append(span_id)
        self._order: list[bytes] = []
        self._at: dict[bytes, int] = {}
        self._up: list[int] = []
        self._walk(roots, children)
        if len(self._order) < len(links):
            self._walk(_ring_tops(links, self._at), children)
        self._unlinked = {root for root in roots if (up := links[root].parent_id) and up != root}

    @classmethod
    def above(cls, links: Mapping[bytes, Link], wanted: Iterable[bytes]) -> Forest:
        """Return the forest of some spans and of all that stand above them."""
        found: dict[bytes, Link] = {}
        for span_id in wanted:
            at = span_id
            while at not in found and (link := links.get(at)) is not None:
                found[at] = link
                at = link.parent_id
        return cls(found)

    def _walk(self, roots: Iterable[bytes], children: Mapping[bytes, list[bytes]]) -> None:
        stack = [(root, -1) for root in roots]
        order, places, ups = self._order, self._at, self._up
        while stack:
            span_id, up = stack.pop()
            if span_id in places:
                continue
            places[span_id] = at = len(order)
            order.append(span_id)
            ups.append(up)
            for child in children.get(span_id, ()):
                stack.append((child, at))  # noqa: PERF401 - a call less a span

    @cached_property
    def _ends(self) -> list[int]:
        """Return for each position the one behind its last descendant."""
        ends = [*range(1, len(self._order) + 1)]
        for at in range(len(ends) - 1, -1, -1):
            up = self._up[at]
            if up >= 0 and ends[at] > ends[up]:
                ends[up] = ends[at]
        return ends

    def is_above(self, upper: bytes, lower: bytes) -> bool:
        """Return whether `upper` is an ancestor of `lower`; a span is none of its own."""
        above, below = self._at.get(upper), self._at.get(lower)
        return above is not None and below is not None and above < below < self._ends[above]

    def related(self, one: bytes, other: bytes) -> bool:
        """Return whether one of two spans is an ancestor of the other."""
        return self.is_above(one, other) or self.is_above(other, one)

    def range_below(self, span_id: bytes) -> tuple[int, int]:
        """Return the positions of all descendants: the first, and the one behind the last."""
        at = self._at[span_id]
        return at + 1, self._ends[at]

    def position(self, span_id: bytes) -> int:
        """Return the position of a span in depth-first order."""
        return self._at[span_id]

    def sums_below(self, amounts: Mapping[bytes, int]) -> dict[bytes, int]:
        """Return for each span the sum of its descendants' amounts; spans above none of `amounts` are left out."""
        sums: dict[bytes, int] = {}
        order = self._order
        for span_id, up in zip(reversed(order), reversed(self._up), strict=True):
            if up >= 0 and (span_id in amounts or span_id in sums):
                upper = order[up]
                sums[upper] = sums.get(upper, 0) + sums.get(span_id, 0) + amounts.get(span_id, 0)
        return sums

    def below_any(self, wanted: set[bytes]) -> set[bytes]:
        """Return the descendants of the `wanted` spans."""
        result: set[bytes] = set()
        for at, span_id in enumerate(self._order):
            up = self._up[at]
            if up >= 0 and ((upper := self._order[up]) in wanted or upper in result):
                result.add(span_id)
        return result

    def unlinked(self) -> set[bytes]:
        """Return the spans whose ancestors end at an unknown parent."""
        return self._unlinked | self.below_any(self._unlinked)


def _ring_tops(links: Mapping[bytes, Link], placed: Mapping[bytes, int]) -> Iterator[bytes]:
    """Yield the smallest id of each ring of parent links; every span that is not `placed` leads up to a ring."""
    walked: set[bytes] = set()
    for start in links:
        way: dict[bytes, int] = {}
        span_id = start
        while span_id not in placed and span_id not in walked:
            walked.add(span_id)
            way[span_id] = len(way)
            span_id = links[span_id].parent_id
        if span_id in way:
            yield min(list(way)[way[span_id] :])


NEAREST = 32
"""The most free times that are visited on either side of one."""


class FreePlaces:
    """Places in order of time, each of which is taken once. `times` are in order."""

    def __init__(self, times: list[int]) -> None:
        self._times = times
        self._right = list(range(len(times) + 1))
        self._left = list(range(len(times) + 1))
        """For each index, a step towards the nearest free one: `_left` is shifted by one, 0 means none."""

    def near(self, time: int) -> Iterator[int]:
        """Yield the free places nearest to `time`, the nearest first, twice `NEAREST` at most."""
        middle = bisect_left(self._times, time)
        left, right = _jump(self._left, middle) - 1, _jump(self._right, middle)
        for _ in range(2 * NEAREST):
            if left < 0 and right == len(self._times):
                return
            if left < 0 or (right < len(self._times) and self._times[right] - time <= time - self._times[left]):
                index, right = right, _jump(self._right, right + 1)
            else:
                index, left = left, _jump(self._left, left) - 1
            yield index

    def take(self, index: int) -> None:
        """Take a free place."""
        self._right[index] = index + 1
        self._left[index + 1] = index


def _jump(steps: list[int], index: int) -> int:
    """Follow `steps` to the one that leads to itself, and shorten the way for the next time."""
    end = index
    while steps[end] != end:
        end = steps[end]
    while steps[index] != end:
        steps[index], index = end, steps[index]
    return end


class EarliestEnds:
    """Intervals of calls, to find whether a longer interval wholly contains one of them."""

    def __init__(self, times: Iterable[tuple[int, int, bytes]]) -> None:
        ordered = sorted(times)
        self._starts = [start for start, _, _ in ordered]
        self._first: list[list[tuple[int, bytes]]] = [[]]
        """From the last start back to the first: the two earliest ends from there on, of two different calls."""
        for _, end, call in reversed(ordered):
            best: list[tuple[int, bytes]] = []
            for known in sorted([*self._first[-1], (end, call)]):
                if len(best) < 2 and all(known[1] != other for _, other in best):
                    best.append(known)
            self._first.append(best)

    def any_within(self, start_ns: int, end_ns: int, but: bytes) -> bool:
        """Return whether one starts at `start_ns` or later and ends at `end_ns` or before, other than of call `but`."""
        later = len(self._starts) - bisect_left(self._starts, start_ns)
        return any(end <= end_ns and call != but for end, call in self._first[later])
