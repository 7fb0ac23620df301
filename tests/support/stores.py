"""Stores on disk, a ledger in memory as the server has it, and short ways to change them and to ask them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.packing import pack
from spanledger_processor.ledger.store import Changes, Key, Reader, StateError, Table, Unit, record_key, tenant_hash
from spanledger_processor.ledger.sums import Sums

T = TypeVar("T")
TENANT = tenant_hash("")
HOUR_NS = 3600 * 10**9
START_NS = 1_795_500_000 * 10**9


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ns = START_NS

    def __call__(self) -> int:
        return self.ns

    def forward(self, hours: float) -> None:
        """Let time pass."""
        self.ns += int(hours * HOUR_NS)


@dataclass
class WriterInMemory:
    """What the server knows of a `LedgerWriter`, over the store in memory: each work is done at once, as a unit.

    With a `problem` every use of it is a StateError; so is every work after `full_after` units.
    """

    problem: str | None = None
    store: MemoryStore = field(default_factory=MemoryStore)
    units: int = 0
    full_after: int = 10**9

    async def submit(self, work: Callable[[Unit], T], *, takes_long: bool = False) -> T:
        """Return what `work` does to a unit of its own."""
        self._check()
        self.units += 1
        if self.units > self.full_after:
            raise StateError("no space left")
        with self.store.unit() as unit:
            return work(unit)

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """Read what is stored."""
        self._check()
        with self.store.snapshot() as reader:
            yield reader

    def _check(self) -> None:
        if self.problem is not None:
            raise StateError(self.problem)


def open_store(
    path: Path,
    *,
    clock: Callable[[], int] = lambda: START_NS,
    size_mib: int = 16,
    durability: str = "sync",
    spans_hours: float = 24,
    sessions_hours: float = 0,
    read_only: bool = False,
) -> LmdbStore:
    """The store of a state folder."""
    return LmdbStore.open(
        path,
        max_size_mib=size_mib,
        durability=durability,
        retention_ns=int(spans_hours * HOUR_NS),
        sessions_retention_ns=int(sessions_hours * HOUR_NS),
        read_only=read_only,
        now_ns=clock,
    )


def session(name: str) -> Key:
    """Where the totals of a session stand."""
    return record_key(Table.SESSION, TENANT, name.encode())


def span(name: str) -> Key:
    """Where the decision of a span stands."""
    return record_key(Table.SPAN, TENANT, name.encode())


def trace(name: str) -> Key:
    """Where a trace stands."""
    return record_key(Table.TRACE, TENANT, name.encode())


def spend(name: str, cost: int = 1) -> Changes:
    """One more call of a session."""
    return Changes(add={session(name): Sums(cost=cost, calls=1, labels={"id": name})})


def remember(spans: Iterable[str], value: bytes = b"decision") -> Changes:
    """Spans that have been decided on."""
    keys = [span(name) for name in spans]
    return Changes(create=dict.fromkeys(keys, pack([1, value])), expire=keys)


def follow(name: str, now_ns: int) -> Changes:
    """A trace as it is now."""
    return Changes(replace={trace(name): pack([1, now_ns // 1_000_000, "links"])}, expire=[trace(name)])


def enter(unit: Unit, changes: Changes, now_ns: int = START_NS) -> None:
    """Apply changes."""
    unit.apply(changes, now_ns)


def cost_of(reader: Reader, name: str) -> int:
    """What a session has cost."""
    record = reader.get(session(name))
    return 0 if record is None else Sums.unpack(record).cost


def count(reader: Reader, table: Table) -> int:
    """How many records of the default tenant a table has."""
    return sum(1 for _ in reader.scan(table, TENANT))
