"""Which layout of keys and records a ledger has, and how one of an earlier layout becomes one of this."""

from __future__ import annotations

import logging
from pathlib import Path

import lmdb

from spanledger_processor.ledger.orders import COMPLETE, ORDERED, is_ordered, ranks_of, rows_at
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import StateError, Table, key, tenant_hash
from spanledger_processor.ledger.sums import Sums

log = logging.getLogger(__name__)

VERSION = 3
"""A change that older code would misread takes the next number, and brings a migration from the one before."""

_WITHOUT_ORDERS = 2
"""Read as it is; opened for writing it becomes one of this version."""
_MIGRATED_AT_ONCE = 4096
"""Totals in a commit."""

KEY = key(Table.META, tenant_hash(""), b"schema")


def check(env: lmdb.Environment, path: Path) -> None:
    """See that the ledger in `path` is one that this version reads; mark one that is empty.

    Raises:
        StateError: it is of another schema, or no ledger.
    """
    with env.begin() as txn:
        record = txn.get(KEY)
    if record is not None:
        _compare(unpack(record)[0], path)
    elif env.stat()["entries"]:
        raise StateError(f"{path}: an LMDB environment, but no ledger of Spanledger; set another state.path")
    elif not env.flags()["readonly"]:
        with env.begin(write=True) as txn:
            txn.put(KEY, pack([VERSION]))
            txn.put(COMPLETE, b"")
    if record is not None and unpack(record)[0] == _WITHOUT_ORDERS and not env.flags()["readonly"]:
        _migrate(env, path)


def _compare(found: int, path: Path) -> None:
    if found < _WITHOUT_ORDERS:
        raise StateError(
            f"{path}: schema {found}, from before Spanledger 0.1, and this version knows schema {VERSION}; export it "
            "with the version that wrote it (spanledger sessions --json, runs --json, summary --json), then remove it"
        )
    if found not in (_WITHOUT_ORDERS, VERSION):
        raise StateError(
            f"{path}: schema {found}, and this version of Spanledger knows schema {VERSION} only; "
            "run the version that wrote it, or set another state.path"
        )


def _migrate(env: lmdb.Environment, path: Path) -> None:
    """Put the sessions and runs of a ledger of schema 2 in order; cut short, it begins anew at the next opening."""
    log.info("%s: the sessions and runs of schema 2 are put in order, once", path)
    _drop_orders(env)
    try:
        for table in ORDERED:
            _put_in_order(env, table)
    except lmdb.MapFullError:
        log.warning("%s: no room for the orders of sessions and runs: lists are slow (state.max_size_mib)", path)
        _drop_orders(env)
        complete = False
    else:
        complete = True
    with env.begin(write=True) as txn:
        txn.put(KEY, pack([VERSION]))
        if complete:
            txn.put(COMPLETE, b"")


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
            for where, record in rows:
                if is_ordered(where):
                    for row in rows_at(where, ranks_of(Sums.unpack(record))):
                        txn.put(row, b"")


def _drop_orders(env: lmdb.Environment) -> None:
    prefix, gone = bytes((Table.ORDER,)), True
    while gone:
        gone = False
        with env.begin(write=True) as txn, txn.cursor() as cursor:
            for _ in range(_MIGRATED_AT_ONCE):
                if not cursor.set_range(prefix) or cursor.key()[:1] != prefix:
                    break
                gone = cursor.delete()
