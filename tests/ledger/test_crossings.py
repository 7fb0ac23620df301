"""Thresholds and warnings in order of time: a page reads what it shows, and no more stands there than is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from counted_work import CountedReads
from spanledger_processor.ledger import crossings, pages
from spanledger_processor.ledger.crossings import Crossing
from spanledger_processor.ledger.keys import CROSSINGS_COMPLETE, SCHEMA_KEY, run_key, session_key
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.packing import pack
from spanledger_processor.ledger.pages import CursorError
from spanledger_processor.ledger.rolling import Reached, Stretch
from spanledger_processor.ledger.store import Changes, Key, Reader, Table
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.ledger.warning_rules import COST_RISE, FAILURE_RATE
from spanledger_processor.server.notices import mark_sent
from stores import START_NS, TENANT, Clock, open_store

OTHER = b"12345678"
MANY = 300


def crossing(number: int, *, tenant: bytes = TENANT, warning: str = FAILURE_RATE, budget: str = "") -> Crossing:
    return Crossing(budget, tenant, f"s{number}", "", 20, 5, 10, START_NS + number * 10**6, warning=warning)


def create(store: LmdbStore, *crossings: Crossing) -> None:
    with store.unit() as unit:
        unit.apply(Changes(create={one.key: one.pack() for one in crossings}), crossings[-1].at_ns)


def pages_of(reader: Reader, limit: int = 7, warning: str | None = None) -> list[list[str]]:
    found, cursor = list[list[str]](), None
    while True:
        page, cursor = pages.warnings(reader, TENANT, lambda one: warning in (None, one.warning), limit, cursor)
        found.append([one.value for one in page])
        if cursor is None:
            return found


def filled(path: Path, clock: Clock | None = None, durability: str = "sync") -> LmdbStore:
    """A store with warnings of two kinds and tenants, and thresholds between them."""
    store = open_store(path, durability=durability, clock=clock or Clock(), sessions_hours=48)
    kinds = (FAILURE_RATE, COST_RISE)
    create(store, *(crossing(number, warning=kinds[number % 2]) for number in range(0, MANY, 2)))
    create(store, *(crossing(number, warning=kinds[number % 2]) for number in range(1, MANY, 2)))
    create(store, *(crossing(number, tenant=OTHER) for number in range(MANY)))
    create(store, *(crossing(number, warning="", budget="day") for number in range(MANY)))
    return store


NEWEST_FIRST = [f"s{number}" for number in reversed(range(MANY))]


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_pages_hold_each_warning_once_the_newest_first(tmp_path: Path, durability: str) -> None:
    store = filled(tmp_path, durability=durability)
    with store.snapshot() as reader:
        assert [name for page in pages_of(reader) for name in page] == NEWEST_FIRST
        rises = [name for page in pages_of(reader, warning=COST_RISE) for name in page]
        assert rises == [name for name in NEWEST_FIRST if int(name[1:]) % 2]
        assert [one.value for one in crossings.crossings(reader, TENANT, warnings=False)] == NEWEST_FIRST
    store.close()


def test_a_page_reads_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path)
    with store.snapshot() as reader:
        counted = CountedReads(reader)
        pages.warnings(counted, TENANT, lambda _: True, 10, None)
        assert counted.reads <= 2 * 10 + 2
        monkeypatch.setattr(pages, "_MOST_LOOKED_AT", 20)
        counted.reads = 0
        page, cursor = pages.warnings(counted, TENANT, lambda one: one.value == "s0", 10, None)
        assert page == []
        assert cursor is not None
        assert counted.reads <= 2 * 20 + 2
        assert [name for page in pages_of(reader) for name in page] == NEWEST_FIRST
    store.close()


def test_a_cursor_of_another_list_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with store.snapshot() as reader:
        _, cursor = pages.warnings(reader, TENANT, lambda _: True, 1, None)
        with pytest.raises(CursorError):
            pages.tasks(reader, TENANT, {}, 10, cursor)
        with pytest.raises(CursorError):
            pages.warnings(reader, OTHER, lambda _: True, 1, cursor)
    store.close()


def test_what_is_due_is_found_without_looking_at_what_was_sent(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with store.unit() as unit:
        for number in range(5, MANY):
            mark_sent(unit, crossing(number, tenant=OTHER))
            mark_sent(unit, crossing(number, warning="", budget="day"))
            mark_sent(unit, crossing(number, warning=(FAILURE_RATE, COST_RISE)[number % 2]))
    with store.snapshot() as reader:
        counted = CountedReads(reader)
        due = [*crossings.unsent_crossings(counted)]
        assert len(due) == 15
        assert [one.at_ns for one in due] == sorted(one.at_ns for one in due)
        assert counted.reads <= 2 * 15 + 1
        assert not any(one.sent for one in due)
        assert next(iter(crossings.crossings(reader, OTHER, warnings=True))) == replace(
            crossing(MANY - 1, tenant=OTHER), sent=True
        )
    store.close()


def test_rows_go_with_what_is_kept(tmp_path: Path) -> None:
    clock = Clock()
    store = filled(tmp_path, clock)
    clock.forward(49)
    while store.maintain():
        pass
    with store.snapshot() as reader:
        assert [*reader.scan(Table.BUDGET, b"")] == []
        assert [*reader.scan(Table.ORDER, b"")] == []
    store.close()


def test_what_could_be_told_again_is_kept_until_it_cannot(tmp_path: Path) -> None:
    """Sessions are kept for two days: a month's threshold could be told for 31 days after its end, one of a session,
    and what is warned of in it, for as long as something is spent there.
    """
    clock = Clock()
    store = open_store(tmp_path, clock=clock, sessions_hours=48)
    month = replace(crossing(1, warning="", budget="month"), value="", since="2026-11-01", until="2026-11-30")
    of_session, warned = crossing(2, warning="", budget="session"), crossing(2)
    of_run, of_none = crossing(3, warning="", budget="run"), crossing(4, warning="", budget="session")
    create(store, month, of_session, warned, of_run, of_none)

    def kept() -> set[Crossing]:
        with store.snapshot() as reader:
            return {Crossing.unpack(record) for _, record in reader.scan(Table.BUDGET, b"")}

    def pass_days(days: int, *living: Key) -> None:
        clock.forward(24 * days)
        with store.unit() as unit:
            unit.apply(Changes(add={key: Sums(spans=1, labels={"id": "s"}) for key in living}), clock())
        for _ in range(30):  # each a slice
            store.maintain()

    pass_days(5, session_key(TENANT, "s2"), run_key(TENANT, "s3"))
    assert kept() == {month, of_session, warned, of_run}
    pass_days(1)
    pass_days(4, session_key(TENANT, "s2"))
    assert kept() == {month, of_session, warned}
    pass_days(52)
    assert kept() == {month}
    pass_days(4)
    assert kept() == set()
    store.close()


def test_a_ledger_of_schema_4_is_read_and_gets_the_order_when_it_is_written(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with store._env.begin(write=True) as txn:
        with txn.cursor() as cursor:
            while cursor.set_range(bytes((Table.ORDER,))) and cursor.key()[0] == Table.ORDER:
                cursor.delete()
        txn.delete(CROSSINGS_COMPLETE)
        txn.put(SCHEMA_KEY, pack([4]))
    store.close()
    for read_only in (True, False):
        store = open_store(tmp_path, read_only=read_only)
        with store.snapshot() as reader:
            assert (reader.get(CROSSINGS_COMPLETE) is None) == read_only
            assert [name for page in pages_of(reader) for name in page] == NEWEST_FIRST
            assert len([*crossings.unsent_crossings(reader)]) == 3 * MANY
        store.close()


def test_a_name_that_is_forgotten_leaves_nothing_due_twice(tmp_path: Path) -> None:
    """A threshold and a warning go under the new name with their keys: what is marked as sent is what was due."""
    store = filled(tmp_path, Clock())
    whose = replace(crossing(1, warning="", budget="s1"), value="s1", rule="day 0 user", until="2026-11-24")
    reached = Reached(TENANT, "s1", "s1", 7, 100, "rolling 7 user", {100: [Stretch(20_000, 20_003)]}, kept_ms=1)
    with store.unit() as unit:
        unit.apply(Changes(create={whose.key: whose.pack()}, replace={reached.key: reached.pack()}), START_NS)
    with store.snapshot() as reader:
        before = len([*crossings.unsent_crossings(reader)])
    store.rename(TENANT, {"s1": "forgotten-1"})
    with store.snapshot() as reader:
        due = [*crossings.unsent_crossings(reader)]
        assert len(due) == before == 3 * MANY + 1
        assert all(reader.get(one.key) is not None for one in due)
        of_tenant = [one for one in due if one.tenant == TENANT and one.value in ("s1", "forgotten-1")]
        assert {(one.budget, one.value) for one in of_tenant} == {(of, "forgotten-1") for of in ("", "day", "s1")}
        assert Reached.unpack(reader.get(replace(reached, value="forgotten-1").key) or b"").reported == reached.reported
        assert reader.get(reached.key) is None
        listed = [name for page in pages_of(reader) for name in page]
        assert listed.count("forgotten-1") == 1
        assert len(listed) == MANY
    with store.unit() as unit:
        mark_sent(unit, *of_tenant)
    with store.snapshot() as reader:
        assert len([*crossings.unsent_crossings(reader)]) == before - 3
    store.close()
