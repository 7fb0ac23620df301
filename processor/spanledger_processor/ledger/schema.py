"""Which layout of keys and records a ledger has."""

from __future__ import annotations

from pathlib import Path

import lmdb

from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import StateError, Table, key, tenant_hash

VERSION = 2
"""A change that older code would misread takes the next number, and brings a migration from the one before."""

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


def _compare(found: int, path: Path) -> None:
    if found < VERSION:
        raise StateError(
            f"{path}: schema {found}, from before Spanledger 0.1, and this version knows schema {VERSION}; export it "
            "with the version that wrote it (spanledger sessions --json, runs --json, summary --json), then remove it"
        )
    if found != VERSION:
        raise StateError(
            f"{path}: schema {found}, and this version of Spanledger knows schema {VERSION} only; "
            "run the version that wrote it, or set another state.path"
        )
