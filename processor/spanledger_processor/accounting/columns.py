"""What usual calls have of their own, by what it is: a column of ids, one of times, one of amounts.

Most of what is made of many calls (sums, running totals, records of traces) is made of each column at once, in C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, repeat
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from spanledger_processor.accounting.usual import UsualFact
from spanledger_processor.ledger.facts import ModelUse
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import OTHER_CLASSES
from spanledger_processor.units import Pico

_Key = TypeVar("_Key")
_NO_REST = (0,) * len(OTHER_CLASSES)


class Columns(NamedTuple):
    """The own values of calls, in the order in which the record of a trace has them (`trace_record`).

    `counts` has a column for each of the first six usage classes, `parts` for each part of an amount.
    """

    span_ids: Sequence[bytes]
    parent_ids: Sequence[bytes]
    starts: Sequence[int]
    ends: Sequence[int]
    response_ids: Sequence[str]
    counts: Sequence[Sequence[int | None]]
    amounts: Sequence[Pico]
    parts: Sequence[Sequence[Pico]]
    days: Sequence[int]
    first_tokens: Sequence[int]
    sessions: Sequence[str]

    @classmethod
    def of(cls, calls: Iterable[UsualFact]) -> Columns:
        """Return the columns of calls, of which there is one at least."""
        *columns, counts, parts = zip(*map(_own_values, calls), strict=True)
        amounts, *others = columns[5:]
        by_class, by_part = [*zip(*counts, strict=True)], [*zip(*parts, strict=True)]
        return cls._make([*columns[:5], by_class, amounts, by_part, *others])

    @classmethod
    def from_flat(cls, columns: Sequence[Sequence[Any]]) -> Columns:
        """Return what `flat` gives in its columns."""
        counts, amounts, parts = columns[_COUNTS], columns[_COUNTS.stop], columns[_PARTS]
        return cls._make([*columns[: _COUNTS.start], counts, amounts, parts, *columns[_PARTS.stop :]])

    def flat(self) -> list[Sequence[Any]]:
        """Return all columns one behind the other."""
        return [*self[:5], *self.counts, self.amounts, *self.parts, *self[8:]]

    def at(self, places: Sequence[slice]) -> Columns:
        """Return the columns of the calls that stand at some of the places."""
        return Columns.from_flat([[*chain.from_iterable(map(each.__getitem__, places))] for each in self.flat()])

    def uses(self) -> list[ModelUse]:
        """Return what each call used: one call, and its counts."""
        known = [column if None not in column else [count or 0 for count in column] for column in self.counts]
        return [*zip(repeat(1), *known)]


_COUNTS, _PARTS = slice(5, 11), slice(12, 17)
"""Where counts and parts of amounts stand among all columns."""

_own_values: Callable[[UsualFact], tuple[Any, ...]] = attrgetter(
    *("span_id", "parent_id", "start_ns", "end_ns", "response_id", "amount", "day", "first_token_ns", "session.id"),
    *("counts", "parts"),
)


def runs_of(keys: Sequence[_Key]) -> Iterator[tuple[_Key, slice]]:
    """Yield where calls that have the same key stand side by side."""
    end = 0
    for key, equal in groupby(keys):
        first, end = end, end + len([*equal])
        yield key, slice(first, end)


def sums_of(starts: Sequence[int], ends: Sequence[int], uses: Sequence[ModelUse], amounts: Sequence[Pico]) -> Sums:
    """Return the sums of counted calls, as `Span.added` makes them one by one; without models."""
    number, *usage = uses[0] if len(uses) == 1 else map(sum, zip(*uses, strict=True))
    usage += _NO_REST
    return Sums(sum(amounts), number, number, 0, tuple(usage), 0, number, min(starts), max(ends))
