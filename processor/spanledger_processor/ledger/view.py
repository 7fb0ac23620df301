"""One consistent view of what LMDB holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lmdb

from spanledger_processor.ledger.environment import map_lmdb_errors
from spanledger_processor.ledger.store import Key, Table
from spanledger_processor.ledger.sums import Sums


class View:
    """A `store.Reader` for as long as its transaction lives."""

    __slots__ = ("_get", "_path", "_txn")

    def __init__(self, txn: lmdb.Transaction[bytes], path: Path) -> None:
        self._txn = txn
        self._get = txn.get
        self._path = path

    def get(self, key: Key) -> bytes | None:
        """The record of `key`, None if there is none."""
        try:
            return self._get(key)
        except lmdb.Error:
            with map_lmdb_errors(self._path):
                raise

    def sums(self, key: Key) -> Sums:
        """See `store.Reader.sums`."""
        record = self.get(key)
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
        """See `store.Reader.scan`."""
        prefix = bytes((table,)) + tenant + within
        if newest_first:
            yield from self._backwards(prefix, before)
            return
        with map_lmdb_errors(self._path), self._txn.cursor() as cursor:
            more = cursor.set_range(prefix)
            while more and cursor.key().startswith(prefix):
                yield cursor.item()
                more = cursor.next()

    def _backwards(self, prefix: bytes, before: Key | None) -> Iterator[tuple[Key, bytes]]:
        with map_lmdb_errors(self._path), self._txn.cursor() as cursor:
            behind = cursor.set_range(before or prefix + b"\xff" * 17)
            more = cursor.prev() if behind else cursor.last()
            while more and cursor.key().startswith(prefix):
                yield cursor.item()
                more = cursor.prev()
