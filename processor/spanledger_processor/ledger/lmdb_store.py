"""The store on LMDB: one environment in `<state>/ledger`, one writer, and readers that never wait.

The layout of keys and records has a version; a ledger of an earlier one is migrated when it is opened.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import lmdb

from spanledger_processor.ledger import environment, forgetting
from spanledger_processor.ledger.crossings import Crossing
from spanledger_processor.ledger.environment import FOLDER, FolderLock, LmdbReader, map_lmdb_errors
from spanledger_processor.ledger.housekeeping import Housekeeping
from spanledger_processor.ledger.keys import CROSSINGS_COMPLETE, ORDERS_COMPLETE, SCHEMA_KEY
from spanledger_processor.ledger.orders import ORDERED, is_ordered, ranks_of, rows_at
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import Reader, StateError, StoreUsage, Table, Unit
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.ledger.trace_places import TracePlaces
from spanledger_processor.ledger.write_buffer import WriteBuffer
from spanledger_processor.units import NS_PER_MS

log = logging.getLogger(__name__)

SCHEMA_VERSION = 8
"""A change that older code would misread takes the next number, and brings a migration from the one before."""

_WITHOUT_ORDERS = 2
"""Read as it is, like those without rows of usual calls (3), without an order of thresholds and warnings (4), with the
values of usual calls one by one (5), with the runs that sessions name as sets (6: `Sums.unpack`), or with traces that
have no place (7: `trace_places`); opened for writing they become ledgers of this version.
"""
_MIGRATED_AT_ONCE = 4096
"""Totals in a commit."""


def _check_schema(env: lmdb.Environment, path: Path) -> None:
    """See that the ledger in `path` is one that this version reads; mark one that is empty.

    Raises:
        StateError: it is of another schema, or no ledger.
    """
    with env.begin() as txn:
        record = txn.get(SCHEMA_KEY)
    if record is not None:
        layout = unpack(record)[0]
        _compare(layout, path)
        if layout < SCHEMA_VERSION and not env.flags()["readonly"]:
            _migrate(env, path, layout)
    elif env.stat()["entries"]:
        raise StateError(f"{path}: an LMDB environment, but no ledger of Spanledger; set another state.path")
    elif not env.flags()["readonly"]:
        with env.begin(write=True) as txn:
            txn.put(SCHEMA_KEY, pack([SCHEMA_VERSION]))
            txn.put(ORDERS_COMPLETE, b"")
            txn.put(CROSSINGS_COMPLETE, b"")


def _compare(layout: int, path: Path) -> None:
    if layout < _WITHOUT_ORDERS:
        raise StateError(
            f"{path}: schema {layout}, from before Spanledger 0.1, and this version knows schema {SCHEMA_VERSION}; "
            "export it with the version that wrote it (spanledger sessions --json, runs --json, summary --json), "
            "then remove it"
        )
    if layout > SCHEMA_VERSION:
        raise StateError(
            f"{path}: schema {layout}, and this version of Spanledger knows schema {SCHEMA_VERSION} only; "
            "run the version that wrote it, or set another state.path"
        )


def _migrate(env: lmdb.Environment, path: Path, layout: int) -> None:
    """Make a ledger one of this version; of thresholds and warnings there are few."""
    ordered = layout == _WITHOUT_ORDERS and _put_all_in_order(env, path)
    _put_in_order(env, Table.BUDGET)
    with env.begin(write=True) as txn:
        txn.put(CROSSINGS_COMPLETE, b"")
        txn.put(SCHEMA_KEY, pack([SCHEMA_VERSION]))
        if ordered:
            txn.put(ORDERS_COMPLETE, b"")


def _put_all_in_order(env: lmdb.Environment, path: Path) -> bool:
    """Put the sessions and runs of a ledger of schema 2 in order; return whether there was room.

    Cut short, it begins anew at the next opening.
    """
    log.info("%s: the sessions and runs of schema 2 are put in order, once", path)
    _drop_orders(env)
    try:
        for table in ORDERED:
            _put_in_order(env, table)
    except lmdb.MapFullError:
        log.warning("%s: no room for the orders of sessions and runs: lists are slow (state.max_size_mib)", path)
        _drop_orders(env)
        return False
    return True


def _put_in_order(env: lmdb.Environment, table: Table) -> None:
    at = bytes((table,))
    while at:
        with env.begin(write=True) as txn:
            with txn.cursor() as cursor:
                more, rows = cursor.set_range(at), list[tuple[bytes, bytes]]()
                while more and cursor.key()[0] == table and len(rows) < _MIGRATED_AT_ONCE:
                    rows.append(cursor.item())
                    more = cursor.next()
                at = cursor.key() if more and cursor.key()[0] == table else b""
            for key, record in rows:
                for row in _rows_of(key, record):
                    txn.put(row, b"")


def _rows_of(key: bytes, record: bytes) -> list[bytes]:
    if key[0] == Table.BUDGET:
        return list(Crossing.unpack(record).orders)
    return rows_at(key, ranks_of(Sums.unpack(record))) if is_ordered(key) else []


def _drop_orders(env: lmdb.Environment) -> None:
    prefix, gone = bytes((Table.ORDER,)), True
    while gone:
        gone = False
        with env.begin(write=True) as txn, txn.cursor() as cursor:
            for _ in range(_MIGRATED_AT_ONCE):
                if not cursor.set_range(prefix) or cursor.key()[:1] != prefix:
                    break
                gone = cursor.delete()


class LmdbStore:
    """Implements `store.Store`; made by `open`."""

    def __init__(
        self, env: lmdb.Environment, path: Path, places: TracePlaces, buffer: WriteBuffer | None, closing: ExitStack
    ) -> None:
        self._env = env
        self._path = path
        self._places = places
        self._buffer = buffer
        self._closing = closing

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        max_size_mib: int,
        durability: str,
        retention_ns: int,
        sessions_retention_ns: int = 0,
        read_only: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> LmdbStore:
        """Open the ledger of the state folder `path`, and make it unless `read_only`.

        A store that only reads takes no lock and works beside the writer. `durability` is `sync` or `async` (see
        `WriteBuffer`). `retention_ns` is for what is kept of single spans, `sessions_retention_ns` for the totals of
        sessions, runs and tasks (0: they stay).

        Raises:
            StateLockedError: another process writes to it.
            StateError: it cannot be opened; the message says why, and what to do.
        """
        ledger = path / FOLDER
        with ExitStack() as closing:
            if read_only:
                env = environment.open_to_read(ledger)
                closing.callback(env.close)
            else:
                environment.make_folder(path)
                closing.callback(FolderLock(path).release)
                env = environment.open_to_write(ledger, max_size_mib)
                closing.callback(env.close)
            with map_lmdb_errors(ledger):
                _check_schema(env, ledger)
                places = TracePlaces(env, writes=not read_only)
            buffer = None
            if not read_only:
                housekeeping = Housekeeping(places, retention_ns // NS_PER_MS, sessions_retention_ns // NS_PER_MS)
                buffer = WriteBuffer(env, ledger, places, housekeeping, now_ns, holds=durability == "async")
            return cls(env, ledger, places, buffer, closing.pop_all())

    def unit(self) -> AbstractContextManager[Unit]:
        """Return a unit of work; a store that only reads has none."""
        return self._writing().unit()

    def snapshot(self) -> AbstractContextManager[Reader]:
        """Return what is stored now. Keep it short: what it sees cannot be written over."""
        return _snapshot(self._env, self._path, self._places) if self._buffer is None else self._buffer.snapshot()

    def maintain(self) -> bool:
        """Do a slice of retention, and write a slice of what is held back; return whether there is more to do."""
        return self._writing().maintain()

    def names(self, tenant: bytes) -> set[str]:
        """Return every name that a tenant's ledger holds."""
        with map_lmdb_errors(self._path), self._env.begin() as txn:
            return forgetting.names_of(txn, tenant)

    def rename(
        self, tenant: bytes, renamed: forgetting.Renamed, dimensions: Callable[[str], bool] = lambda _: True
    ) -> int:
        """Give names of a tenant's ledger new ones, and return how many records changed (`forgetting`)."""
        self._writing().flush()
        with map_lmdb_errors(self._path), self._env.begin(write=True) as txn:
            return forgetting.rename(txn, tenant, renamed, dimensions=dimensions)

    def close_rewritten(self) -> None:
        """Close it, and write its file anew: what was deleted or renamed is in no unused part of a page.

        Raises:
            StateError: there is no room for a second file; the first stays as it is.
        """
        with self._closing:
            self._writing().flush()
            with map_lmdb_errors(self._path):
                environment.rewrite(self._env, self._path)

    def usage(self) -> StoreUsage:
        """Return how full the ledger is."""
        with map_lmdb_errors(self._path):
            return replace(environment.usage(self._env), evicted=0 if self._buffer is None else self._buffer.evicted)

    def close(self) -> None:
        """Write what is held back, and let others in."""
        with self._closing:
            if self._buffer is not None:
                self._buffer.flush()

    def _writing(self) -> WriteBuffer:
        if self._buffer is None:
            raise StateError(f"{self._path}: opened for reading only")
        return self._buffer


@contextmanager
def _snapshot(env: lmdb.Environment, path: Path, places: TracePlaces) -> Iterator[Reader]:
    with map_lmdb_errors(path), env.begin() as txn:
        yield LmdbReader(txn, path, places)
