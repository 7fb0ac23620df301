"""Where the records of traces stand: new ones side by side, each found again whatever came between."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lmdb
import pytest

from ledger_in_memory import NOW, make_fact
from spanledger_processor.accounting.account import account, enter
from spanledger_processor.accounting.facts import Batch
from spanledger_processor.ledger.housekeeping import Housekeeping
from spanledger_processor.ledger.keys import TRACE_PREFIX, trace_key
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.packing import pack
from spanledger_processor.ledger.store import Changes, Key, StateError, Table, tenant_hash
from spanledger_processor.ledger.trace_places import TracePlaces
from stores import TENANT, Clock, open_store

_OTHER = tenant_hash("other")
_RELEASE = Path(__file__).parents[1] / "data" / "ledgers" / "0.1.0-schema-7"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _keys(first: int, number: int, tenant: bytes = TENANT) -> list[Key]:
    return [trace_key(tenant, f"trace {at}".encode()) for at in range(first, first + number)]


def _enter(store: LmdbStore, keys: list[Key], clock: Clock, value: str = "spans") -> None:
    arrival_ms = clock() // 1_000_000
    with store.unit() as unit:
        unit.apply(Changes(replace={key: pack([2, arrival_ms, value]) for key in keys}, expire=keys), clock())


def _values(store: LmdbStore, keys: list[Key]) -> list[bytes | None]:
    with store.snapshot() as reader:
        return [reader.get(key) for key in keys]


def _has(store: LmdbStore, keys: list[Key]) -> list[bool]:
    return [record is not None for record in _values(store, keys)]


@contextmanager
def _file(folder: Path) -> Iterator[lmdb.Environment]:
    """The environment of a store that is closed."""
    with lmdb.open(str(folder / "ledger"), readonly=True, lock=False) as env:
        yield env


def _stored(folder: Path, table: Table) -> list[Key]:
    prefix = bytes((table,))
    with _file(folder) as env, env.begin() as txn, txn.cursor() as cursor:
        return [key for key in cursor.iternext(values=False) if key.startswith(prefix)]


def _maintain(store: LmdbStore) -> None:
    while store.maintain():
        pass


def test_traces_stand_in_the_order_of_the_commits_that_brought_them(tmp_path: Path, clock: Clock) -> None:
    """So the pages that a commit changes for new traces are few and side by side, however many there are."""
    store = open_store(tmp_path, clock=clock)
    commits = [_keys(0, 100), _keys(100, 100, _OTHER), _keys(200, 100)]
    for keys in commits:
        _enter(store, keys, clock)
    store.close()
    stored = [key[1 - len(commits[0][0]) :] for key in _stored(tmp_path, Table.PLACED)]
    assert stored == [key[1:] for keys in commits for key in sorted(keys)]
    assert not _stored(tmp_path, Table.TRACE)


def test_to_look_for_a_new_trace_reads_nothing(tmp_path: Path, clock: Clock) -> None:
    store = open_store(tmp_path, clock=clock)
    known = _keys(0, 2000)
    _enter(store, known, clock)
    store.close()
    with _file(tmp_path) as env:
        places = TracePlaces(env, writes=True)
        assert places.traces == len(known)
        assert [len([*places.where(key)]) for key in known] == [1] * len(known)
        assert not [key for key in _keys(2000, 2000) if [*places.where(key)]]


def test_a_trace_that_goes_on_stays_where_it_is(tmp_path: Path, clock: Clock) -> None:
    store = open_store(tmp_path, clock=clock)
    first, later = _keys(0, 3), _keys(3, 3)
    segment = first[1][:TRACE_PREFIX] + b"\0\1"
    _enter(store, first, clock)
    _enter(store, later, clock)
    _enter(store, [first[1], segment], clock, "more")
    assert _values(store, [first[1], segment]) == [pack([2, clock() // 1_000_000, "more"])] * 2
    store.close()
    stored = _stored(tmp_path, Table.PLACED)
    assert [key[6:] for key in stored] == [key[1:] for key in [*sorted([*first, segment]), *sorted(later)]]
    assert len(_stored(tmp_path, Table.PLACES)) == 2


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_traces_are_known_after_opening_anew(tmp_path: Path, clock: Clock, durability: str) -> None:
    keys = _keys(0, 50)
    store = open_store(tmp_path, clock=clock, durability=durability)
    _enter(store, keys, clock)
    assert all(_has(store, keys))
    store.close()
    store = open_store(tmp_path, clock=clock, durability=durability)
    assert all(_has(store, keys))
    _enter(store, keys, clock, "more")
    store.close()
    assert len(_stored(tmp_path, Table.PLACED)) == len(keys), "none of them twice"


def test_whoever_reads_beside_the_writer_catches_up_with_it(tmp_path: Path) -> None:
    """As far as each of its snapshots goes."""
    keys = sorted(_keys(0, 9))
    with lmdb.open(str(tmp_path)) as env:
        writer, beside = TracePlaces(env, writes=True), TracePlaces(env, writes=False)
        for some in (keys[:3], keys[3:]):
            with env.begin() as before:
                with writer.writing() as txn:
                    for row in writer.place(txn, [(key, b"record") for key in some]):
                        txn.put(*row)
                beside.catch_up(before)
                assert not [key for key in some if [*beside.where(key)]]
            with env.begin() as txn:
                beside.catch_up(txn)
                assert [txn.get(stored) for key in some for stored in beside.where(key)] == [b"record"] * len(some)


def test_a_commit_that_fails_places_nothing(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its traces, when they come again, would have no row that says where they are."""
    store, keys = open_store(tmp_path, clock=clock), _keys(0, 5)

    def fail(*_: object) -> None:
        raise StateError("the disk is gone")

    with monkeypatch.context() as failing:
        failing.setattr(Housekeeping, "in_commit", fail)
        with pytest.raises(StateError):
            _enter(store, keys, clock)
    assert not any(_has(store, keys))
    _enter(store, _keys(5, 5), clock)
    _enter(store, keys, clock)
    store.close()
    store = open_store(tmp_path, clock=clock)
    assert all(_has(store, _keys(0, 10)))
    store.close()


def test_traces_that_are_due_when_they_land_are_forgotten_with_their_place(tmp_path: Path, clock: Clock) -> None:
    """As after a disk that hung, or a clock that was put right: their rows of what is due are gone with that commit."""
    store, keys = open_store(tmp_path, clock=clock), _keys(0, 5)
    with store.unit() as unit:
        unit.apply(Changes(replace={key: pack([2, clock() // 1_000_000]) for key in keys}, expire=keys), clock())
        clock.forward(25)
    assert not any(_has(store, keys))
    _enter(store, keys[:2], clock, "again")
    assert _has(store, keys) == [True, True, False, False, False]
    store.close()
    assert len(_stored(tmp_path, Table.PLACED)) == 2
    assert len(_stored(tmp_path, Table.PLACES)) == 1


def test_whoever_reads_right_behind_a_commit_finds_its_traces(tmp_path: Path) -> None:
    """On another thread, before the writer's has taken its next step."""
    with lmdb.open(str(tmp_path)) as env:
        places, (key,) = TracePlaces(env, writes=True), _keys(0, 1)
        with suppress(ZeroDivisionError), places.writing() as txn:
            places.place(txn, [(key, b"record")])
            raise ZeroDivisionError
        assert not [*places.where(key)]
        with places.writing() as txn:
            for row in places.place(txn, [(key, b"record")]):
                txn.put(*row)
            known = [*places.where(key)]
        with env.begin() as txn:
            assert [txn.get(stored) for stored in known] == [b"record"]
        assert [*places.where(key)] == known


def test_traces_whose_digests_end_alike_are_in_many_groups(tmp_path: Path) -> None:
    """Whoever chooses ids of traces for it would have each of them searched for among all others."""
    alike = [key[:11] + b"end" + key[14:] for key in _keys(0, 4000)]
    with lmdb.open(str(tmp_path)) as env:
        places = TracePlaces(env, writes=True)
        with places.writing() as txn:
            places.place(txn, [(key, b"record") for key in alike])
        assert places.traces == len(alike)
        assert max(map(len, places._groups)) < 12 * len(alike) / 8
        assert all([*places.where(key)] for key in alike)


def test_a_trace_is_found_while_its_group_is_divided_on_another_thread(tmp_path: Path) -> None:
    """Between the step that says which group it is and the one that reads it, for every trace that moves."""
    meanwhile: list[list[Key]] = []

    class Divided(TracePlaces):
        def _group(self, digest: bytes) -> int:
            number = super()._group(digest)
            while meanwhile:
                known(meanwhile.pop())
            return number

    with lmdb.open(str(tmp_path)) as env:
        places = Divided(env, writes=True)

        def known(keys: list[Key]) -> None:
            with places.writing() as txn:
                places.place(txn, [(key, b"record") for key in keys])

        keys = _keys(0, 30)
        known(keys)
        for number, key in enumerate(keys):
            meanwhile.append(_keys(100 * number + 100, 100))
            assert [*places.where(key)]
            assert not meanwhile


def test_traces_that_look_alike_in_memory_are_told_apart(tmp_path: Path, clock: Clock) -> None:
    """Their keys differ only where nothing is kept of them; one stays when the other goes."""
    one = trace_key(TENANT, b"one")
    other, tenth = one[:15] + bytes(8) + one[23:], one[:1] + bytes(6) + one[7:]
    store = open_store(tmp_path, clock=clock)
    _enter(store, [one], clock, "one")
    assert _has(store, [one, other, tenth]) == [True, False, False]
    clock.forward(20)
    _enter(store, [other, tenth], clock, "other")
    clock.forward(5)
    _maintain(store)
    assert _has(store, [one, other, tenth]) == [False, True, True]
    store.close()
    store = open_store(tmp_path, clock=clock)
    assert _has(store, [one, other, tenth]) == [False, True, True]
    store.close()


def test_a_place_goes_with_the_last_trace_that_stands_there(tmp_path: Path, clock: Clock) -> None:
    keys = _keys(0, 20)
    store = open_store(tmp_path, clock=clock)
    _enter(store, keys, clock)
    clock.forward(20)
    _enter(store, keys[:1], clock, "more")
    clock.forward(5)
    _maintain(store)
    assert _has(store, keys) == [True] + [False] * 19
    _enter(store, keys[1:3], clock, "again")  # they came again, long after
    clock.forward(20)
    _maintain(store)
    assert _has(store, keys[:4]) == [False, True, True, False]
    store.close()
    assert len(_stored(tmp_path, Table.PLACES)) == 1
    store = open_store(tmp_path, clock=clock)
    clock.forward(25)
    _maintain(store)
    store.close()
    assert not _stored(tmp_path, Table.PLACES)
    assert not _stored(tmp_path, Table.PLACED)


def test_beside_a_trace_that_goes_on_none_is_kept_of_those_that_came_with_it(tmp_path: Path, clock: Clock) -> None:
    """Else a trace that never ends would keep them in memory, and read at each start, for all of its commit."""
    keys = _keys(0, 20)
    store = open_store(tmp_path, clock=clock)
    _enter(store, keys, clock)
    clock.forward(20)
    _enter(store, keys[7:9], clock, "more")
    clock.forward(5)
    _maintain(store)
    assert store._places.traces == 2
    store.close()
    with _file(tmp_path) as env:
        assert TracePlaces(env, writes=True).traces == 2
    store = open_store(tmp_path, clock=clock)
    assert _has(store, keys) == [key in keys[7:9] for key in keys]
    store.close()


def test_memory_is_given_back_with_the_traces(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[TracePlaces] = []
    monkeypatch.setattr(TracePlaces, "__init__", _noted(TracePlaces.__init__, made))
    store = open_store(tmp_path, clock=clock)
    traces: list[int] = []
    for hour in range(60):
        _enter(store, _keys(100 * hour, 100), clock)
        clock.forward(1)
        _maintain(store)
        traces.append(made[0].traces)
    assert max(traces) == traces[30] == traces[59] > 0
    store.close()


def _noted(make: object, made: list[TracePlaces]) -> object:
    def init(self: TracePlaces, *args: object, **named: object) -> None:
        made.append(self)
        make(self, *args, **named)  # type: ignore[operator]

    return init


def test_whatever_comes_between_each_trace_is_found(tmp_path: Path, clock: Clock) -> None:
    """Drawn commits, whole and failed ones, hours, maintenance and restarts, beside what should be there."""
    for seed in range(12):
        folder, draw = tmp_path / str(seed), random.Random(seed)
        store, expected = open_store(folder, clock=clock), dict[Key, int]()
        for _ in range(60):
            step = draw.randrange(10)
            if step < 6:
                keys = [
                    trace_key(draw.choice((TENANT, _OTHER)), bytes((draw.randrange(60),)))
                    for _ in range(draw.randrange(1, 12))
                ]
                _enter(store, [*dict.fromkeys(keys)], clock)
                expected.update(dict.fromkeys(keys, clock()))
            elif step == 6:
                with suppress(ZeroDivisionError), store.unit() as unit:
                    unit.apply(Changes(replace={key: pack([2, 0]) for key in _keys(0, 5)}), clock())
                    raise ZeroDivisionError
            elif step == 7:
                store.close()
                store = open_store(folder, clock=clock)
            else:
                clock.forward(draw.randrange(1, 20))
                _maintain(store)
                expected = {key: at for key, at in expected.items() if clock() - at <= 24 * 3600 * 10**9}
            every = [trace_key(tenant, bytes((number,))) for tenant in (TENANT, _OTHER) for number in range(60)]
            assert _has(store, every) == [key in expected for key in every], f"seed {seed}"
        store.close()


def test_traces_of_a_ledger_without_places_stay_where_they_are(tmp_path: Path) -> None:
    """A span that comes for one joins its record there; new ones have places, and retention takes both."""
    folder = tmp_path / "state"
    shutil.copytree(_RELEASE, folder)
    before = _stored(folder, Table.TRACE)
    assert before
    clock = [NOW + 1]

    def opened() -> LmdbStore:
        return LmdbStore.open(
            folder, max_size_mib=16, durability="sync", retention_ns=86_400 * 10**9, now_ns=lambda: clock[0]
        )

    store = opened()
    facts = [make_fact("late", "agent", "llm", 7, session="alone", trace="t1", response_id="r9")]
    facts += [make_fact("n", kind="llm", cost=8, session="alone", trace="t20", response_id="r10")]
    replays = []
    for _ in range(2):
        with store.unit() as unit:
            replays.append(enter(Batch(TENANT, facts, NOW + 1), unit).replays)
    assert replays == [0, 2]
    store.close()
    assert _stored(folder, Table.TRACE) == before
    assert len(_stored(folder, Table.PLACED)) == 1
    store = opened()
    with store.unit() as unit:
        assert account(Batch(TENANT, facts, NOW + 2), unit).replays == 2
    clock[0] += 2 * 86_400 * 10**9
    _maintain(store)
    store.close()
    assert not _stored(folder, Table.TRACE)
    assert not _stored(folder, Table.PLACED)
