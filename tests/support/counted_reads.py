"""A view of a ledger that counts what is read of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spanledger_processor.ledger.store import Key, Reader, Table
from spanledger_processor.ledger.sums import Sums


class CountedReads:
    """Counts the records that a reader gives."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.reads = 0

    def get(self, key: Key) -> bytes | None:
        self.reads += 1
        return self._reader.get(key)

    def sums(self, key: Key) -> Sums:
        self.reads += 1
        return self._reader.sums(key)

    def scan(self, table: Table, tenant: bytes, **wanted: Any) -> Iterator[tuple[Key, bytes]]:
        for row in self._reader.scan(table, tenant, **wanted):
            self.reads += 1
            yield row
