"""The writing half of the store on LMDB: units of work, and what has to be done beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import lmdb

from spanledger_processor.ledger.environment import DataFile, LmdbReader, full, map_lmdb_errors, usage
from spanledger_processor.ledger.housekeeping import Housekeeping, is_full
from spanledger_processor.ledger.overlay import LandedTotals, Overlay
from spanledger_processor.ledger.retention import due_rows
from spanledger_processor.ledger.store import Reader, UnitTooLargeError
from spanledger_processor.ledger.trace_places import TracePlaces

_HELD_NS = 1_000_000_000
"""How long a buffer that holds back does so."""
_NS_A_MS = 1_000_000
_PAGE = 4096


class WriteBuffer:
    """Writes units, each at once or, where it `holds`, those of about a second in one commit.

    Every commit is synced: a buffer that holds back loses whole units if its process ends, and never leaves the file
    out of order. To let LMDB itself skip the sync would not do: pages may reach the disk in any order.
    """

    def __init__(
        self,
        environment: lmdb.Environment,
        path: Path,
        places: TracePlaces,
        housekeeping: Housekeeping,
        now_ns: Callable[[], int],
        *,
        holds: bool,
    ) -> None:
        self._env = environment
        self._path = path
        self._places = places
        self._housekeeping = housekeeping
        self._now_ns = now_ns
        self._holds = holds
        self._held: Overlay | None = None
        self._cache: dict[str, Any] = {}
        self._landed = LandedTotals()
        self._held_since_ns = 0
        self._turn = Lock()
        """Taken to change what is held back, and to read it together with what is stored."""
        self._file = DataFile(environment, path)

    @property
    def evicted(self) -> int:
        """Return the number of records that gave way to the size."""
        return self._housekeeping.evicted

    @contextmanager
    def unit(self) -> Iterator[Overlay]:
        """See `store.Store.unit`."""
        self._file.check()
        self._write_if_old()
        if is_full(usage(self._env)):
            self._make_room()
        with map_lmdb_errors(self._path), self._env.begin() as txn:
            view = LmdbReader(txn, self._path, self._places)
            if self._held is not None:
                self._held.below = view
            unit = Overlay(self._held or view, self._cache, self._landed)
            yield unit
        self._keep(unit)

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """See `store.Store.snapshot`: what is stored, and what is held back over it."""
        self._file.check()
        with ExitStack() as ending, map_lmdb_errors(self._path):
            with self._turn:
                view = LmdbReader(ending.enter_context(self._env.begin()), self._path, self._places)
                reader = view if self._held is None else self._held.copy(view)
            yield reader

    def maintain(self) -> bool:
        """See `store.Store.maintain`."""
        self._file.check()
        self.flush()  # totals that are held back must not be removed below it
        with map_lmdb_errors(self._path):
            return self._housekeeping.when_idle(self._env, self._now_ns() // _NS_A_MS, usage(self._env))

    def _make_room(self) -> None:
        self.flush()
        with map_lmdb_errors(self._path):
            if not self._housekeeping.make_room(self._env, self._now_ns() // _NS_A_MS, lambda: usage(self._env)):
                raise full(self._path)

    def flush(self) -> None:
        """Write what is held back."""
        with self._turn:
            if self._held is not None:
                self._write(self._held)
                self._held = None

    def _write_if_old(self) -> None:
        if self._held is not None and time.monotonic_ns() - self._held_since_ns >= _HELD_NS:
            self.flush()

    def _keep(self, unit: Overlay) -> None:
        if not self._holds:
            self._write(unit)
            return
        if unit.size + (self._held.size if self._held is not None else 0) > self._most_held():
            self.flush()  # one by one units may fit where all of a second do not
        if unit.size > self._most_held():
            self._write(unit)
            return
        with self._turn:
            if self._held is None:
                self._held, self._held_since_ns = unit, time.monotonic_ns()
            else:
                self._held.absorb(unit)

    def _most_held(self) -> int:
        """Return how many records are held back at most: for each LMDB may write two pages, in a quarter of the map."""
        return usage(self._env).map_bytes // (4 * 2 * _PAGE)

    def _write(self, overlay: Overlay) -> None:
        self._file.check()
        with map_lmdb_errors(self._path):
            try:
                self._commit(overlay, retain=True)
            except lmdb.MapFullError:
                self._commit_alone(overlay)
        self._file.lengthen()

    def _commit_alone(self, overlay: Overlay) -> None:
        try:
            self._commit(overlay, retain=False)
        except lmdb.MapFullError:
            raise UnitTooLargeError(str(full(self._path))) from None

    def _commit(self, overlay: Overlay, *, retain: bool) -> None:
        with self._places.writing() as txn:
            landing = overlay.landing(LmdbReader(txn, self._path, self._places), last=True)
            for gone in landing.gone:
                txn.delete(gone)
            rows = [*self._places.place(txn, landing.rows), *due_rows(overlay.due, txn.id())]
            rows.sort()
            with txn.cursor() as cursor:
                cursor.putmulti(rows)
            if retain:
                brought = sum(map(len, overlay.due.values()))
                self._housekeeping.in_commit(txn, self._now_ns() // _NS_A_MS, usage(self._env), brought)
