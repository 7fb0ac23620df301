"""A ledger or a disk that is full: nothing half-written, and everything goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger_in_memory import make_fact
from spanledger_processor.accounting import account
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.ledger import queries as questions
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.rows import exact_usd
from spanledger_processor.ledger.runs import all_runs
from spanledger_processor.ledger.store import (
    Changes,
    Reader,
    StateBrokenError,
    StateError,
    Table,
    record_key,
    tenant_hash,
)
from spanledger_processor.ledger.sums import Sums
from stores import START_NS, TENANT, Clock, cost_of, count, enter, open_store, remember, span, spend

_SUPPORT = Path(__file__).parents[1] / "support"


def _fill(store: LmdbStore, clock: Clock, most: int = 5000) -> int:
    """Count calls, each with a span to be remembered, until the store takes no more; how many it took."""
    for number in range(most):
        try:
            with store.unit() as unit:
                enter(unit, spend("s"), clock())
                enter(unit, remember(f"{number} {inner}" for inner in range(50)), clock())
        except StateBrokenError:
            raise
        except StateError as error:
            assert "full" in str(error) or "no space left" in str(error)  # noqa: PT017 - which one depends on what is full
            return number
    raise AssertionError("never full")


def _same(store: LmdbStore, taken: int) -> None:
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == taken
        assert count(reader, Table.SPAN) == 50 * taken


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_accounting_goes_on_at_the_size_limit(tmp_path: Path, durability: str) -> None:
    """16,000 sessions in a map of 20 MiB ended it for good. The oldest give way, and no amount is lost."""
    clock = Clock()
    store = open_store(tmp_path, clock=clock, size_mib=4, sessions_hours=2000, durability=durability)
    number = 10_000
    for first in range(0, number, 100):
        clock.forward(0.001)
        with store.unit() as unit:
            for place in range(first, first + 100):
                enter(unit, spend(f"session {place}", place), clock())
                enter(unit, remember([str(place)]), clock())
        store.maintain()
    store.close()
    store = open_store(tmp_path, read_only=True)
    with store.snapshot() as reader:
        sessions = {sums.labels["id"]: sums for sums in _sums(reader, Table.SESSION)}
        gone = _sums(reader, Table.GONE)
        (whole, reported), total = questions.gone(reader, TENANT), questions.total(reader, TENANT)
    assert sum(sums.cost for sums in sessions.values()) == sum(range(number))
    assert sum(sums.cost for sums in gone) == sessions[""].cost > 0
    assert sum(row["sessions"] for row in reported) == total["sessions_gone"] == number - (len(sessions) - 1)
    assert sum(sums.sessions for sums in gone) == whole["sessions"] == number - (len(sessions) - 1)
    assert whole["cost_usd_exact"] == total["gone_usd_exact"] == exact_usd(sessions[""].cost)
    assert f"session {number - 1}" in sessions
    assert "session 0" not in sessions
    store.close()


def test_it_is_said_once_that_the_oldest_give_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    store = open_store(tmp_path, clock=clock, size_mib=2)
    for first in range(0, 10_000, 25):
        with store.unit() as unit:
            for place in range(first, first + 25):
                enter(unit, spend(f"session {place}"), clock())
    assert [record.levelname for record in caplog.records if "give way" in record.message] == ["WARNING"]
    assert store.usage().evicted > 0
    store.close()


def test_many_names_of_models_give_way_last_of_all(tmp_path: Path) -> None:
    """Days have no retention: at the limit the models of a day become one, and its sum stays."""
    clock = Clock()
    store = open_store(tmp_path, clock=clock, size_mib=2)
    today = START_NS // (86_400 * 10**9)
    for first in range(0, 9000, 20):
        changes = Changes()
        for place in range(first, first + 20):
            labels = {"day": str(today - place % 3), "provider": "p", "model": f"model {place}"}
            where = record_key(Table.DAY, TENANT, (today - place % 3).to_bytes(4, "big"), b"p", b"%d" % place)
            changes.add[where] = Sums(cost=1, calls=1, labels=labels)
        with store.unit() as unit:
            enter(unit, changes, clock())
    with store.snapshot() as reader:
        days = _sums(reader, Table.DAY)
        models = questions.models(reader, TENANT)
    assert sum(sums.cost for sums in days) == sum(sums.calls for sums in days) == 9000
    assert {sums.labels["day"] for sums in days} == {str(today - back) for back in range(3)}
    assert sum(row["calls"] for row in models) == 9000
    store.close()


def _facts(request: int) -> list[Fact]:
    """Calls of new sessions, of one that stays, with a run of their own, with a run and a task, and of none."""
    trace = f"trace {request}"
    return [
        make_fact("a", kind="llm", cost=3 + request, session=f"s{request}", trace=f"{trace} a"),
        make_fact("b", kind="llm", cost=5 + request, session="stays", trace=f"{trace} b"),
        make_fact("c", kind="llm", cost=7 + request, session=f"s{request}", run=f"r{request % 50}", trace=f"{trace} c"),
        make_fact("d", kind="llm", cost=11 + request, session=f"u{request}", task_id="t", trace=f"{trace} d"),
        make_fact("e", kind="llm", cost=13 + request, trace=f"{trace} e"),
    ]


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_every_view_adds_up_at_the_size_limit(tmp_path: Path, durability: str) -> None:
    """total = sessions + unattributed = runs + unattributed = days x models, to the last digit."""
    clock, requests, batch = Clock(), 1000, 10
    store = open_store(tmp_path, clock=clock, size_mib=2, durability=durability, sessions_hours=2000)
    for first in range(0, requests, batch):
        clock.forward(0.002)
        with store.unit() as unit:
            for request in range(first, first + batch):
                account.enter(Batch(TENANT, _facts(request), clock()), unit)
        store.maintain()
    assert store.usage().evicted > 0
    store.close()
    store = open_store(tmp_path, read_only=True)
    truth = sum(39 + 5 * request for request in range(requests))
    with store.snapshot() as reader:
        for table in (Table.SESSION, Table.DAY):
            assert sum(sums.cost for sums in _sums(reader, table)) == truth
        assert sum(sums.cost for sums in all_runs(reader, TENANT).values()) == truth
        assert questions.total(reader, TENANT)["cost_usd_exact"] == exact_usd(truth)
        stays = questions.session(reader, TENANT, "stays")
    assert stays is not None
    store.close()


def _sums(reader: Reader, table: Table, tenant: bytes = TENANT) -> list[Sums]:
    return [Sums.unpack(record) for _, record in reader.scan(table, tenant)]


def test_a_flood_of_one_tenant_takes_no_session_from_the_others(tmp_path: Path) -> None:
    """Theirs are the oldest, and would be the first to go by age. Sums of all tenants stay to the last digit."""
    requests = 1250
    clock, flood = Clock(), tenant_hash("flood")
    store = open_store(tmp_path, clock=clock, size_mib=4, sessions_hours=2000)
    quiet = [tenant_hash(f"quiet {number}") for number in range(5)]
    with store.unit() as unit:
        for number, tenant in enumerate(quiet):
            account.enter(Batch(tenant, _facts(number), clock()), unit)
    for first in range(0, requests, 25):
        clock.forward(0.05)
        with store.unit() as unit:
            for request in range(first, first + 25):
                account.enter(Batch(flood, _facts(request), clock()), unit)
        store.maintain()
    assert store.usage().evicted > 1000
    store.close()
    store = open_store(tmp_path, read_only=True)
    with store.snapshot() as reader:
        for number, tenant in enumerate(quiet):
            ids = {sums.labels.get("id") for sums in _sums(reader, Table.SESSION, tenant)}
            assert ids == {"", f"s{number}", f"u{number}", "stays"}
            assert not _sums(reader, Table.GONE, tenant)
        assert sum(sums.cost for sums in _sums(reader, Table.SESSION, flood)) == sum(
            39 + 5 * n for n in range(requests)
        )
    store.close()


def test_the_oldest_go_early_before_it_is_full(tmp_path: Path) -> None:
    """Retention is capped by size: what came within the last quarter of an hour is not forgotten for that."""
    clock = Clock()
    store = open_store(tmp_path, clock=clock, size_mib=4, spans_hours=24)
    for number in range(400):
        clock.forward(0.05)
        with store.unit() as unit:
            enter(unit, spend("s"), clock())
            enter(unit, remember(f"{number} {inner}" for inner in range(100)), clock())
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == 400
        assert reader.get(span("0 0")) is None
        assert all(reader.get(span(f"{number} 0")) for number in range(396, 400))
    store.close()


def test_one_unit_too_large_harms_no_other(tmp_path: Path) -> None:
    clock = Clock()
    store = open_store(tmp_path, clock=clock, size_mib=1)
    with pytest.raises(StateError, match="full"), store.unit() as unit:
        enter(unit, remember(map(str, range(20_000))), clock())
    with store.unit() as unit:
        enter(unit, spend("s"), clock())
    with store.snapshot() as reader:
        assert (count(reader, Table.SPAN), cost_of(reader, "s")) == (0, 1)
    store.close()


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", folder], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _small_disk(Path(folder) / "disk"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def _full_disk(disk: Path) -> Iterator[None]:
    """Take what is left of a small disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    yield
    ballast.unlink()


@pytest.mark.skipif(not _may_mount(), reason="may not mount a small disk; test_a_file_that_may_not_grow stands in")
def test_a_disk_without_room(tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk"):
        clock = Clock()
        state = tmp_path / "disk" / "state"
        store = open_store(state, clock=clock, size_mib=64)
        with store.unit() as unit:
            enter(unit, spend("before"), clock())
        with _full_disk(tmp_path / "disk"):
            taken = _fill(store, clock)
            _same(store, taken)
        with store.unit() as unit:
            enter(unit, spend("s"), clock())
        store.close()
        with _full_disk(tmp_path / "disk"), pytest.raises(StateError, match="no space left"):
            open_store(state, size_mib=64)
        store = open_store(state, size_mib=64)
        with store.snapshot() as reader:
            assert (cost_of(reader, "before"), cost_of(reader, "s")) == (1, taken + 1)
        store.close()


_WITH_A_LIMIT = """
import resource, sys
from pathlib import Path
from stores import Clock, cost_of, enter, open_store, spend
from test_full import _fill, _same
clock = Clock()
store = open_store(Path(sys.argv[1]), clock=clock, size_mib=64)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
_fill(store, clock)  # LMDB may write a part of its pages: what was stored before is there, and can be read
with store.snapshot() as reader:
    taken = cost_of(reader, "s")
assert taken > 0
_same(store, taken)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with store.unit() as unit:
    enter(unit, spend("s"), clock())
with store.snapshot() as reader:
    assert cost_of(reader, "s") == taken + 1
store.close()
print("recovered")
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The limit of a process on its files stands for a full disk where nothing can be mounted."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_SUPPORT), str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", _WITH_A_LIMIT, str(tmp_path)]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert ended.stdout == "recovered\n", ended.stderr
