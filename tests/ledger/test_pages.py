"""Lists in pages: every session and run once, in order, in whatever order they came and however they went."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_in_memory import MemoryLedger, make_fact
from spanledger_processor.ledger import orders, pages, queries
from spanledger_processor.ledger.keys import ORDERS_COMPLETE, SCHEMA_KEY
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.orders import Order, cost_rank, is_ordered, walk
from spanledger_processor.ledger.packing import pack
from spanledger_processor.ledger.pages import CursorError, Page, Wanted, read_cursor
from spanledger_processor.ledger.runs import all_runs
from spanledger_processor.ledger.store import Changes, Key, Reader, Table
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.ledger.tool_repeats import WantedRepeats, repeated_calls
from stores import HOUR_NS, START_NS, TENANT, Clock, enter, open_store, session

SECOND = 2 << 30
"""Times so far apart differ in rank."""


def everything(page_of: Callable[[Wanted], Page], **wanted: Any) -> list[dict[str, Any]]:
    """All rows of a list, page by page."""
    rows: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = page_of(Wanted(cursor=cursor, **wanted))
        assert len(page.rows) <= wanted.get("limit", 100)
        rows += page.rows
        cursor = page.next_cursor
        if cursor is None:
            return rows


_names = st.sampled_from(["", "a", "b", "c", "d", "e"])
_facts = st.lists(
    st.tuples(_names, st.sampled_from(["", "", "r", "a", "s"]), _names, st.integers(0, 40), st.integers(0, 60)),
    max_size=14,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(facts=_facts, limit=st.integers(1, 4))
def test_pages_hold_what_the_whole_lists_hold(facts: list[tuple[str, str, str, int, int]], limit: int) -> None:
    ledger = MemoryLedger()
    for number, (name, run, parent, cost, start) in enumerate(facts):
        fact = make_fact(
            f"s{number}",
            kind="llm",
            cost=cost,
            trace=f"t{number % 5}",
            session=name,
            run=run,
            parent_session=parent,
            start=start * SECOND,
        )
        ledger.take([fact])
    with ledger.store.snapshot() as reader:
        _as_the_whole_lists(reader, limit)


def _as_the_whole_lists(reader: Reader, limit: int) -> None:
    whole = [row for row in queries.sessions(reader, TENANT) if row["id"] or row["spans"]]
    by_time = everything(lambda wanted: pages.sessions(reader, TENANT, wanted), limit=limit)
    assert sorted(by_time, key=str) == sorted(whole, key=str)
    assert [row["last"] for row in by_time if row["id"]] == [row["last"] for row in whole if row["id"]]
    by_cost = everything(lambda wanted: pages.sessions(reader, TENANT, wanted), limit=limit, by_cost=True)
    assert sorted(by_cost, key=str) == sorted(whole, key=str)
    costs = [row["cost_usd"] for row in by_cost if row["id"]]
    assert costs == sorted(costs, reverse=True)

    runs = [row for row in queries.runs(reader, TENANT) if row["id"] or row["spans"]]
    for by in (False, True):
        rows = everything(lambda wanted: pages.runs(reader, TENANT, wanted, all_runs=True), limit=limit, by_cost=by)
        assert sorted(rows, key=str) == sorted(runs, key=str)
    costs = [row["cost_usd"] for row in rows if row["id"]]
    assert costs == sorted(costs, reverse=True)
    for bound in ("_COMPARED", "_MOST_LOOKED_AT"):
        with pytest.MonkeyPatch.context() as few:
            few.setattr(pages, bound, 2)
            rows = everything(
                lambda wanted: pages.runs(reader, TENANT, wanted, all_runs=True), limit=limit, by_cost=True
            )
        assert sorted(rows, key=str) == sorted(runs, key=str)
    named = everything(lambda wanted: pages.runs(reader, TENANT, wanted, all_runs=False), limit=limit)
    alone = {row["id"] for row in runs} - {row["id"] for row in named}
    assert not [row for row in named if row not in runs]
    for row in whole:  # what is left out is a session by itself: no run is named, and nobody spawned it
        if row["id"] in alone:
            assert "parent_id" not in row


def _store_with(folder: Path, clock: Clock, durability: str = "sync") -> LmdbStore:
    store = open_store(folder, clock=clock, durability=durability, sessions_hours=48)
    for number in range(40):
        _spend(store, clock, f"s{number}", number)
    return store


def _spend(store: LmdbStore, clock: Clock, name: str, cost: int) -> None:
    sums = Sums(cost=cost, calls=1, spans=1, last_ns=clock(), labels={"id": name}, summarized_ns=1)
    sums.closed_ns = clock() * (cost % 3 == 0)
    clock.forward(0.01)
    with store.unit() as unit:
        enter(unit, Changes(add={session(name): sums}), clock())


def _consistent(reader: Reader) -> Iterator[str]:
    """Yield each order that differs from what the totals say."""
    assert reader.get(ORDERS_COMPLETE) is not None
    for table in orders.ORDERED:
        for order in (Order.LAST, Order.COST, Order.GROUPED):
            right = sorted(orders._read_all(reader, TENANT, table, order), reverse=True)
            if table == Table.RUN and order == Order.COST:
                right = []
            if list(walk(reader, TENANT, table, order)) != right:
                yield f"{table.name} {order.name}"
    untold = {where: Sums.unpack(record) for where, record in reader.scan(Table.SESSION, TENANT)}
    untold = {
        where: sums for where, sums in untold.items() if is_ordered(where) and 0 < sums.summarized_ns < sums.last_ns
    }
    for until in (0, orders.unsummarized_until(START_NS + 24 * HOUR_NS), orders.unsummarized_until(1 << 62)):
        due = sorted(
            where for where, sums in untold.items() if sums.closed or orders.unsummarized_until(sums.last_ns) <= until
        )
        if sorted(where for _, where in orders.unsummarized(reader, until)) != due:
            yield f"UNTOLD until {until}"


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_orders_follow_every_change_also_what_is_held_back(tmp_path: Path, durability: str) -> None:
    clock = Clock()
    store = _store_with(tmp_path, clock, durability)
    for number in range(0, 40, 3):
        _spend(store, clock, f"s{number}", 1000 * number)
        with store.snapshot() as reader:
            assert list(_consistent(reader)) == []
    clock.forward(47.8)
    _spend(store, clock, "late", 1)
    for _ in range(200):
        clock.forward(0.001)
        if not store.maintain():
            clock.forward(1.1)
    with store.snapshot() as reader:
        assert list(_consistent(reader)) == []
        rows = everything(lambda wanted: pages.sessions(reader, TENANT, wanted), limit=7)
        assert [row["id"] for row in rows] == [row["id"] for row in queries.sessions(reader, TENANT)]
        assert 0 < len(rows) < 41, "some have gone"
    store.close()


def test_a_ledger_without_orders_is_read_and_gets_them_when_it_is_written(tmp_path: Path) -> None:
    clock = Clock()
    store = _store_with(tmp_path, clock)
    with store._env.begin(write=True) as txn:
        with txn.cursor() as cursor:
            while cursor.set_range(bytes((Table.ORDER,))) and cursor.key()[0] == Table.ORDER:
                cursor.delete()
        txn.delete(ORDERS_COMPLETE)
        txn.put(SCHEMA_KEY, pack([2]))
    store.close()
    store = open_store(tmp_path, read_only=True)
    with store.snapshot() as reader:
        before = everything(lambda wanted: pages.sessions(reader, TENANT, wanted), limit=9)
    store.close()
    store = open_store(tmp_path, clock=clock)
    with store.snapshot() as reader:
        assert list(_consistent(reader)) == []
        assert everything(lambda wanted: pages.sessions(reader, TENANT, wanted), limit=9) == before
        assert [row["id"] for row in before] == [f"s{number}" for number in reversed(range(40))]
    store.close()


def test_a_page_looks_at_a_bounded_number_of_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_MOST_LOOKED_AT", 10)
    monkeypatch.setattr(pages, "_MOST_RUNS_LOOKED_AT", 5)
    store = _store_with(tmp_path, Clock())
    with store.snapshot() as reader:
        of_runs = Wanted(accept=lambda sums: sums.labels["id"] == "s0")
        page = pages.runs(reader, TENANT, of_runs, all_runs=True)
        assert (page.rows, page.next_cursor is None) == ([], False)
        found = everything(
            lambda wanted: pages.runs(reader, TENANT, wanted, all_runs=True),
            accept=lambda sums: sums.labels["id"] == "s0",
        )
        assert [row["id"] for row in found] == ["s0"]
        first = pages.sessions(reader, TENANT, Wanted(accept=lambda sums: sums.labels["id"] == "s0"))
        assert (first.rows, first.next_cursor is None) == ([], False)
        found = everything(
            lambda wanted: pages.sessions(reader, TENANT, wanted), accept=lambda sums: sums.labels["id"] == "s0"
        )
        assert [row["id"] for row in found] == ["s0"]
    store.close()


def test_very_many_of_about_one_cost_are_each_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_SORTED_TOGETHER", 5)
    clock = Clock()
    store = open_store(tmp_path, clock=clock)
    costs = [*range(100_000, 100_040), *range(70), 0, 0, 0]
    for number, cost in enumerate(costs):
        _spend(store, clock, f"s{number}", cost)
    with store.snapshot() as reader:
        rows = everything(lambda wanted: pages.sessions(reader, TENANT, wanted), limit=3, by_cost=True)
    ids = [row["id"] for row in rows]
    assert sorted(ids) == sorted(f"s{number}" for number in range(len(costs)))
    ranks = [cost_rank(costs[int(name[1:])]) for name in ids]
    assert ranks == sorted(ranks, reverse=True)
    store.close()


class _Counting:
    """A view that counts what is read of it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.read = 0

    def get(self, key: Key) -> bytes | None:
        self.read += 1
        return self._reader.get(key)

    def sums(self, key: Key) -> Sums:
        self.read += 1
        return self._reader.sums(key)

    def scan(self, table: Table, tenant: bytes, **bounds: Any) -> Iterator[tuple[Key, bytes]]:
        for row in self._reader.scan(table, tenant, **bounds):
            self.read += 1
            yield row


def _reads(reader: Reader, page_of: Callable[[Reader, Wanted], Page], **wanted: Any) -> list[int]:
    """How many records each page of a list read."""
    reads: list[int] = []
    cursor = None
    while not reads or cursor is not None:
        counting = _Counting(reader)
        cursor = page_of(counting, Wanted(cursor=cursor, **wanted)).next_cursor
        reads.append(counting.read)
    return reads


def test_a_page_of_very_many_sessions_of_one_cost_reads_that_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_SORTED_TOGETHER", 5)
    clock = Clock()
    store = open_store(tmp_path, clock=clock)
    for number in range(90):
        _spend(store, clock, f"s{number}", 100_000 if number < 60 else 0)
    with store.snapshot() as reader:
        reads = _reads(reader, lambda view, wanted: pages.sessions(view, TENANT, wanted), limit=3, by_cost=True)
    assert len(reads) == 30
    assert max(reads) <= 5 + 2 * 4 + 4, "those sorted together, a row and its total, and what tells of orders"
    store.close()


def _runs(count: int) -> tuple[MemoryLedger, list[int]]:
    """Runs of two sessions each, one after the other, and what each costs."""
    ledger, costs = MemoryLedger(), [(number * 37) % 101 + 2 for number in range(count)]
    for number, cost in enumerate(costs):
        for part, amount in (("a", cost - 1), ("b", 1)):
            _of_run(ledger, number, f"s{number}{part}", amount, number)
    return ledger, costs


def _of_run(ledger: MemoryLedger, run: int, session_id: str, cost: int, at: int) -> None:
    name = f"{session_id}-{at}"
    fact = make_fact(name, kind="llm", cost=cost, trace=name, session=session_id, run=f"r{run}", start=at * SECOND)
    ledger.take([fact])


def _runs_by_cost(reader: Reader, wanted: Wanted) -> Page:
    return pages.runs(reader, TENANT, wanted, all_runs=False)


def test_a_page_of_runs_by_cost_reads_a_slice_of_them_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_COMPARED", 8)
    most = []
    for count in (30, 90):
        ledger, _ = _runs(count)
        with ledger.store.snapshot() as reader:
            most.append(max(_reads(reader, _runs_by_cost, limit=3, by_cost=True)))
    assert most[0] == most[1] < 30 * 4, "records of few runs, not of all"


def test_runs_by_cost_are_sorted_in_slices_of_those_last_active(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, costs = _runs(20)
    dearest = sorted(range(20), key=lambda number: -costs[number])
    with ledger.store.snapshot() as reader:
        last = {name: sums.last_ns for name, sums in all_runs(reader, TENANT).items()}
        whole = _runs_by_cost(reader, Wanted(by_cost=True))
        assert [row["id"] for row in whole.rows] == [f"r{number}" for number in dearest]
        assert (whole.next_cursor, whole.compared_ns) == (None, 0)

        monkeypatch.setattr(pages, "_COMPARED", 8)
        first = _runs_by_cost(reader, Wanted(by_cost=True, limit=3))
        latest = [row["id"] for row in everything(lambda wanted: _runs_by_cost(reader, wanted), by_cost=True)][:3]
    assert [row["id"] for row in first.rows] == latest
    compared = [number for number in dearest if last[f"r{number}"] >= first.compared_ns]
    assert 3 < len(compared) < 20
    assert [row["id"] for row in first.rows] == [f"r{number}" for number in compared[:3]]


def test_a_run_is_listed_once_although_others_become_active_between_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_COMPARED", 24)
    ledger, _ = _runs(40)
    listed: list[str] = []
    cursor, at = None, 100
    while at == 100 or cursor is not None:
        with ledger.store.snapshot() as reader:
            page = _runs_by_cost(reader, Wanted(by_cost=True, limit=3, cursor=cursor))
        listed += [row["id"] for row in page.rows]
        cursor = page.next_cursor
        for _ in range(5):
            at += 1
            _of_run(ledger, at, f"s{at}", at % 7 + 1, at)
    assert sorted(listed) == sorted(f"r{number}" for number in range(40))


def test_times_bound_a_list(tmp_path: Path) -> None:
    clock = Clock()
    store = _store_with(tmp_path, clock)
    step = clock.ns - START_NS
    with store.snapshot() as reader:
        rows = everything(
            lambda wanted: pages.sessions(reader, TENANT, wanted),
            since_ns=START_NS + step // 4,
            until_ns=START_NS + step // 2,
            limit=3,
        )
    assert [row["id"] for row in rows] == [f"s{number}" for number in reversed(range(10, 20))]
    store.close()


@pytest.mark.parametrize("text", ["", "x", "!!", "AAAA", "k6Fh", "kwAxoA", "é", "A" * 1000])
def test_nonsense_is_no_cursor(text: str) -> None:
    with MemoryLedger().store.snapshot() as reader, pytest.raises(CursorError):
        pages.sessions(reader, TENANT, Wanted(cursor=text))


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(pack([float("inf"), "1", b"", TENANT]), id="an endless kind"),
        pytest.param(pack([1, "1", 1 << 20, TENANT]), id="a number for bytes"),
        pytest.param(b"\x81\x01" * 500 + b"\xa1\xff", id="maps within maps"),
    ],
)
def test_a_cursor_of_other_values_is_refused(record: bytes) -> None:
    with pytest.raises(CursorError, match="not a cursor"):
        read_cursor(TENANT, urlsafe_b64encode(record).decode())


@pytest.mark.parametrize("bounds", [0, 1, 23, 25, 47, 49, 72])
def test_a_cursor_of_runs_by_cost_with_other_bounds_than_a_slice_has_is_refused(bounds: int) -> None:
    cursor = pages.cursor_at(TENANT, (pages._RUNS_BY_COST, 5, bytes(16 + bounds)))
    with MemoryLedger().store.snapshot() as reader, pytest.raises(CursorError):
        _runs_by_cost(reader, Wanted(cursor=cursor, by_cost=True))


def test_a_cursor_of_another_order_is_refused(tmp_path: Path) -> None:
    store = _store_with(tmp_path, Clock())
    with store.snapshot() as reader:
        cursor = pages.sessions(reader, TENANT, Wanted(limit=2)).next_cursor
        with pytest.raises(CursorError, match="another"):
            pages.sessions(reader, TENANT, Wanted(cursor=cursor, by_cost=True))
        with pytest.raises(CursorError, match="another"):
            pages.runs(reader, TENANT, Wanted(cursor=cursor), all_runs=True)
    store.close()


def test_a_cursor_of_another_tenant_is_refused(tmp_path: Path) -> None:
    store = _store_with(tmp_path, Clock())
    other = bytes(len(TENANT))
    assert other != TENANT
    with store.snapshot() as reader:
        cursor = pages.sessions(reader, TENANT, Wanted(limit=2)).next_cursor
        assert cursor is not None
        with pytest.raises(CursorError, match="another tenant"):
            pages.sessions(reader, other, Wanted(cursor=cursor))
        with pytest.raises(CursorError, match="another tenant"):
            pages.runs(reader, other, Wanted(cursor=cursor), all_runs=True)
        with pytest.raises(CursorError, match="another tenant"):
            pages.tasks(reader, other, {}, 2, cursor)
        with pytest.raises(CursorError, match="another tenant"):
            repeated_calls(reader, other, WantedRepeats(2, cursor))
    store.close()


@pytest.mark.parametrize("cost", [0, 1, 2, 63, 64, 65, 127, 128, 10**12, 10**30])
def test_ranks_of_costs_rise_with_them_and_tell_two_per_cent_apart(cost: int) -> None:
    assert cost_rank(cost) <= cost_rank(cost + 1)
    if cost:
        assert cost_rank(cost) < cost_rank(cost + cost // 50 + 1)
