"""Usual calls by columns: one of ids, one of times, one of amounts, and no object for each call.

Most of what is made of many calls (sums, running totals, records of traces) is made of each column at once, in C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, repeat
from operator import attrgetter, is_, not_
from typing import Any, NamedTuple, TypeVar

from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.usual import UsualFact, UsualForm
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
        amounts, *others = columns[_FIRST.stop :]
        by_class, by_part = [*zip(*counts, strict=True)], [*zip(*parts, strict=True)]
        return cls._make([*columns[_FIRST], by_class, amounts, by_part, *others])

    @classmethod
    def from_flat(cls, columns: Sequence[Sequence[Any]]) -> Columns:
        """Return what `flat` gives in its columns."""
        counts, amounts, parts = columns[_COUNTS], columns[_COUNTS.stop], columns[_PARTS]
        return cls._make([*columns[: _COUNTS.start], counts, amounts, parts, *columns[_PARTS.stop :]])

    def flat(self) -> list[Sequence[Any]]:
        """Return all columns one behind the other."""
        return [*self[_FIRST], *self.counts, self.amounts, *self.parts, *self[_LAST]]

    def at(self, places: Sequence[slice]) -> Columns:
        """Return the columns of the calls that stand at some of the places."""
        return Columns.from_flat([[*chain.from_iterable(map(each.__getitem__, places))] for each in self.flat()])

    def uses(self) -> list[ModelUse]:
        """Return what each call used: one call, and its counts."""
        known = [column if None not in column else [count or 0 for count in column] for column in self.counts]
        return [*zip(repeat(1), *known)]


_FIRST, _LAST = slice(Columns._fields.index("counts")), slice(Columns._fields.index("days"), None)
"""Fields of one column each: those before the counts, and those behind the parts of amounts."""
_COUNTS, _PARTS = slice(5, 11), slice(12, 17)
"""Where counts and parts of amounts stand among all columns."""

_own_values: Callable[[UsualFact], tuple[Any, ...]] = attrgetter(
    *("span_id", "parent_id", "start_ns", "end_ns", "response_id", "amount", "day", "first_token_ns", "session.id"),
    *("counts", "parts"),
)


class UsualColumns(NamedTuple):
    """Usual calls of any traces: the id of the trace of each, its form, and its own values."""

    trace_ids: Sequence[bytes]
    forms: Sequence[UsualForm]
    own: Columns

    @classmethod
    def of(cls, facts: Sequence[UsualFact]) -> UsualColumns:
        """Return the columns of calls, of which there is one at least."""
        own = Columns.of(facts)
        return cls([*map(attrgetter("trace_id"), facts)], _forms_of(facts, own), own)

    def at(self, places: Sequence[slice]) -> UsualColumns:
        """Return the calls that stand at some of the places."""
        trace_ids = [*chain.from_iterable(map(self.trace_ids.__getitem__, places))]
        return UsualColumns(trace_ids, [*chain.from_iterable(map(self.forms.__getitem__, places))], self.own.at(places))

    def fact(self, place: int) -> UsualFact:
        """Return the fact of one of the calls."""
        return next(iter(self.at([slice(place, place + 1)]).facts()))

    def facts(self) -> Iterable[UsualFact]:
        """Yield the facts of the calls."""
        own = self.own
        counts, parts = zip(*own.counts, strict=True), zip(*own.parts, strict=True)
        own_values = zip(*own[_FIRST], counts, own.amounts, parts, *own[_LAST], strict=True)
        for form, trace_id, values in zip(self.forms, self.trace_ids, own_values, strict=True):
            fact = UsualFact.__new__(UsualFact)
            fact.prototype, fact.trace_id = form.prototype, trace_id
            fact.price, fact.estimate, fact.is_unsure, source = form.which[:4]
            fact.span_id, fact.parent_id, fact.start_ns, fact.end_ns, fact.response_id = values[:5]
            fact.counts, fact.amount, fact.parts, fact.day, fact.first_token_ns, session = values[5:]
            fact.session = Named(session, source)
            yield fact


_shared: Callable[[UsualFact], tuple[Any, ...]] = attrgetter(
    "prototype", "price", "estimate", "is_unsure", "session.source"
)


def _forms_of(facts: Sequence[UsualFact], own: Columns) -> list[UsualForm]:
    """Return the form of each call."""
    are_unknown = [map(is_, column, repeat(None)) for column in own.counts[1:]]
    unknown = zip(*are_unknown, map(not_, own.first_tokens), strict=True)
    each = [*zip(map(_shared, facts), unknown, strict=True)]
    forms = {one: one[0][0].form((*one[0][1:], *one[1])) for one in set(each)}
    return [*map(forms.__getitem__, each)]


def slices_of(keys: Sequence[_Key]) -> Iterator[tuple[_Key, slice]]:
    """Yield each key and the places of the calls that have it, where they stand side by side."""
    end = 0
    for key, equal in groupby(keys):
        first, end = end, end + len([*equal])
        yield key, slice(first, end)


def sums_of(starts: Sequence[int], ends: Sequence[int], uses: Sequence[ModelUse], amounts: Sequence[Pico]) -> Sums:
    """Return the sums of counted calls, as `Span.added` makes them one by one; without models."""
    number, *usage = uses[0] if len(uses) == 1 else map(sum, zip(*uses, strict=True))
    usage += _NO_REST
    return Sums(sum(amounts), number, number, 0, tuple(usage), 0, number, min(starts), max(ends))
