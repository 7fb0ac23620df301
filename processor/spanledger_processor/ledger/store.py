"""The interface of a store: keys, changes, units of work. Every store of the ledger keeps the rules below.

A unit of work reads, decides, and applies changes. Its decisions depend on what it reads by `get` and `scan`. What it
reads by `sums` are running totals, which it reports only: they stay right whatever other units add meanwhile. Changes
are of three kinds: sums, which add up in any order; records created, of which the first stays; and whole records.

A unit may be run again: nothing of it is stored before it ends, and it changes nothing outside the store but `cache`,
from which nothing is decided. A store that alone writes its ledger runs units one after the other (`lmdb_store`). A
store with other writers compares the records that a unit read with those stored when it ends, in the transaction that
adds its sums, and raises `UnitConflictError` if they differ (`memory_store` does so).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol, TypeAlias

from spanledger_processor.ledger.sums import Sums

Key: TypeAlias = bytes
"""One table byte, 8 bytes of the tenant's hash, 16 bytes of the id's hash: ids come from the network."""


class Table(IntEnum):
    """The first byte of every key. Numbers are stored, so they never change; a new table takes a new one."""

    META = 0
    SPAN = 1
    """No longer written: decisions are in the record of their trace."""
    TRACE = 2
    """Links, claims and decisions of one trace's spans: a head and closed segments behind it. They are asked for by
    their keys, and not scanned: LMDB has them as PLACED.
    """
    RESPONSE = 3
    """No longer written: see INDEX."""
    SESSION = 4
    RUN = 5
    TASK = 6
    """Per session, task id, task kind, provider and model."""
    DAY = 7
    """Per UTC day, provider and model."""
    TOOL = 8
    """Per session and signature: the number of times that this call was made."""
    TOTAL = 9
    """One record a tenant: the whole ledger."""
    DUE = 10
    """Keys of records that may be removed, in order of arrival."""
    FLOATING = 11
    """No longer written: a session's record has the part of it that has a run of its own."""
    MATCH = 12
    """No longer written: see INDEX."""
    LINK = 14
    """From a run to the sessions that name it, and from a session to those that it spawned."""
    GONE = 15
    """Per UTC day of their last arrival: the sums of sessions that were removed."""
    ORDER = 17
    """Sessions and runs by last activity and by cost (`orders`)."""
    DIMENSION = 18
    """Per dimension, UTC day and value."""
    PART = 19
    """Per session, and agent or tool: its part of the session's sums."""
    BUDGET = 20
    """Thresholds of budgets that were passed, of all tenants together."""
    SETTLED = 21
    """Per span of a long trace that its rules do not look at any more: the segment of the trace that holds it."""
    DAY_VALUES = 22
    """Per dimension and UTC day that is over: its values packed together (`day_values`)."""
    LARGE_RUN = 23
    """Runs of too many sessions to be added up with a request, of all tenants together (`budgets.LargeRun`)."""
    REACHED = 24
    """Stretches of days in which thresholds of rolling budgets were reported, of all tenants together (`rolling`)."""
    PLACED = 25
    """Records of traces as LMDB has them, whose keys are those of TRACE behind a place (`trace_places`)."""
    PLACES = 26
    """Per place: which traces stand there."""
    INDEX = 13
    """A row a request, by arrival: the traces of the calls that it counted, by hashes of their ids and usage."""


def tenant_hash(tenant: str) -> bytes:
    """Return the hash of a tenant's name, 8 bytes, for its keys; the default tenant is the empty string."""
    return blake2b(tenant.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def record_key(table: Table, tenant: bytes, *ids: bytes) -> Key:
    """Return the key of the record for `ids`.

    Several ids are hashed with their lengths, so that they cannot run together, behind a part of the first one's hash:
    the spans of a trace, and the tools and tasks of a session, are neighbours, and a commit rewrites few pages.
    """
    if len(ids) == 1:
        return _FIRST[table] + tenant + blake2b(ids[0], digest_size=16).digest()
    joined = b"".join([len(part).to_bytes(4, "big") + part for part in ids])
    return _FIRST[table] + tenant + near(ids[0]) + blake2b(joined, digest_size=10).digest()


PREFIX = 15
"""Bytes that keys of one table, tenant and first of several ids have in common."""

_FIRST = tuple(bytes((table,)) for table in range(256))


@lru_cache(maxsize=1024)
def near(first: bytes) -> bytes:
    """Return the beginning of keys of several ids, by the first one; cached, for those of a session come together."""
    return blake2b(first, digest_size=6).digest()


@dataclass(slots=True)
class Changes:
    """The changes of one request.

    `add` commutes: sums are merged into what is stored. `create` writes only where nothing is stored yet.
    `replace` writes whole records. `expire` names created and replaced keys that may go `state.retention.spans`
    after arrival.
    """

    add: dict[Key, Sums] = field(default_factory=dict)
    create: dict[Key, bytes] = field(default_factory=dict)
    replace: dict[Key, bytes] = field(default_factory=dict)
    expire: list[Key] = field(default_factory=list)


class Reader(Protocol):
    """A consistent view of a ledger."""

    def get(self, key: Key) -> bytes | None:
        """Return the record of a key, None if there is none; in a unit, its decisions may depend on it."""
        ...

    def sums(self, key: Key) -> Sums:
        """Return the total under a key, an empty one if there is none; a unit only reports it.

        It is shared, and must not be changed.
        """
        ...

    def scan(
        self,
        table: Table,
        tenant: bytes,
        *,
        within: bytes = b"",
        newest_first: bool = False,
        before: Key | None = None,
    ) -> Iterator[tuple[Key, bytes]]:
        """Yield the records of one tenant in a table, in the order of their keys, or from the last one back.

        From the last one back, `before` leaves out that key and those behind it. `within` is `near` of the first of
        several ids: only its neighbours, which may be of another first id, too.
        """
        ...


Snapshot: TypeAlias = Callable[[], AbstractContextManager[Reader]]
"""Opens a consistent view of a ledger; raises StateError while it cannot be read."""


class Unit(Reader, Protocol):
    """A unit of work: reads see the changes that it has applied; all of them are stored, or none.

    `cache` is what users of the store keep in memory of its data: it lives as long as the store is open.
    """

    @property
    def cache(self) -> dict[str, Any]: ...

    def apply(self, changes: Changes, now_ns: int) -> None:
        """Take `changes` in, which arrived at `now_ns` (since 1970); they are nobody else's from then on."""
        ...

    def part(self) -> AbstractContextManager[Unit]:
        """Return a part of this unit: its changes join the unit when its block ends, and are dropped if it raises."""
        ...


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """The size of a store: bytes in use, bytes that may be used, records, and records that were removed to make room
    since the store was opened.
    """

    used_bytes: int
    map_bytes: int
    records: int
    evicted: int = 0


class Store(Protocol):
    """Opened once a process. Units belong to one thread; snapshots may be taken on any.

    Raises:
        UnitConflictError: when a unit ends: it has to be run again.
        UnitTooLargeError: when a unit ends: it has to be run in parts.
        StateError: the store cannot be read or written now (no space, I/O error); nothing of the unit was stored.
        StateBrokenError: likewise, until it is opened again.
    """

    def unit(self) -> AbstractContextManager[Unit]:
        """Return a unit of work: it is stored when its block ends, and dropped if that raises."""
        ...

    def snapshot(self) -> AbstractContextManager[Reader]:
        """Return a view of what is committed now, which stays the same while its block runs."""
        ...

    def maintain(self) -> bool:
        """Do a bounded slice of retention and flushing between units; return whether more is due."""
        ...

    def usage(self) -> StoreUsage:
        """Return how large the store is."""
        ...

    def close(self) -> None:
        """Write what was held back, and close the store."""
        ...


class StateError(Exception):
    """The state is not available; spans go on as `not_accounted`."""


class UnitConflictError(StateError):
    """A record that a unit read has changed since; nothing of it was stored, and it may be run again."""


class UnitTooLargeError(StateError):
    """A unit needs more room than there is at once; nothing of it was stored, and smaller ones may fit."""


class StateBrokenError(StateError):
    """The store has to be closed and opened again before it can be used."""


class StateLockedError(StateError):
    """Another process has this state folder open for writing."""
