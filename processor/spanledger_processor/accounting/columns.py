"""What usual calls have of their own, by what it is: a column of ids, one of times, one of amounts.

Most of what is made of many calls (sums, running totals, a trace's record) is made of each column at once, in C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, repeat
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeVar

from spanledger_processor.ledger.facts import ModelUse
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import OTHER_CLASSES, CostParts, SixCounts
from spanledger_processor.units import Pico

_Key = TypeVar("_Key")
_NO_REST = (0,) * len(OTHER_CLASSES)


class OwnCall(Protocol):
    """A call with values of its own (`accounting.usual.UsualFact`)."""

    span_id: bytes


class Columns(NamedTuple):
    """The own values of the calls of one trace, in the order in which its record has them (`trace_record`)."""

    span_ids: Sequence[bytes]
    parent_ids: Sequence[bytes]
    starts: Sequence[int]
    ends: Sequence[int]
    response_ids: Sequence[str]
    counts: Sequence[SixCounts]
    amounts: Sequence[Pico]
    parts: Sequence[CostParts]
    days: Sequence[int]
    first_tokens: Sequence[int]
    sessions: Sequence[str]

    @classmethod
    def of(cls, calls: Iterable[OwnCall]) -> Columns:
        """Return the columns of calls, of which there is one at least."""
        return cls(*zip(*map(_own_values, calls), strict=True))

    def uses(self) -> Sequence[ModelUse]:
        """Return what each call used: one call, and its counts of the first six classes."""
        classes = zip(*self.counts, strict=True)
        known = [column if None not in column else [count or 0 for count in column] for column in classes]
        return [*zip(repeat(1), *known)]


_own_values: Callable[[OwnCall], tuple[Any, ...]] = attrgetter(
    *("span_id", "parent_id", "start_ns", "end_ns", "response_id", "counts", "amount", "parts", "day"),
    *("first_token_ns", "session.id"),
)


def runs_of(keys: Sequence[_Key]) -> Iterator[tuple[_Key, slice]]:
    """Yield where calls that have the same key stand side by side; those of most traces have one session."""
    if keys.count(keys[0]) == len(keys):
        yield keys[0], slice(None)
        return
    for key, places in groupby(range(len(keys)), keys.__getitem__):
        first, *others = places
        yield key, slice(first, first + 1 + len(others))


def sums_of(starts: Sequence[int], ends: Sequence[int], uses: Sequence[ModelUse], amounts: Sequence[Pico]) -> Sums:
    """Return the sums of counted calls, as `Span.added` makes them one by one; without models."""
    number, *usage = uses[0] if len(uses) == 1 else map(sum, zip(*uses, strict=True))
    usage += _NO_REST
    return Sums(sum(amounts), number, number, 0, tuple(usage), 0, number, min(starts), max(ends))
