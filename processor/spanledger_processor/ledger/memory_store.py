"""A store that ends with its maker: to explain a file without a ledger, and for tests. Nothing in it expires.

It has as many writers as units are open at once: what one decided on is compared when it lands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spanledger_processor.ledger.keys import CROSSINGS_COMPLETE, ORDERS_COMPLETE
from spanledger_processor.ledger.overlay import Overlay
from spanledger_processor.ledger.store import Key, Reader, StoreUsage, Table, Unit, UnitConflictError
from spanledger_processor.ledger.sums import Sums


class MemoryStore:
    """Honours `store.Store`."""

    def __init__(self) -> None:
        self._below = _Records()
        self.cache: dict[str, object] = {}
        """State that a process caches in memory; a new one starts without."""

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        """Provide a unit of work: it lands when its block ends, and leaves nothing where that raises."""
        decided = _Decided(self._below)
        unit = Overlay(decided, self.cache)
        yield unit
        if decided.changed():
            raise UnitConflictError("what this unit decided on has changed since; run it again")
        landing = unit.landing(self._below)
        for key in landing.gone:
            self._below.records.pop(key, None)
        self._below.records.update(landing.rows)

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """Provide a view of what has landed."""
        yield self._below

    def maintain(self) -> bool:
        """Return False: nothing is ever due."""
        return False

    def usage(self) -> StoreUsage:
        """Return how much is stored; nothing bounds it."""
        records = self._below.records
        return StoreUsage(sum(len(key) + len(record) for key, record in records.items()), 0, len(records))

    def close(self) -> None:
        """Do nothing: nothing is kept."""


class _Records:
    def __init__(self) -> None:
        self.records: dict[Key, bytes] = {ORDERS_COMPLETE: b"", CROSSINGS_COMPLETE: b""}

    def get(self, key: Key) -> bytes | None:
        return self.records.get(key)

    def sums(self, key: Key) -> Sums:
        record = self.records.get(key)
        return Sums() if record is None else Sums.unpack(record)

    def scan(
        self,
        table: Table,
        tenant: bytes,
        *,
        within: bytes = b"",
        newest_first: bool = False,
        before: Key | None = None,
    ) -> Iterator[tuple[Key, bytes]]:
        prefix = bytes((table,)) + tenant + within
        result = (item for item in self.records.items() if item[0].startswith(prefix))
        rows = sorted(result, reverse=newest_first)
        return iter(rows if before is None else [item for item in rows if item[0] < before])


class _Decided(_Records):
    """Notes what was got, and from what it was."""

    def __init__(self, below: _Records) -> None:
        self.records = below.records
        self._got: dict[Key, bytes | None] = {}
        self._scanned: dict[tuple[Table, bytes, bytes], list[tuple[Key, bytes]]] = {}

    def get(self, key: Key) -> bytes | None:
        return self._got.setdefault(key, self.records.get(key))

    def scan(
        self,
        table: Table,
        tenant: bytes,
        *,
        within: bytes = b"",
        newest_first: bool = False,
        before: Key | None = None,
    ) -> Iterator[tuple[Key, bytes]]:
        rows = list(super().scan(table, tenant, within=within))
        self._scanned.setdefault((table, tenant, within), rows)
        seen = rows if before is None else [item for item in rows if item[0] < before]
        return iter(reversed(seen) if newest_first else seen)

    def changed(self) -> bool:
        """Return whether something that was read is another by now."""
        if any(self.records.get(key) != record for key, record in self._got.items()):
            return True
        return any(
            list(super(_Decided, self).scan(table, tenant, within=within)) != rows
            for (table, tenant, within), rows in self._scanned.items()
        )
