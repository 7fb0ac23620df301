"""The store as the rest of the house sees it: keys, changes, units of work. What holds the ledger honours this page.

A unit of work reads, decides, and says what changes. What it reads by `get` and `scan` it decides on; what it reads by
`sums` it only tells (running totals), and whatever others add to that in the meantime is right as well. Changes are of
three kinds: sums, which add up in any order; claims, of which the first one stands; and whole records.

A unit may be run again: nothing of it lands before it ends, and it leaves nothing outside but what is in `cache`, which
holds no truth of its own. A store that is the only writer of its ledger runs units one after the other (LMDB in one
process, `lmdb_store`); one that others write to as well compares, when a unit ends, what it decided on with what is
there by then, in the same transaction in which it adds the sums (`memory_store` does so), and lets it run again.
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
    """The first byte of every key. Numbers are for ever; a new table takes a new one."""

    META = 0
    SPAN = 1
    """No longer written: decisions stand in their trace's record."""
    TRACE = 2
    """Links, claims and decisions of one trace's spans: a head and closed segments behind it."""
    RESPONSE = 3
    """No longer written: see INDEX."""
    SESSION = 4
    RUN = 5
    TASK = 6
    """Per session, task id, task kind, provider and model."""
    DAY = 7
    """Per UTC day, provider and model."""
    TOOL = 8
    """Per session and signature: how often this very call was made."""
    TOTAL = 9
    """One record a tenant: the whole ledger."""
    DUE = 10
    """When the short-lived records of other tables may go, in order of arrival."""
    FLOATING = 11
    """No longer written: a session's record says which part of it has a run of its own."""
    MATCH = 12
    """No longer written: see INDEX."""
    LINK = 14
    """From a run to the sessions that name it, and from a session to those that it spawned."""
    GONE = 15
    """Per UTC day of their last arrival: what sessions that are gone had spent."""
    ORDER = 17
    """Sessions and runs by last activity and by cost (`orders`)."""
    DIMENSION = 18
    """Per dimension, UTC day and value."""
    PART = 19
    """Per session, and agent or tool: what of the session was by it."""
    BUDGET = 20
    """Thresholds of budgets that were passed, of all tenants together."""
    SETTLED = 21
    """Per span of a long trace that its rules do not look at any more: the segment of the trace that holds it."""
    INDEX = 13
    """A row a request, by arrival: the traces of the calls that it counted, by hashes of their ids and usage."""


def tenant_hash(tenant: str) -> bytes:
    """Return the 8 bytes that keep one tenant's keys from another's; the default tenant is the empty string."""
    return blake2b(tenant.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def key(table: Table, tenant: bytes, *ids: bytes) -> Key:
    """Return the key of the record for `ids`.

    Several ids are hashed with their lengths, so that they cannot run together, behind a piece of the first one's hash:
    the spans of a trace, the tools and tasks of a session stand side by side, and a commit rewrites few pages.
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
    """Return what keys of several ids have in front; kept, because the tasks and tools of a session come together."""
    return blake2b(first, digest_size=6).digest()


@dataclass(slots=True)
class Changes:
    """What one request changes.

    `add` commutes: sums are merged into what is stored. `claim` writes only where nothing is stored yet.
    `replace` writes whole records. `expire` names claimed and replaced keys that may go `state.retention.spans`
    after arrival.
    """

    add: dict[Key, Sums] = field(default_factory=dict)
    claim: dict[Key, bytes] = field(default_factory=dict)
    replace: dict[Key, bytes] = field(default_factory=dict)
    expire: list[Key] = field(default_factory=list)


class Reader(Protocol):
    """One consistent view."""

    def get(self, key: Key) -> bytes | None:
        """Return the record of a key, None if there is none; in a unit, something that it decides on."""
        ...

    def sums(self, key: Key) -> Sums:
        """Return the total under a key, an empty one if there is none; in a unit, something that it only reports.

        Others may have it as well: it is not to be changed.
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
        several ids: only what stands side by side with it, which may be of another first id, too.
        """
        ...


Snapshot: TypeAlias = Callable[[], AbstractContextManager[Reader]]
"""Opens a consistent view of a ledger; raises StateError while it cannot be read."""


class Unit(Reader, Protocol):
    """A unit of work: reads see what was applied before in the same unit; all of it lands, or none.

    `cache` is what users of the store keep of it in memory: it lives as long as the store is open.
    """

    @property
    def cache(self) -> dict[str, Any]: ...

    def apply(self, changes: Changes, now_ns: int) -> None: ...

    def part(self) -> AbstractContextManager[Unit]:
        """Return a part of this unit: it lands in it when its block ends, and leaves nothing where that raises."""
        ...


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """How much is stored: bytes in use, bytes that may be used, the number of records, and how many gave way to the
    size since the store was opened.
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
        StateError: the store cannot be read or written now (no space, I/O error); nothing of the unit landed.
        StateBrokenError: nor will it be before it is opened anew.
    """

    def unit(self) -> AbstractContextManager[Unit]: ...

    def snapshot(self) -> AbstractContextManager[Reader]: ...

    def maintain(self) -> bool:
        """Do a bounded slice of retention and writing out, beside the units; return whether more is due."""
        ...

    def usage(self) -> StoreUsage: ...

    def close(self) -> None: ...


class StateError(Exception):
    """The state is not available; spans go on as `not_accounted`."""


class UnitConflictError(StateError):
    """What a unit decided on has changed since; nothing of it landed, and it may be run again."""


class UnitTooLargeError(StateError):
    """A unit brings more than there is room for at once; nothing of it landed, and smaller ones may fit."""


class StateBrokenError(StateError):
    """The store has to be closed and opened anew before it can be used again."""


class StateLockedError(StateError):
    """Another process has this state folder open for writing."""
