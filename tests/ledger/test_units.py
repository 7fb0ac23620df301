"""Units of work: sums add up, of records created the first stays, and what fails leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import DecodeError

from spanledger_processor.ledger.housekeeping import Housekeeping
from spanledger_processor.ledger.keys import link_key
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.overlay import LandedTotals, Overlay
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import (
    Changes,
    Key,
    Reader,
    StateError,
    Table,
    Unit,
    UnitConflictError,
    near,
    record_key,
    tenant_hash,
)
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import NO_SPEND
from stores import START_NS, TENANT, cost_of, count, enter, open_store, remember, session, span, spend


class _AbandonedError(Exception):
    pass


@pytest.fixture(params=["sync", "async"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LmdbStore]:
    store = open_store(tmp_path / "state", durability=request.param)
    yield store
    store.close()


def test_a_unit_sees_what_was_applied_in_it_before(store: LmdbStore) -> None:
    with store.unit() as unit:
        enter(unit, spend("s", 3))
        enter(unit, spend("s", 4))
        assert cost_of(unit, "s") == 7
        assert [where for where, _ in unit.scan(Table.SESSION, TENANT)] == [session("s")]


def test_what_was_acknowledged_is_seen_by_others_of_the_process(store: LmdbStore) -> None:
    with store.unit() as unit:
        enter(unit, spend("s", 3))
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == 3
        assert count(reader, Table.SESSION) == 1


def test_a_snapshot_does_not_change(store: LmdbStore) -> None:
    with store.snapshot() as reader:
        with store.unit() as unit:
            enter(unit, spend("s"))
        assert cost_of(reader, "s") == 0


def test_the_first_claim_stands(store: LmdbStore) -> None:
    for value in (b"first", b"second"):
        with store.unit() as unit:
            enter(unit, remember(["a"], value))
    with store.snapshot() as reader:
        assert unpack(reader.get(span("a")) or b"") == [1, b"first"]


def test_a_unit_that_raises_leaves_nothing(store: LmdbStore) -> None:
    with suppress(_AbandonedError), store.unit() as unit:
        enter(unit, spend("s"))
        raise _AbandonedError
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == 0


def test_a_part_that_raises_leaves_nothing_and_the_others_land(store: LmdbStore) -> None:
    with store.unit() as unit:
        with unit.part() as part:
            enter(part, spend("s", 1))
        with suppress(_AbandonedError), unit.part() as part:
            enter(part, spend("s", 10))
            enter(part, remember(["a"]))
            raise _AbandonedError
        with unit.part() as part:
            assert cost_of(part, "s") == 1
            enter(part, spend("s", 100))
    with store.snapshot() as reader:
        assert (cost_of(reader, "s"), reader.get(span("a"))) == (101, None)


def test_changes_over_a_record_that_cannot_be_read_leave_nothing(store: LmdbStore) -> None:
    """The other sums of the same changes must not be entered either."""
    with store.unit() as unit:
        enter(unit, Changes(replace={session("bad"): b"\xc1"}))
    both = Changes(add={session("good"): Sums(cost=1), session("bad"): Sums(cost=1)})
    with store.unit() as unit:
        with pytest.raises(DecodeError), unit.part() as part:
            enter(part, both)
        assert cost_of(unit, "good") == 0


def test_what_a_failed_commit_had_added_is_not_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise _AbandonedError

    store = open_store(tmp_path / "state")
    with store.unit() as unit:
        enter(unit, spend("s", 3))
    with monkeypatch.context() as patched:
        patched.setattr(Housekeeping, "in_commit", fail)
        with pytest.raises(_AbandonedError), store.unit() as unit:
            enter(unit, spend("s", 10))
    with store.unit() as unit:
        assert cost_of(unit, "s") == 3
        enter(unit, spend("s", 4))
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == 7
    store.close()


def test_a_total_that_is_kept_counts_for_its_own_record_alone() -> None:
    landed, total = LandedTotals(), Sums(cost=1)
    total.record = total.pack()
    landed.keep(session("s"), total)
    assert landed.get(session("s"), Sums(cost=1).pack()) is total
    assert landed.get(session("s"), Sums(cost=2).pack()) is None
    assert landed.take(session("s"), total.record) is total
    assert landed.get(session("s"), Sums(cost=1).pack()) is None


def test_totals_that_are_kept_are_bounded_and_the_oldest_go_first() -> None:
    landed, totals = LandedTotals(), [Sums(labels={"id": f"{number}" * 100_000}) for number in range(10, 60)]
    for number, total in enumerate(totals):
        total.record = total.pack()
        landed.keep(session(str(number)), total)
    kept = [landed.get(session(str(number)), total.record) is not None for number, total in enumerate(totals)]
    assert kept == sorted(kept)
    assert 0 < sum(len(total.record) for total, is_kept in zip(totals, kept, strict=True) if is_kept) <= 2**20


def test_tenants_do_not_meet(store: LmdbStore) -> None:
    other = tenant_hash("other")
    with store.unit() as unit:
        enter(unit, spend("s", 1))
        enter(unit, Changes(add={record_key(Table.SESSION, other, b"s"): Sums(cost=50)}))
    with store.snapshot() as reader:
        assert [Sums.unpack(record).cost for _, record in reader.scan(Table.SESSION, TENANT)] == [1]
        assert [Sums.unpack(record).cost for _, record in reader.scan(Table.SESSION, other)] == [50]


def test_counts_beyond_64_bits_still_add_up(store: LmdbStore) -> None:
    """Three calls of 2**63 tokens each: more than msgpack holds in one integer."""
    for _ in range(3):
        with store.unit() as unit:
            enter(unit, Changes(add={session("s"): Sums(usage=(2**63, *NO_SPEND.counts[1:]), models={"m": 2**63})}))
    with store.snapshot() as reader:
        sums = Sums.unpack(reader.get(session("s")) or b"")
    assert (sums.usage[0], sums.models) == (3 * 2**63, {"m": 3 * 2**63})


_Expected: TypeAlias = dict[Key, Any]
"""Costs of sessions, and decisions of spans."""
_Parts: TypeAlias = list[tuple[list[Changes], bool]]
"""The changes of each part, and whether it ends well."""

_names = st.sampled_from(["a", "b", "c"])
_changes = st.one_of(
    st.builds(spend, _names, st.integers(-(10**20), 10**20)),
    st.builds(lambda name, value: remember([name], value), _names, st.binary(max_size=4)),
    st.builds(lambda name, value: Changes(replace={span(name): value}), _names, st.binary(min_size=1, max_size=4)),
)
_units = st.lists(
    st.tuples(st.lists(st.tuples(st.lists(_changes, max_size=3), st.booleans()), max_size=3), st.booleans())
)


@settings(deadline=None, max_examples=60)
@given(_units, st.sampled_from(["sync", "async"]))
def test_only_whole_parts_of_whole_units_land(units: list[tuple[_Parts, bool]], durability: str) -> None:
    """Against a plain dict, and again after opening anew."""
    expected: _Expected = {}
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder), durability=durability)
        for parts, whole in units:
            expected = _enter(store, parts, expected, whole=whole)
        with store.snapshot() as reader:
            _same(reader, expected)
        store.close()
        store = open_store(Path(folder), read_only=True)
        with store.snapshot() as reader:
            _same(reader, expected)
        store.close()


def _enter(store: LmdbStore, parts: _Parts, before: _Expected, *, whole: bool) -> _Expected:
    after = dict(before)
    try:
        with store.unit() as unit:
            for changes, kept in parts:
                after = _enter_part(unit, changes, after, kept=kept)
            if not whole:
                raise _AbandonedError
    except _AbandonedError:
        return before
    return after


def _enter_part(unit: Unit, changes: list[Changes], before: _Expected, *, kept: bool) -> _Expected:
    after = dict(before)
    try:
        with unit.part() as part:
            for change in changes:
                part.apply(change, START_NS)
                for where, sums in change.add.items():
                    after[where] = after.get(where, 0) + sums.cost
                for where, record in change.create.items():
                    after.setdefault(where, record)
                after.update(change.replace)
            if not kept:
                raise _AbandonedError
    except _AbandonedError:
        return before
    return after


def _same(reader: Reader, expected: _Expected) -> None:
    stored: _Expected = {where: Sums.unpack(record).cost for where, record in reader.scan(Table.SESSION, TENANT)}
    stored |= dict(reader.scan(Table.SPAN, TENANT))
    assert stored == expected


def test_a_store_that_reads_has_no_units(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    store = open_store(tmp_path, read_only=True)
    with pytest.raises(StateError, match="reading only"):
        store.unit()
    store.close()


def test_units_that_are_open_at_once_add_up() -> None:
    """Sums commute: neither of two units that both saw the same total takes the other's amount back."""
    store = MemoryStore()
    with store.unit() as one, store.unit() as other:
        enter(one, spend("s", 3))
        assert one.sums(session("s")).cost == 3
        enter(other, spend("s", 4))
        assert other.sums(session("s")).cost == 4
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == 7


def test_a_unit_whose_ground_has_changed_is_to_be_run_again() -> None:
    store = MemoryStore()
    with pytest.raises(UnitConflictError), store.unit() as one:  # noqa: PT012 - the end of the unit raises
        assert one.get(span("a")) is None
        with store.unit() as other:
            enter(other, remember(["a"], b"first"))
        enter(one, remember(["a"], b"second"))
        enter(one, spend("s", 3))
    with store.snapshot() as reader:
        assert (unpack(reader.get(span("a")) or b""), cost_of(reader, "s")) == ([1, b"first"], 0)


def test_a_scan_beside_one_id_looks_at_no_other_changes() -> None:
    """A request asks for the links of each of its sessions: to look at all that the unit holds would be quadratic."""
    store = MemoryStore()
    with store.unit() as unit:
        for number in range(500):
            where = link_key(TENANT, b"names", f"run {number}", "s")
            unit.apply(Changes(create={where: pack([1, 0, "s"])}), START_NS)
        seen: list[bytes] = []

        class Watched(bytes):
            def startswith(self, *what: Any) -> bool:
                seen.append(self)
                return super().startswith(*what)

        overlay = unit
        assert isinstance(overlay, Overlay)
        overlay._beside = {front: {Watched(key) for key in keys} for front, keys in overlay._beside.items()}
        overlay.records = {Watched(key): record for key, record in overlay.records.items()}
        found = list(unit.scan(Table.LINK, TENANT, within=near(b"names" + b"run 7")))
    assert len(found) == 1
    assert len(seen) <= 1
