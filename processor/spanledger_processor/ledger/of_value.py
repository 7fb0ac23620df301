"""What one value of a dimension spent: the same lists as of a whole ledger, as far as sums are kept by it.

Of a model or provider these are the records of days by provider and model. Of any other value there is a record a day,
with the cost of each model in it: so its models have a cost, and no calls or tokens, and reasons no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest
from typing import Any, TypeAlias

from spanledger_processor.ledger.day_values import has_spent, name_in
from spanledger_processor.ledger.dimensions import MODEL, PROVIDER
from spanledger_processor.ledger.facts import OTHER_MODELS
from spanledger_processor.ledger.keys import dimension_key
from spanledger_processor.ledger.packing import unpack
from spanledger_processor.ledger.queries import Days
from spanledger_processor.ledger.rows import Row, date_of, listed_model, money
from spanledger_processor.ledger.store import Reader
from spanledger_processor.ledger.sums import Merging

_Cost: TypeAlias = tuple[tuple[int, str], int]
"""A day (0: of all), a model and what it cost."""


def days_of_value(
    reader: Reader, tenant: bytes, name: str, value: str, since: int = 0, until: int | None = None
) -> tuple[Days, Row]:
    """Return what a value of a dimension spent from one UTC day (days since 1970) to another, both included, and the
    cost and the calls of values that are not told apart on their day any more: a part of those may be its own.

    Both are as the list of the dimension's values (`dimensions.values`) has them.
    """
    if name in (MODEL, PROVIDER):
        of_value = _DaysOfModels(reader, tenant, name, value, since, until)
        others = _DaysOfModels(reader, tenant, name, None, since, until).total()
        return of_value, {field: others[field] for field in ("cost_usd", "cost_usd_exact", "calls")}
    of_named = _DaysOfNamedValue(reader, tenant, name, value, since, until)
    return of_named, of_named.not_distinguished


class _DaysOfModels(Days):
    """Of a model or provider; None: of those that are not told apart."""

    def __init__(
        self, reader: Reader, tenant: bytes, name: str, value: str | None, since: int, until: int | None
    ) -> None:
        super().__init__(reader, tenant, since, until)
        self._name, self._value = name, value

    def _records(self) -> Iterator[tuple[int, list[Any]]]:
        return (row for row in super()._records() if self._is_of(row[1]))

    def _is_of(self, record: list[Any]) -> bool:
        if _is_negative(record):
            return self._value is None
        named = name_in(record[4], self._name)
        if self._value is None or named is None or self._name == PROVIDER:
            return named == self._value
        return self._value in (named, f"{record[4].get('provider', '')}/{named}")


def _is_negative(record: list[Any]) -> bool:
    """Return whether less than nothing is left: a part went to the others before it was taken out again."""
    return int(record[2][0]) < 0 or int(record[2][1]) < 0


class _DaysOfNamedValue(Days):
    """Of a value that is no model and no provider."""

    def __init__(self, reader: Reader, tenant: bytes, name: str, value: str, since: int, until: int | None) -> None:
        super().__init__(reader, tenant, since, until)
        days = sorted({day for day, _ in super()._records()})
        mine, others, whole = list[tuple[int, list[Any]]](), Merging(), Merging()
        for day, record in self._stored(days, name, value):
            if _is_negative(record):
                others.add(record)
            else:
                mine.append((day, record))
        for _, record in self._stored(days, name, None):
            others.add(record)
        for _, record in mine:
            whole.add(record)
        if whole.is_below_nothing:
            others.add(whole.row())
            mine = []
        self._mine = mine
        rest = others.sums()
        self.not_distinguished: Row = {**money(rest.cost), "calls": rest.calls}

    def by(self, what: str, most: int | None = None) -> list[Row]:
        """Return sums by `day`, or the cost by `model` or `day_model`, as those of a whole ledger."""
        if what == "day":
            return super().by(what, most)
        costs: dict[tuple[int, str], int] = {}
        for day, record in self._mine:
            for model, cost in record[6].items():
                group = (0 if what == "model" else day, listed_model(model))
                costs[group] = costs.get(group, 0) + int(cost)
        known = [(group, cost) for group, cost in costs.items() if cost > 0 and group[1] != OTHER_MODELS]
        kept = known if most is None else nlargest(most, known, key=lambda item: (item[1], item[0]))
        kept.sort(key=lambda item: (item[0][0], -item[1], item[0][1]))
        rows = [{**_names_of(what, item), **money(item[1])} for item in kept]
        if others := sum(costs.values()) - sum(cost for _, cost in kept):
            rows.append({**_names_of(what, ((0, OTHER_MODELS), others)), "other": True, **money(others)})
        return rows

    def unpriced(self) -> list[Row]:
        """Return calls without a price by reason, most first."""
        whole = Merging()
        for _, record in self._mine:
            whole.add(record)
        reasons = sorted(whole.sums().reasons.items(), key=lambda item: (-item[1], item[0]))
        return [{"provider": None, "model": None, "reason": reason, "calls": calls} for reason, calls in reasons]

    def _records(self) -> Iterator[tuple[int, list[Any]]]:
        yield from self._mine

    def _stored(self, days: list[int], name: str, value: str | None) -> Iterator[tuple[int, list[Any]]]:
        """Yield the records of a value; None: of all that are not told apart."""
        for day in days:
            packed = self._reader.get(dimension_key(self._tenant, name, day, value))
            if packed is not None and has_spent(record := unpack(packed)):
                yield day, record


def _names_of(what: str, item: _Cost) -> Row:
    (day, model), _ = item
    return {"model": model} if what == "model" else {"day": date_of(day) if day else None, "model": model}
