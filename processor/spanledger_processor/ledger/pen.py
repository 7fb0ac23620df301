"""The writing half of the store on LMDB: units of work, and what has to be done beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import lmdb

from spanledger_processor.ledger.environment import DataFile, full, told, usage
from spanledger_processor.ledger.housekeeping import Housekeeping, is_full
from spanledger_processor.ledger.layer import Layer
from spanledger_processor.ledger.retention import due_rows
from spanledger_processor.ledger.store import Reader
from spanledger_processor.ledger.view import View

_HELD_NS = 1_000_000_000
"""How long a pen that holds back does so."""
_NS_A_MS = 1_000_000


class Pen:
    """Writes units, each at once or, where it `holds`, those of about a second in one commit.

    Every commit is synced: a pen that holds back loses whole units if its process ends, and never leaves the file out
    of order. To let LMDB itself skip the sync would not do: pages may reach the disk in any order.
    """

    def __init__(
        self,
        environment: lmdb.Environment,
        path: Path,
        housekeeping: Housekeeping,
        now_ns: Callable[[], int],
        *,
        holds: bool,
    ) -> None:
        self._env = environment
        self._path = path
        self._housekeeping = housekeeping
        self._now_ns = now_ns
        self._holds = holds
        self._held: Layer | None = None
        self._cache: dict[str, Any] = {}
        self._held_since_ns = 0
        self._turn = Lock()
        """Taken to change what is held back, and to read it together with what is stored."""
        self._file = DataFile(environment, path)

    @property
    def evicted(self) -> int:
        """Records that gave way to the size."""
        return self._housekeeping.evicted

    @contextmanager
    def unit(self) -> Iterator[Layer]:
        """See `store.Store.unit`."""
        self._file.check()
        self._write_if_old()
        if is_full(usage(self._env)):
            self._make_room()
        with told(self._path), self._env.begin() as txn:
            view = View(txn, self._path)
            if self._held is not None:
                self._held.below = view
            unit = Layer(self._held or view, self._cache)
            yield unit
        self._keep(unit)

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """See `store.Store.snapshot`: what is stored, and what is held back over it."""
        self._file.check()
        with ExitStack() as ending, told(self._path):
            with self._turn:
                view = View(ending.enter_context(self._env.begin()), self._path)
                reader = view if self._held is None else self._held.copy(view)
            yield reader

    def tend(self) -> bool:
        """See `store.Store.tend`."""
        self._file.check()
        self.put_down()  # totals that are held back must not be removed below it
        with told(self._path):
            return self._housekeeping.beside(self._env, self._now_ns() // _NS_A_MS, usage(self._env))

    def _make_room(self) -> None:
        self.put_down()
        with told(self._path):
            if not self._housekeeping.make_room(self._env, self._now_ns() // _NS_A_MS, lambda: usage(self._env)):
                raise full(self._path)

    def put_down(self) -> None:
        """Write what is held back."""
        with self._turn:
            if self._held is not None:
                self._write(self._held)
                self._held = None

    def _write_if_old(self) -> None:
        if self._held is not None and time.monotonic_ns() - self._held_since_ns >= _HELD_NS:
            self.put_down()

    def _keep(self, unit: Layer) -> None:
        if not self._holds:
            self._write(unit)
            return
        with self._turn:
            if self._held is None:
                self._held, self._held_since_ns = unit, time.monotonic_ns()
            else:
                self._held.absorb(unit)

    def _write(self, layer: Layer) -> None:
        self._file.check()
        with told(self._path):
            try:
                self._commit(layer, retain=True)
            except lmdb.MapFullError:
                self._commit(layer, retain=False)
        self._file.lengthen()

    def _commit(self, layer: Layer, *, retain: bool) -> None:
        with self._env.begin(write=True) as txn:
            rows = [*layer.landing(View(txn, self._path)), *due_rows(layer.due, txn.id())]
            rows.sort()
            with txn.cursor() as cursor:
                cursor.putmulti(rows)
            if retain:
                brought = sum(map(len, layer.due.values()))
                self._housekeeping.in_commit(txn, self._now_ns() // _NS_A_MS, usage(self._env), brought)
