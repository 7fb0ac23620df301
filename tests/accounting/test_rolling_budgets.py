"""Rolling budgets: a threshold is told when the sum reaches it, and again when the sum has been below it since."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.crossings import REPORTED_FOR, Crossing, crossings
from spanledger_processor.ledger.rows import date_of
from spanledger_processor.ledger.store import Changes, Store, Table
from spanledger_processor.units import NS_PER_DAY
from stores import Clock, open_store

DAY = NOW // NS_PER_DAY


def call(name: str, cost: int, day: int, team: str = "red") -> Fact:
    fact = make_fact(name, kind="llm", cost=cost, trace=name)
    fact.day, fact.dimensions = day, ("team", team)
    return fact


def take(store: Store, rule: BudgetRule, today: int, *facts: Fact) -> None:
    """Account for one request on a day, by a process that remembers nothing of the one before."""
    with store.unit() as unit:
        unit.cache.clear()
        enter(Batch(TENANT, list(facts), today * NS_PER_DAY + 1, budgets=(rule,)), unit)


def passed(store: Store) -> list[Crossing]:
    with store.snapshot() as reader:
        return sorted(crossings(reader, TENANT, warnings=False), key=lambda one: (one.at_ns, one.since, one.threshold))


def rolling(days: int, amount: int = 100, thresholds: tuple[int, ...] = (100,)) -> BudgetRule:
    return BudgetRule("r", amount, "rolling", days=days, dimension="team", thresholds=thresholds)


def times_reached(spent: Sequence[int], days: int, least: int) -> list[int]:
    """On which days, of 0 and so many, the sum of the latest comes to `least`, or comes to it again: told with the sum
    at hand, which each midnight and each call changes.
    """
    reached, found = False, list[int]()
    for day, cost in enumerate(spent):
        for latest in ([*spent[max(0, day - days + 1) : day]], [*spent[max(0, day - days + 1) : day], cost]):
            if sum(latest) < least:
                reached = False
            elif not reached:
                reached = True
                found.append(day)
    return found


_spent = st.lists(st.sampled_from([0, 0, 10, 30, 60, 120]), min_size=1, max_size=24)


@given(_spent, st.integers(1, 8), st.data())
def test_each_time_that_the_sum_reaches_a_threshold_is_told_once(
    spent: list[int], days: int, data: st.DataObject
) -> None:
    """Day after day, in several requests that come twice."""
    ledger, rule = MemoryLedger(), rolling(days, thresholds=(50, 100))
    for day, cost in enumerate(spent):
        part = data.draw(st.integers(0, cost))
        for name, amount in (("a", part), ("b", cost - part), ("a", part)):
            if amount:
                take(ledger.store, rule, DAY + day, call(f"{name}{day}", amount, DAY + day))
    assert [(one.threshold, one.at_ns // NS_PER_DAY - DAY) for one in passed(ledger.store)] == sorted(
        ((threshold, day) for threshold in rule.thresholds for day in times_reached(spent, days, threshold)),
        key=lambda one: (one[1], one[0]),
    )


@settings(max_examples=200)
@given(_spent, st.integers(1, 8), st.data())
def test_what_comes_late_is_told_of_too(spent: list[int], days: int, data: st.DataObject) -> None:
    """In one request each time is told once; in any others each at least once, as in between there may be more."""
    today, facts = DAY + len(spent) - 1, [call(f"c{day}", cost, DAY + day) for day, cost in enumerate(spent) if cost]
    truth = [date_of(DAY + day) for day in times_reached(spent, days, 100)]
    together, apart = MemoryLedger(), MemoryLedger()
    if facts:
        take(together.store, rolling(days), today, *facts)
        take(together.store, rolling(days), today, *facts)
    assert [one.since for one in passed(together.store)] == truth
    left = data.draw(st.permutations(facts))
    while left:
        size = data.draw(st.integers(1, len(left)))
        take(apart.store, rolling(days), today, *left[:size])
        left = left[size:]
    told = {one.since for one in passed(apart.store)}
    sums = [sum(spent[max(0, day - days + 1) : day + 1]) for day in range(len(spent))]
    for first in (day for day, since in enumerate(spent) if date_of(DAY + day) in truth):
        last = next((day for day in range(first, len(spent)) if sums[day] < 100), len(spent))
        assert told & {date_of(DAY + day) for day in range(first, last)}


def test_it_is_told_once_while_the_sum_stays() -> None:
    """Also at the end of a block of its days since 1970, by which earlier versions went, and after days of nothing."""
    for first in range(DAY, DAY + 7):
        ledger = MemoryLedger()
        for day, cost in ((first, 100), (first + 1, 1), (first + 6, 1)):
            take(ledger.store, rolling(7), day, call(f"c{day}", cost, day))
        (one,) = passed(ledger.store)
        assert (one.at_ns // NS_PER_DAY, one.used) == (first, 100)
        take(ledger.store, rolling(7), first + 7, call("below", 50, first + 7))
        assert len(passed(ledger.store)) == 1
        take(ledger.store, rolling(7), first + 7, call("again", 50, first + 7))
        assert [one.used for one in passed(ledger.store)] == [100, 102]


def test_a_threshold_names_the_days_that_were_counted() -> None:
    """Of three days, of which two have spent something; of a call that came when they were over, those of its own."""
    ledger = MemoryLedger()
    take(ledger.store, rolling(3), DAY, call("a", 60, DAY - 1), call("b", 60, DAY))
    (one,) = passed(ledger.store)
    assert (one.used, one.row()["since"]) == (120, date_of(DAY - 2))
    take(ledger.store, rolling(3), DAY + 20, call("late", 110, DAY + 7))
    assert (passed(ledger.store)[1].used, passed(ledger.store)[1].row()["since"]) == (110, date_of(DAY + 5))


def test_days_are_told_of_for_a_month_after_their_end() -> None:
    for days_ago, number in ((REPORTED_FOR + 2, 1), (REPORTED_FOR + 3, 0)):
        ledger = MemoryLedger()
        take(ledger.store, rolling(3), DAY, call("a", 100, DAY - days_ago))
        assert len(passed(ledger.store)) == number


def test_a_call_of_tomorrow_is_told_of_at_once_and_by_todays() -> None:
    """By a clock that is ahead: whichever of the two comes first."""
    for days in ((DAY + 1, DAY), (DAY, DAY + 1)):
        ledger = MemoryLedger()
        for day in days:
            assert passed(ledger.store) == []
            take(ledger.store, rolling(3), DAY, call(f"c{day}", 60, day))
        (one,) = passed(ledger.store)
        assert one.used == 120
        take(ledger.store, rolling(3), DAY + 1, call("next", 1, DAY + 1))
        assert len(passed(ledger.store)) == 1


def test_what_an_earlier_version_told_is_not_told_again() -> None:
    """It told once in a block of the budget's days since 1970, and wrote down of which block."""
    for told_on in range(DAY - 6, DAY + 1):
        store = MemoryLedger().store
        block = date_of(told_on - told_on % 7) or ""
        old = Crossing("r", TENANT, "red", block, 100, 100, 100, told_on * NS_PER_DAY, sent=True)
        take(store, BudgetRule("other", 1, "day"), told_on, call("a", 100, told_on))
        with store.unit() as unit:
            unit.apply(Changes(create={old.key: old.pack()}), old.at_ns)
        for day in (told_on + 1, told_on + 6):
            take(store, rolling(7), day, call(f"c{day}", 1, day))
        assert [one.budget for one in passed(store)].count("r") == 1
        take(store, rolling(7), told_on + 7, call("again", 100, told_on + 7))
        assert [one.budget for one in passed(store)].count("r") == 2


def test_what_was_told_is_kept_for_as_long_as_the_sum_may_stay(tmp_path: Path) -> None:
    """Also where nothing comes for nearly all of the days that are counted; then it goes."""
    clock = Clock()
    clock.ns = DAY * NS_PER_DAY
    store = open_store(tmp_path, clock=clock, spans_hours=1, sessions_hours=60 * 24)
    take(store, rolling(60), DAY, call("a", 100, DAY))
    for days, number in ((59, 1), (59 + 60 + REPORTED_FOR + 60 + 3, 0)):
        clock.ns = (DAY + days) * NS_PER_DAY
        for _ in range(50):  # each a slice: what is due of spans, then of totals
            store.maintain()
        with store.snapshot() as reader:
            assert len([*reader.scan(Table.REACHED, b"")]) == number
        if number:
            take(store, rolling(60), DAY + days, call("b", 1, DAY + days))
            assert [one.used for one in passed(store)] == [100]
    store.close()
