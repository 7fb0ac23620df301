"""Rolling budgets: the stretches of days in which a threshold is reached, and of which of them that was reported.

The sum of the last days rises with what is spent, and falls where a day begins, which takes the oldest day out. A
threshold is reported when the sum reaches it, and again when it has been below it since. Both follow from what was
spent on each day, as far as that is known by now. What was reported stays so, and stands in the ledger: of a stretch
that a late call makes longer, or joins to another, nothing is reported again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.crossings import REPORTED_FOR, Crossing
from spanledger_processor.ledger.keys import budget_key, reached_key
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.rows import date_of
from spanledger_processor.ledger.store import Key, Reader
from spanledger_processor.units import MS_PER_DAY, NS_PER_DAY, Pico


class Sum(NamedTuple):
    """What was spent in the last days, where the latest of them begins, with nothing of it, and where it ends."""

    begins: Pico
    ends: Pico


def sums_of_days(days: int, spent: Callable[[int], Pico], first: int, last: int) -> dict[int, Sum]:
    """Return the sums of so many days, by the latest of them (since 1970); `spent` is what was spent on one day."""
    sums, begins = dict[int, Sum](), sum(map(spent, range(first - days + 1, first)))
    for day in range(first, last + 1):
        sums[day] = Sum(begins, begins + spent(day))
        begins = sums[day].ends - spent(day - days + 1)
    return sums


class Stretch(NamedTuple):
    """Days, since 1970, in which a sum reaches a threshold and is not below it in between.

    `goes_on` is true where it may have begun before the days that were looked at.
    """

    first: int
    last: int
    goes_on: bool = False

    def has_any_of(self, first: int, last: int) -> bool:
        """Return whether it has any of these days."""
        return self.first <= last and first <= self.last


def stretches(sums: Mapping[int, Sum], least: Pico) -> list[Stretch]:
    """Return the stretches in which sums, by days in order, are `least` or more."""
    found = list[Stretch]()
    for day, (begins, ends) in sums.items():
        if ends < least:
            continue
        if begins >= least and found and found[-1].last == day - 1:
            found[-1] = found[-1]._replace(last=day)
        else:
            found.append(Stretch(day, day, goes_on=begins >= least and day - 1 not in sums))
    return found


class Passed(NamedTuple):
    """A threshold that is to be reported: since which day it is reached, the day that ends what was added up (today,
    where it is still reached), and what that is.
    """

    threshold: int
    since: int
    until: int
    used: Pico


@dataclass(slots=True)
class Reached:
    """The stretches in which thresholds of a rolling budget were reported: of one value of its dimension, or of all.

    `reported` has them by threshold, in order.
    """

    tenant: bytes
    budget: str
    value: str
    days: int
    amount: Pico
    kind: str
    reported: dict[int, list[Stretch]] = field(default_factory=dict)
    kept_ms: int = 0
    """The time by which retention goes: what was reported is kept for as long as it matters."""

    @property
    def key(self) -> Key:
        """Return its key: a budget that was changed has thresholds of its own."""
        return reached_key(self.tenant, self.budget, self.value, self.kind, self.amount)

    @property
    def _kept_for_ms(self) -> int:
        return (self.days + REPORTED_FOR + 2) * MS_PER_DAY

    @property
    def arrival_ms(self) -> int:
        """Return the day of the latest change, in ms."""
        return self.kept_ms - self._kept_for_ms

    def pack(self) -> bytes:
        """Return the stored form; its second element is the arrival, by which retention goes."""
        rows = [[threshold, one.first, one.last] for threshold, known in self.reported.items() for one in known]
        names = self.tenant, self.budget, self.value, self.days, self.amount, self.kind
        return pack([1, self.kept_ms, *names, rows])

    @classmethod
    def unpack(cls, record: bytes) -> Reached:
        """Read a stored form."""
        _, kept_ms, tenant, budget, value, days, amount, kind, rows, *_ = unpack(record)
        reached = cls(tenant, budget, value, days, int(amount), kind, kept_ms=kept_ms)
        for threshold, first, last in rows:
            reached.reported.setdefault(threshold, []).append(Stretch(first, last))
        return reached

    @classmethod
    def read(cls, reader: Reader, tenant: bytes, rule: BudgetRule, value: str, today: int) -> Reached:
        """Return what was reported of a value."""
        reached = cls(tenant, rule.name, value, rule.days, rule.amount, rule.kind)
        record = reader.get(reached.key)
        if record is not None:
            return cls.unpack(record)
        for threshold in rule.thresholds:
            reached.reported[threshold] = [*reached._in_blocks(reader, threshold, today)]
        return reached

    def _in_blocks(self, reader: Reader, threshold: int, today: int) -> Iterator[Stretch]:
        """Yield the days on which a threshold was passed by a ledger of an earlier version, which reported it once in
        each block of the budget's days, counted from 1970 on.
        """
        for block in sorted({day - day % self.days for day in (today - self.days, today, today + 1)}):
            record = reader.get(budget_key(self.tenant, self.budget, self.value, date_of(block) or "", threshold))
            if record is not None and (crossing := Crossing.unpack(record)).amount == self.amount:
                day = crossing.at_ns // NS_PER_DAY
                yield Stretch(day, day)

    def enter(
        self, thresholds: Collection[int], spent: Callable[[int], Pico], touched: Collection[int], today: int
    ) -> list[Passed]:
        """Enter the stretches that what was spent on the days `touched` is part of; return those to be reported.

        They are looked for up to tomorrow, of which a clock that is ahead may tell, and in what was over so long ago at
        most as other periods are reported of.
        """
        first, last = max(min(touched), today - REPORTED_FOR), today + 1
        sums = sums_of_days(self.days, spent, first, last)
        found = self._found(thresholds, sums)
        if any(stretch.goes_on and not self._known(threshold, stretch) for threshold, stretch in found):
            sums = sums_of_days(self.days, spent, first - self.days, last)
            found = self._found(thresholds, sums)
        passed = list[Passed]()
        self.kept_ms = today * MS_PER_DAY + self._kept_for_ms
        for threshold, stretch in found:
            if stretch.last < first or not any(stretch.has_any_of(day, day + self.days - 1) for day in touched):
                continue
            if not self._known(threshold, stretch):
                until = today if stretch.has_any_of(today, today) else stretch.first
                passed.append(Passed(threshold, stretch.first, until, sums[until].ends))
            self._note(threshold, stretch, today)
        return passed

    def _found(self, thresholds: Collection[int], sums: Mapping[int, Sum]) -> list[tuple[int, Stretch]]:
        leasts = [(threshold, -(-threshold * self.amount // 100)) for threshold in thresholds]
        return [(threshold, stretch) for threshold, least in leasts for stretch in stretches(sums, least)]

    def _known(self, threshold: int, stretch: Stretch) -> list[Stretch]:
        """Return the reported stretches that are part of one."""
        known = self.reported.get(threshold, [])
        return [one for one in known if stretch.has_any_of(one.first, one.last)]

    def _note(self, threshold: int, stretch: Stretch, today: int) -> None:
        """Note a stretch, and forget those of which nothing can come any more: but for the latest of them, which one
        that goes on may be the same as.
        """
        same = self._known(threshold, stretch)
        whole = Stretch(min(one.first for one in (stretch, *same)), max(one.last for one in (stretch, *same)))
        known = sorted([whole, *(one for one in self.reported.get(threshold, []) if one not in same)])
        over = [one for one in known if one.last < today - REPORTED_FOR - 1]
        self.reported[threshold] = known[max(0, len(over) - 1) :]
