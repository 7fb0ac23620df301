"""Changes that lie over a view and have not landed in it yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any

from spanledger_processor.ledger.store import Changes, Key, Reader, Table
from spanledger_processor.ledger.sums import Sums


class Layer:
    """A unit of work over `below`: reads see its own records first. Whoever made it brings what it holds down.

    `records` are whole records to be written, `due` the keys of those that retention may take, by arrival in ms.
    """

    def __init__(
        self, below: Reader, records: dict[Key, bytes] | None = None, cache: dict[str, Any] | None = None
    ) -> None:
        self.cache: dict[str, Any] = {} if cache is None else cache
        self.records: dict[Key, bytes] = records or {}
        self.due: dict[int, list[Key]] = {}
        self.below = below

    def get(self, key: Key) -> bytes | None:
        """The record of `key`, None if there is none."""
        record = self.records.get(key)
        return self.below.get(key) if record is None else record

    def scan(
        self, table: Table, tenant: bytes, *, within: bytes = b"", newest_first: bool = False
    ) -> Iterator[tuple[Key, bytes]]:
        """See `store.Reader.scan`."""
        prefix = bytes((table,)) + tenant + within
        mine = sorted((item for item in self.records.items() if item[0].startswith(prefix)), reverse=newest_first)
        below = self.below.scan(table, tenant, within=within, newest_first=newest_first)
        rows = merge(mine, below, key=itemgetter(0), reverse=newest_first)
        return (next(same) for _, same in groupby(rows, key=itemgetter(0)))

    def apply(self, changes: Changes, now_ns: int) -> None:
        """Take `changes` in, all or, where a stored record cannot be read, none of them."""
        arrival_ms = now_ns // 1_000_000
        fresh = {key: self._merged(key, sums, arrival_ms) for key, sums in changes.add.items()}
        fresh.update((key, record) for key, record in changes.claim.items() if self.get(key) is None)
        fresh.update(changes.replace)
        self.records.update(fresh)
        if changes.expire:
            self.due.setdefault(arrival_ms, []).extend(key for key in changes.expire if key in fresh)

    @contextmanager
    def part(self) -> Iterator[Layer]:
        """A part of this unit: it lands in it when its block ends, and leaves nothing where that raises."""
        part = Layer(self, cache=self.cache)
        yield part
        self.absorb(part)

    def absorb(self, above: Layer) -> None:
        """Take in what a layer over this one holds."""
        self.records.update(above.records)
        for arrival_ms, keys in above.due.items():
            self.due.setdefault(arrival_ms, []).extend(keys)

    def _merged(self, key: Key, change: Sums, arrival_ms: int) -> bytes:
        record = self.get(key)
        total = Sums() if record is None else Sums.unpack(record)
        total.add(change)
        total.arrival_ms = max(total.arrival_ms, arrival_ms)
        return total.pack()
