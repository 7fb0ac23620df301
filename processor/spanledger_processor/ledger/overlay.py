"""Changes that lie over a view and have not landed in it yet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any

from spanledger_processor.ledger.crossings import crossing_moved
from spanledger_processor.ledger.day_values import OUTDATED, outdated
from spanledger_processor.ledger.orders import is_ordered, moved, ranks_of
from spanledger_processor.ledger.store import PREFIX, Changes, Key, Reader, Table
from spanledger_processor.ledger.sums import Sums

_LANDED_BYTES = 2**20
"""Of records, which take several times as much where they are unpacked."""


class LandedTotals:
    """The totals that landed last, unpacked: most requests add to those that the ones before them added to.

    Each counts only as long as the record that it was packed to stands in the store, so nothing has to be taken out
    when a record is written, renamed or removed by another way, or when a commit fails.
    """

    def __init__(self) -> None:
        self._totals: OrderedDict[Key, Sums] = OrderedDict()
        self._bytes = 0

    def get(self, key: Key, record: bytes) -> Sums | None:
        """Return the total of `key`, if it is that of `record`; it is not to be changed before it is taken."""
        total = self._totals.get(key)
        return total if total is not None and total.record == record else None

    def read(self, key: Key, store: Reader) -> Sums:
        """Return the total of `key`, as `Reader.sums` does."""
        record = store.get(key)
        return Sums() if record is None else self.get(key, record) or Sums.unpack(record)

    def keep(self, key: Key, total: Sums) -> None:
        """Keep a total that lands as its `record`."""
        if (before := self._totals.pop(key, None)) is not None:
            self._bytes -= len(before.record)
        self._totals[key] = total
        self._bytes += len(total.record)
        while self._bytes > _LANDED_BYTES:
            _, oldest = self._totals.popitem(last=False)
            self._bytes -= len(oldest.record)

    def take(self, key: Key, record: bytes) -> Sums | None:
        """Return what `get` does, and forget it, because whoever has it is about to change it."""
        total = self._totals.pop(key, None)
        if total is None:
            return None
        self._bytes -= len(total.record)
        return total if total.record == record else None


@dataclass(slots=True)
class Landing:
    """What a unit of work writes and removes."""

    rows: list[tuple[Key, bytes]]
    gone: list[Key] = field(default_factory=list)


class Overlay:
    """A unit of work over `below`: reads see its own changes first. Whoever made it brings what it holds down.

    `records` are whole records to be written, `added` what is to be added to totals, and `due` the keys of those that
    retention may take, by arrival in ms. Totals are only put together when they land (`landing`), so that whatever was
    added below in the meantime stays.
    """

    def __init__(self, below: Reader, cache: dict[str, Any] | None = None, landed: LandedTotals | None = None) -> None:
        self.cache: dict[str, Any] = {} if cache is None else cache
        self._landed = landed
        self.records: dict[Key, bytes] = {}
        self.added: dict[Key, Sums] = {}
        self.due: dict[int, list[Key]] = {}
        self.below = below
        self._known: dict[Key, Sums] = {}
        self._beside: dict[bytes, set[Key]] = {}
        """Keys that were changed, by what those of one first id have in front: a scan looks at no others."""
        self._gone: set[Key] = set()
        """Rows of orders below that stand elsewhere with these changes; only a copy, which is read, knows them."""

    @property
    def size(self) -> int:
        """Return how many records it changes."""
        return len(self.records) + len(self.added)

    def get(self, key: Key) -> bytes | None:
        """Return the record of `key`, None if there is none."""
        record = self.records.get(key)
        if record is None:
            record = self.below.get(key)
        return record if key not in self.added else self._total(key, record).pack()

    def sums(self, key: Key) -> Sums:
        """See `store.Reader.sums`."""
        record = self.records.get(key)
        total = self._base(key) if record is None else Sums.unpack(record)
        if (added := self.added.get(key)) is None:
            return total
        total = total.copy()
        total.add(added)
        return total

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
        changed = self._beside.get(prefix, ()) if len(prefix) == PREFIX else {*self.records, *self.added}
        below = self.below.scan(table, tenant, within=within, newest_first=newest_first, before=before)
        mine = [key for key in changed if key.startswith(prefix) and (before is None or key < before)]
        if not mine and not self._gone:
            return below  # nearly always
        return self._merged(sorted(mine, reverse=newest_first), below, newest_first=newest_first)

    def _merged(
        self, mine: list[Key], below: Iterator[tuple[Key, bytes]], *, newest_first: bool
    ) -> Iterator[tuple[Key, bytes]]:
        rows = merge(((key, None) for key in mine), below, key=itemgetter(0), reverse=newest_first)
        for key, same in groupby(rows, key=itemgetter(0)):
            _, record = next(same)
            record = self.get(key) if record is None else record
            if record is not None and key not in self._gone:
                yield key, record

    def apply(self, changes: Changes, now_ns: int) -> None:
        """Take `changes` in, all or, where a stored total cannot be read, none of them; they are nobody else's then."""
        arrival_ms = now_ns // 1_000_000
        for key in changes.add:
            self._check(key)
        for key, sums in changes.add.items():
            sums.arrival_ms = max(sums.arrival_ms, arrival_ms)
            self._add(key, sums)
        fresh = {key: record for key, record in changes.create.items() if self.get(key) is None}
        fresh.update(changes.replace)
        for key in changes.replace:
            self.added.pop(key, None)
        self._put(fresh | {key: OUTDATED for key in outdated(changes.add) if self.get(key)})
        if changes.expire:
            self.due.setdefault(arrival_ms, []).extend(key for key in changes.expire if key in fresh)

    @contextmanager
    def part(self) -> Iterator[Overlay]:
        """Provide a part of this unit: it lands in it when its block ends, and leaves nothing where that raises."""
        part = Overlay(self, self.cache)
        yield part
        self.absorb(part)

    def absorb(self, above: Overlay) -> None:
        """Take in what a overlay over this one holds."""
        for key in above.records:
            self.added.pop(key, None)
        self._put(above.records)
        for key, sums in above.added.items():
            self._add(key, sums)
        for arrival_ms, keys in above.due.items():
            self.due.setdefault(arrival_ms, []).extend(keys)

    def landing(self, below: Reader, *, last: bool = False) -> Landing:
        """Return what is to be written and removed, with totals as they are over `below` now.

        With `last`, nobody reads this overlay meanwhile or afterwards; it may land again.
        """
        landing = Landing([item for item in self.records.items() if item[0] not in self.added])
        for key, record in self.records.items():
            if key[0] == Table.BUDGET:
                gone, come = crossing_moved(below.get(key), record)
                landing.gone += gone
                landing.rows += ((row, b"") for row in come)
        kept = self._landed if last else None
        for key, added in self.added.items():
            stored = self.records.get(key) or below.get(key)
            total = self._read(key, stored, last=last)
            ordered = is_ordered(key)
            before = ranks_of(total) if ordered and stored is not None else None
            total.add(added)
            total.record = total.pack()
            landing.rows.append((key, total.record))
            if kept is not None:
                kept.keep(key, total)
            if ordered:
                gone, come = moved(key, before, ranks_of(total))
                landing.gone += gone
                landing.rows += ((row, b"") for row in come)
        return landing

    def copy(self, below: Reader) -> Overlay:
        """Return the same changes over another view; what is applied to this one afterwards does not reach it."""
        copy = Overlay(below)
        copy._put(self.records)
        for key, sums in self.added.items():
            copy._add(key, sums.copy())
        landing = self.landing(below)
        copy._gone.update(landing.gone)
        copy._put({row: b"" for row, _ in landing.rows if row[0] == Table.ORDER})
        return copy

    def _base(self, key: Key) -> Sums:
        """Return the total below; the lowest overlay unpacks it once."""
        if isinstance(self.below, Overlay):
            return self.below.sums(key)
        self._check(key)
        return self._known[key]

    def _read(self, key: Key, record: bytes | None, *, last: bool) -> Sums:
        """Return the total of a record that is landed on; one read before is taken over where this is the `last`."""
        if record is None:
            return Sums()
        if not last:
            return Sums.unpack(record)
        landed = None if self._landed is None else self._landed.take(key, record)
        known = self._known.pop(key, None) or landed
        return known if known is not None and known.record == record else Sums.unpack(record)

    def _check(self, key: Key) -> None:
        """See that a total can be read."""
        overlay = self
        while (record := overlay.records.get(key)) is None and isinstance(overlay.below, Overlay):
            overlay = overlay.below
        if record is not None:
            Sums.unpack(record)
        elif key not in overlay._known:
            landed, below = overlay._landed, overlay.below
            overlay._known[key] = below.sums(key) if landed is None else landed.read(key, below)

    def _add(self, key: Key, sums: Sums) -> None:
        """Add `sums`, which are this overlay's from now on."""
        added = self.added.get(key)
        if added is not None:
            added.add(sums)
            return
        self.added[key] = sums
        self._beside.setdefault(key[:PREFIX], set()).add(key)

    def _put(self, records: Mapping[Key, bytes]) -> None:
        self.records.update(records)
        for key in records:
            self._beside.setdefault(key[:PREFIX], set()).add(key)

    def _total(self, key: Key, record: bytes | None) -> Sums:
        total = Sums() if record is None else Sums.unpack(record)
        total.add(self.added[key])
        return total
