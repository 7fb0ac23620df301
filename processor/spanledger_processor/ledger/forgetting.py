"""Take names out of a ledger: replace ids of sessions, runs, tasks, users and others by ids without a meaning.

What was spent stays where it was, under the new id, so every sum of the ledger is as before, and what arrives later for
a span that is known still finds its decision. Names are matched whole, as they are stored (`keys.bounded_id`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, TypeAlias

import lmdb

from spanledger_processor.ledger.budgets import LargeRun
from spanledger_processor.ledger.crossings import Crossing, crossing_moved
from spanledger_processor.ledger.day_values import outdated
from spanledger_processor.ledger.keys import (
    EVERY_TENANT,
    FIRST_ID,
    dimension_key,
    id_bytes,
    link_key,
    part_key,
    run_key,
    session_key,
    task_key,
)
from spanledger_processor.ledger.orders import ranks_of, rows_at
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.rolling import Reached
from spanledger_processor.ledger.runs import NAMES, SPAWNED
from spanledger_processor.ledger.store import Key, Table, near
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.ledger.tool_repeats import place_of
from spanledger_processor.ledger.trace_places import placed_of

Renamed: TypeAlias = Mapping[str, str]
"""From a stored name to the one that takes its place."""

_KEPT_LABELS = ("provider", "model", "day", "dimension")
"""Labels of totals that name nobody."""
_DROPPED_LABELS = ("name", "project")
_LEAST_PACKED = 16
"""Bytes of a record that is packed inside another; what is shorter is an id or a hash."""


def names_of(txn: lmdb.Transaction[bytes], tenant: bytes) -> set[str]:
    """Return every name that a tenant's ledger holds: of sessions, runs, tasks, and values of dimensions."""
    result: set[str] = set()
    for table in (Table.SESSION, Table.RUN, Table.TASK, Table.PART, Table.DIMENSION):
        for _, record in _rows(txn, table, tenant):
            sums = Sums.unpack(record)
            kept = (*_KEPT_LABELS, "kind") if table == Table.PART else _KEPT_LABELS
            result.update(text for label, text in sums.labels.items() if label not in kept)
            result.update(sums.named, sums.parents)
    return result - {""}


def rename(
    txn: lmdb.Transaction[bytes], tenant: bytes, renamed: Renamed, *, dimensions: Callable[[str], bool] = lambda _: True
) -> int:
    """Give names of a tenant's ledger new ones, and return how many records changed; `dimensions` by their names."""
    return (
        _totals(txn, tenant, renamed)
        + _links(txn, tenant, renamed)
        + _tasks(txn, tenant, renamed)
        + _tools(txn, tenant, renamed)
        + _parts(txn, tenant, renamed)
        + _budgets(txn, tenant, renamed)
        + _dimensions(txn, tenant, renamed, dimensions)
        + _traces(txn, tenant, renamed)
    )


def _totals(txn: lmdb.Transaction[bytes], tenant: bytes, renamed: Renamed) -> int:
    """Rename ids in sessions and runs, with their places in the orders, and in the whole where it has a name."""
    changed = 0
    for key, record in [*_rows(txn, Table.TOTAL, tenant)]:
        sums = Sums.unpack(record)
        labels = {label: renamed.get(text, text) for label, text in sums.labels.items()}
        if labels != sums.labels:
            sums.labels = labels
            txn.put(key, sums.pack())
            changed += 1
    for table, key_of in ((Table.SESSION, session_key), (Table.RUN, run_key)):
        for key, record in [*_rows(txn, table, tenant)]:
            sums = Sums.unpack(record)
            name = sums.labels.get("id", "")
            if name in renamed:
                sums.labels = {label: text for label, text in sums.labels.items() if label not in _DROPPED_LABELS}
            new = _replaced(sums.pack(), renamed)
            if new == record:
                continue
            txn.delete(key)
            for row in rows_at(key, ranks_of(sums)) if name else ():
                txn.delete(row)
            key = key_of(tenant, renamed.get(name, name)) if name else key
            txn.put(key, new)
            for row in rows_at(key, ranks_of(Sums.unpack(new))) if name else ():
                txn.put(row, b"")
            changed += 1
    return changed


def _parts(txn: lmdb.Transaction[bytes], tenant: bytes, renamed: Renamed) -> int:
    """Rename ids in what agents and tools did of a session."""
    changed = 0
    for key, record in [*_rows(txn, Table.PART, tenant)]:
        new = _replaced(record, renamed)
        if new == record:
            continue
        labels = Sums.unpack(new).labels
        txn.delete(key)
        ids = (labels.get(label, "") for label in ("session", "kind", "id"))
        txn.put(part_key(tenant, *ids), new)
        changed += 1
    return changed


def _budgets(txn: lmdb.Transaction[bytes], tenant: bytes, renamed: Renamed) -> int:
    """Rename ids in thresholds that were passed and in warnings: of sessions, runs and values of dimensions; in what
    was reported of rolling budgets, and in large runs.
    """
    changed = 0
    for table in (Table.LARGE_RUN, Table.REACHED, Table.BUDGET):
        for key, record in [*_rows(txn, table, EVERY_TENANT)]:
            if key[FIRST_ID] != near(tenant) or (new := _renamed(table, record, renamed)) is None:
                continue
            txn.delete(key)
            txn.put(*new)
            gone, come = crossing_moved(record, new[1]) if table == Table.BUDGET else ((), ())
            for row in gone:
                txn.delete(row)
            for row in come:
                txn.put(row, b"")
            changed += 1
    return changed


def _renamed(table: Table, record: bytes, renamed: Renamed) -> tuple[Key, bytes] | None:
    """Return a record of budgets with another name, and its key; None where it has none of those names."""
    if table == Table.LARGE_RUN:
        new = _replaced(record, renamed)
        return None if new == record else (LargeRun.unpack(new).key, new)
    one = Reached.unpack(record) if table == Table.REACHED else Crossing.unpack(record)
    if one.value not in renamed:
        return None
    one = replace(one, value=renamed[one.value])
    return one.key, one.pack()


def _links(txn: lmdb.Transaction[bytes], tenant: bytes, renamed: Renamed) -> int:
    """Rename ids in links from runs and sessions to sessions; their keys hold both ends as hashes."""
    names = names_of(txn, tenant) | renamed.keys()
    above = {near(kind + id_bytes(name)): (kind, name) for kind in (NAMES, SPAWNED) for name in names}
    changed = 0
    for key, record in [*_rows(txn, Table.LINK, tenant)]:
        version, arrival_ms, session, *rest = unpack(record)
        kind, name = above.get(key[FIRST_ID], (b"", ""))
        if not kind or (session not in renamed and name not in renamed):
            continue
        new = renamed.get(session, session)
        txn.delete(key)
        txn.put(link_key(tenant, kind, renamed.get(name, name), new), pack([version, arrival_ms, new, *rest]))
        changed += 1
    return changed


def _tasks(txn: lmdb.Transaction[bytes], tenant: bytes, renamed: Renamed) -> int:
    changed = 0
    for key, record in [*_rows(txn, Table.TASK, tenant)]:
        sums = Sums.unpack(record)
        labels = {
            label: text if label in _KEPT_LABELS else renamed.get(text, text) for label, text in sums.labels.items()
        }
        if labels == sums.labels:
            continue
        txn.delete(key)
        sums.labels = labels
        txn.put(
            task_key(tenant, *(labels.get(label, "") for label in ("session", "id", "kind", "provider", "model"))),
            sums.pack(),
        )
        changed += 1
    return changed


def _tools(txn: lmdb.Transaction[bytes], tenant: bytes, renamed: Renamed) -> int:
    """Remove the counts of sessions' tool calls, which start again: their keys do not hold the call."""
    sessions = {near(place_of(name)) for name in renamed}
    gone = [key for key, _ in _rows(txn, Table.TOOL, tenant) if key[FIRST_ID] in sessions]
    for key in gone:
        txn.delete(key)
    return len(gone)


def _dimensions(txn: lmdb.Transaction[bytes], tenant: bytes, renamed: Renamed, wanted: Callable[[str], bool]) -> int:
    changed = 0
    for key, record in [*_rows(txn, Table.DIMENSION, tenant)]:
        sums = Sums.unpack(record)
        name, value = sums.labels.get("dimension", ""), sums.labels.get("value", "")
        if value not in renamed or not wanted(name):
            continue
        sums.labels["value"] = renamed[value]
        txn.delete(key)
        txn.put(dimension_key(tenant, name, int(sums.labels.get("day", "0")), renamed[value]), sums.pack())
        for together in outdated([key]):
            txn.delete(together)
        changed += 1
    return changed


def _traces(txn: lmdb.Transaction[bytes], tenant: bytes, renamed: Renamed) -> int:
    """Return what is remembered of single spans, and the decisions that repeats are answered with."""
    changed = 0
    replaced: dict[Any, Any] = {**renamed, **{_hash(old): _hash(new) for old, new in renamed.items()}}
    for key, record in [*_rows(txn, Table.TRACE, tenant), *placed_of(txn, tenant)]:
        new = _replaced(record, replaced)
        if new != record:
            txn.put(key, new)
            changed += 1
    return changed


def _hash(name: str) -> bytes:
    """Return the hash of a user's or service's name in the evidence of a call."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _replaced(record: bytes, replaced: Mapping[Any, Any]) -> bytes:
    """Return a packed record with whole values replaced, also in records that are packed inside it."""
    try:
        values = unpack(record)
        if not isinstance(values, list) or pack(values) != record:
            return record
    except (ValueError, TypeError):
        return record
    return pack(_walked(values, replaced))


def _walked(value: Any, replaced: Mapping[Any, Any]) -> Any:
    if isinstance(value, list):
        return [_walked(inner, replaced) for inner in value]
    if isinstance(value, dict):
        return {_walked(name, replaced): _walked(inner, replaced) for name, inner in value.items()}
    if isinstance(value, str | bytes) and value in replaced:
        return replaced[value]
    return _replaced(value, replaced) if isinstance(value, bytes) and len(value) >= _LEAST_PACKED else value


def _rows(txn: lmdb.Transaction[bytes], table: Table, tenant: bytes) -> Iterator[tuple[Key, bytes]]:
    prefix = bytes((table,)) + tenant
    with txn.cursor() as cursor:
        more = cursor.set_range(prefix)
        while more and cursor.key().startswith(prefix):
            yield cursor.item()
            more = cursor.next()
