"""Removal of expired records, in small slices.

Short-lived records (traces, tool counts) stand in rows of `Table.DUE`, by arrival, as index rows do themselves. Totals
of sessions, runs and tasks are found by going round their tables. A record carries its latest arrival as its second
element: a row from before that arrival does not take it.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TypeAlias

import lmdb

from spanledger_processor.ledger.crossings import Crossing
from spanledger_processor.ledger.day_values import OUTDATED, is_over, outdated, packed
from spanledger_processor.ledger.dimensions import VALUES_KEPT
from spanledger_processor.ledger.facts import OTHER_MODELS
from spanledger_processor.ledger.keys import (
    TENANT_HASH,
    day_key,
    day_values_key,
    dimension_key,
    gone_key,
    index_key,
    run_key,
    session_key,
    unattributed_key,
)
from spanledger_processor.ledger.orders import ranks_of, rows_at
from spanledger_processor.ledger.packing import second
from spanledger_processor.ledger.rolling import Reached
from spanledger_processor.ledger.rows import project as project_of
from spanledger_processor.ledger.store import PREFIX, Key, Table
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.ledger.trace_places import TracePlaces
from spanledger_processor.units import MS_PER_DAY

_KEY_LENGTH = 25
_TENANT_END = 9
_KEYS_A_ROW = 64
"""So that a row stays within a page."""
KeyAndRecord: TypeAlias = tuple[bytes, bytes]

_HEAD = bytes(2)
"""The segment number of a trace's head."""
_DUE, _DAY = bytes((Table.DUE,)), bytes((Table.DAY,))
_DIMENSION = bytes((Table.DIMENSION,))
_AGEING = (Table.SESSION, Table.RUN, Table.TASK)
_DAYS_VISITED = 256
_PACKING_ROUND_MS = 60_000
_SAMPLE, _TENANTS_SAMPLED = 256, 64
_TENANTS_COMPARED, _COUNTED = 256, 256
_CROWDING = 1.1
"""Times an even share from which a tenant crowds out the others; less is within what `_count` may be wrong by."""

_TOTALS = (
    Table.SESSION,
    Table.RUN,
    Table.TASK,
    Table.LINK,
    Table.DIMENSION,
    Table.PART,
    Table.BUDGET,
    Table.LARGE_RUN,
    Table.REACHED,
)
_PROJECTS_A_DAY = 64
"""The most projects of removed sessions that have sums of their own, for each day."""
_NAMELESS = (Table.SESSION, Table.RUN)
"""What is taken from these is added to what belongs to no session (run), so that the sums of the ledger stay true."""


def due_rows(due: dict[int, list[Key]], unique: int) -> Iterator[KeyAndRecord]:
    """Return the rows of the DUE table; `unique` differs between commits of the same arrival."""
    number = 0
    for arrival_ms, keys in sorted(due.items()):
        for start in range(0, len(keys), _KEYS_A_ROW):
            row = b"".join((_DUE, arrival_ms.to_bytes(8, "big"), unique.to_bytes(8, "big"), number.to_bytes(4, "big")))
            yield row, b"".join(keys[start : start + _KEYS_A_ROW])
            number += 1


def forget_due(txn: lmdb.Transaction[bytes], places: TracePlaces, before_ms: int, limit: int) -> int:
    """Remove what is due from before `before_ms`, the oldest first, until `limit` keys or more have been looked at.

    Returns how many were.
    """
    looked = _forget_index(txn, before_ms, limit)
    for row, keys in _rows_before(txn, before_ms, limit):
        arrival_ms = int.from_bytes(row[1:9], "big")
        for start in range(0, len(keys), _KEY_LENGTH):
            _forget(txn, places, keys[start : start + _KEY_LENGTH], arrival_ms)
            looked += 1
        txn.delete(row)
    return looked


def is_due(txn: lmdb.Transaction[bytes], before_ms: int) -> bool:
    """Return whether `forget_due` would find anything."""
    return bool(_rows_before(txn, before_ms, 1)) or bool(_index_before(txn, before_ms, 1))


def _forget_index(txn: lmdb.Transaction[bytes], before_ms: int, limit: int) -> int:
    rows = _index_before(txn, before_ms, limit)
    for key in rows:
        txn.delete(key)
    return len(rows)


def _index_before(txn: lmdb.Transaction[bytes], before_ms: int, limit: int) -> list[Key]:
    """Return rows of the cross-trace index that came before `before_ms`: their keys are in order of arrival."""
    end, rows = index_key(max(0, before_ms), b""), list[Key]()
    with txn.cursor() as cursor:
        more = cursor.set_range(index_key(0, b""))
        while more and len(rows) < limit and cursor.key() < end:
            rows.append(cursor.key())
            more = cursor.next()
    return rows


def _rows_before(txn: lmdb.Transaction[bytes], before_ms: int, limit: int) -> list[KeyAndRecord]:
    end = _DUE + max(0, before_ms).to_bytes(8, "big")
    rows: list[KeyAndRecord] = []
    with txn.cursor() as cursor:
        more = cursor.set_range(_DUE)
        while more and limit > 0 and cursor.key() < end:
            rows.append(cursor.item())
            limit -= len(cursor.value()) // _KEY_LENGTH
            more = cursor.next()
    return rows


def _forget(txn: lmdb.Transaction[bytes], places: TracePlaces, key: Key, arrival_ms: int) -> None:
    stored = places.stored_key(txn, key)
    record = txn.get(stored)
    if record is None or _arrival_ms(record) > arrival_ms:
        return
    txn.delete(stored)
    if key[0] == Table.TRACE:
        if key.endswith(_HEAD):
            _forget_segments(txn, stored[: -len(_HEAD)])
        places.forget(txn, stored)


def _forget_segments(txn: lmdb.Transaction[bytes], prefix: bytes) -> None:
    with txn.cursor() as cursor:
        while cursor.set_range(prefix) and cursor.key().startswith(prefix):
            cursor.delete()


def _arrival_ms(record: bytes, _table: int = 0) -> int:
    """Return the time of the last write of a record, or of what of budgets is kept until another one; 0 for one without
    it, which was written once only.
    """
    result = second(record)
    return result if isinstance(result, int) else 0


def _last_use_ms(record: bytes, table: int) -> int:
    """Return the time of the last write of a record of a table."""
    if table == Table.BUDGET:
        return Crossing.unpack(record).arrival_ms
    return Reached.unpack(record).arrival_ms if table == Table.REACHED else _arrival_ms(record)


class Sweep:
    """Goes round the totals, of all or of one `tenant` (its hash), and removes those that were idle for long.

    With `for_room` also what of budgets is kept for longer than that.
    """

    def __init__(self, tenant: bytes = b"", *, for_room: bool = False) -> None:
        self._tenant = tenant
        self._time_of = _last_use_ms if for_room else _arrival_ms
        self._next = bytes((_TOTALS[0],)) + tenant
        self.removed = 0
        """Records, in all rounds."""

    def go(self, txn: lmdb.Transaction[bytes], before_ms: int, limit: int) -> bool:
        """Look at `limit` records more; true when the round is complete."""
        with txn.cursor() as cursor:
            idle, end = self._look(cursor, before_ms, limit)
        for key, record in idle:
            self.removed += _retire(txn, key, record)
        if end is not None:
            self._next = end
            return False
        table = _TOTALS.index(Table(self._next[0])) + 1
        self._next = bytes((_TOTALS[table % len(_TOTALS)],)) + self._tenant
        return table == len(_TOTALS)

    def _look(self, cursor: lmdb.Cursor[bytes], before_ms: int, limit: int) -> tuple[list[KeyAndRecord], bytes | None]:
        """Return the idle ones among the next records of this table, and where to go on; None at the table's end."""
        idle: list[KeyAndRecord] = []
        prefix = self._next[:1] + self._tenant
        more = cursor.set_range(self._next)
        while more and cursor.key().startswith(prefix):
            if limit == 0:
                return idle, cursor.key()
            limit -= 1
            if 0 < self._time_of(cursor.value(), self._next[0]) < before_ms:
                idle.append(cursor.item())
            more = cursor.next()
        return idle, None


def _retire(txn: lmdb.Transaction[bytes], key: Key, record: bytes) -> bool:
    """Remove a total; what a session or a run spent belongs to none from then on, what a value did to the others."""
    table, tenant = Table(key[0]), key[TENANT_HASH]
    if table == Table.DIMENSION:
        return _join_others(txn, [(key, Sums.unpack(record))]) > 0
    if table == Table.BUDGET:
        crossing = Crossing.unpack(record)
        if not crossing.since and _has_session_or_run(txn, crossing):
            return False  # as long as more may be spent there, it would be reported again
        for row in crossing.orders:
            txn.delete(row)
    nameless = unattributed_key(tenant, table)
    if key == nameless:
        return False
    if table in _NAMELESS:
        gone = Sums.unpack(record)
        for row in rows_at(key, ranks_of(gone)):
            txn.delete(row)
        arrival_ms, gone.arrival_ms, gone.summarized_ns = gone.arrival_ms, 0, 0
        project = project_of(gone)
        gone.labels, gone.named, gone.parents = {}, {}, {}
        _add(txn, nameless, {"id": ""}, gone)
        if table == Table.SESSION:
            gone.sessions, gone.elsewhere = int(not gone.is_empty), None
            _add(txn, *_gone(txn, tenant, arrival_ms // MS_PER_DAY, project), gone)
    txn.delete(key)
    return True


def _has_session_or_run(txn: lmdb.Transaction[bytes], crossing: Crossing) -> bool:
    tenant, name = crossing.tenant, crossing.value
    return any(txn.get(key) is not None for key in (session_key(tenant, name), run_key(tenant, name)))


def _gone(txn: lmdb.Transaction[bytes], tenant: bytes, day: int, project: str) -> tuple[Key, dict[str, str]]:
    """Return where the sums of sessions that are gone stand, and their labels: by day, and by a bounded number of
    projects, which come from the network; the others are with those of none.
    """
    of_day, labels = gone_key(tenant, day, ""), {"day": str(day)}
    if not project:
        return of_day, labels
    key = gone_key(tenant, day, project)
    if txn.get(key) is None:
        with txn.cursor() as cursor:
            there = cursor.set_range(key[:PREFIX])
            for _ in range(_PROJECTS_A_DAY):
                if not there or not cursor.key().startswith(key[:PREFIX]):
                    break
                there = cursor.next()
            else:
                return of_day, labels
    return key, {**labels, "project": project}


def _join_others(txn: lmdb.Transaction[bytes], values: list[tuple[Key, Sums]]) -> int:
    """Merge values of dimensions into the sum of all others of their day."""
    joined: dict[tuple[bytes, str, str], Sums] = {}
    gone = 0
    for key, sums in values:
        tenant, name, day = key[TENANT_HASH], sums.labels.get("dimension", ""), sums.labels.get("day", "0")
        if key == dimension_key(tenant, name, int(day), None):
            continue
        sums.labels = {}
        joined.setdefault((tenant, name, day), Sums()).add(sums)
        txn.delete(key)
        for together in outdated([key]):
            txn.delete(together)
        gone += 1
    for (tenant, name, day), sums in joined.items():
        _add(txn, dimension_key(tenant, name, int(day), None), {"dimension": name, "day": day}, sums)
    return gone


class Narrowing:
    """Goes round the dimensions and the models of days, and keeps of each day the dearest ones apart."""

    def __init__(self) -> None:
        self._next = {_DIMENSION: _DIMENSION, _DAY: _DAY}

    def go(self, txn: lmdb.Transaction[bytes], limit: int) -> list[KeyAndRecord]:
        """Look at `limit` keys more of both; return the values or models of the first day that has too many, a part of
        them at most.

        Keys are hashes of the values, so that a part is a sample: the half that stays has the dearest of all.
        """
        return self._too_many(txn, _DIMENSION, limit) or self._too_many(txn, _DAY, limit)

    def _too_many(self, txn: lmdb.Transaction[bytes], table: bytes, limit: int) -> list[KeyAndRecord]:
        with txn.cursor() as cursor:
            more = cursor.set_range(self._next[table])
            while more and limit > 0 and cursor.key()[:1] == table:
                prefix, rows = cursor.key()[:PREFIX], list[KeyAndRecord]()
                while more and cursor.key()[:PREFIX] == prefix and len(rows) <= 2 * VALUES_KEPT:
                    rows.append(cursor.item())
                    more = cursor.next()
                limit -= len(rows)
                if len(rows) > 2 * VALUES_KEPT:
                    self._next[table] = prefix
                    return rows
            self._next[table] = cursor.key() if more and cursor.key()[:1] == table else table
        return []


def narrow(txn: lmdb.Transaction[bytes], rows: list[KeyAndRecord]) -> int:
    """Let those of a day's values, or models, that spent the least join the others, and return how many they were."""
    values = [(key, Sums.unpack(record)) for key, record in rows]
    values.sort(key=lambda item: (item[1].cost, item[1].calls, item[1].tool_calls, item[0]))
    join = _join_other_models if rows[0][0].startswith(_DAY) else _join_others
    return join(txn, values[:-VALUES_KEPT])


def _join_other_models(txn: lmdb.Transaction[bytes], models: list[tuple[Key, Sums]]) -> int:
    """Merge models into the others of their provider and day, and those others into the ones of all providers.

    The others first: `models` has them as they were before a model joined them.
    """
    gone = 0
    for key, sums in sorted(models, key=lambda item: item[1].labels.get("model") != OTHER_MODELS):
        provider = sums.labels.get("provider", "") if sums.labels.get("model") != OTHER_MODELS else ""
        gone += _join_other_model(txn, key, sums, provider)
    return gone


def _join_other_model(txn: lmdb.Transaction[bytes], key: Key, sums: Sums, provider: str) -> bool:
    """Merge a model into the others of a provider on its day; return whether it is not they."""
    day = sums.labels.get("day", "0")
    others = day_key(key[TENANT_HASH], int(day), provider, OTHER_MODELS)
    if key == others:
        return False
    sums.labels, sums.models = {}, {OTHER_MODELS: sums.cost} if sums.cost else {}
    _add(txn, others, {"day": day, "provider": provider, "model": OTHER_MODELS}, sums)
    txn.delete(key)
    return True


class Packing:
    """Goes round the dimensions, and packs the values of days that are over (`day_values`)."""

    def __init__(self) -> None:
        self._next = _DIMENSION
        self._again_ms = 0

    def go(self, txn: lmdb.Transaction[bytes], now_ms: int) -> KeyAndRecord | None:
        """Return the key and the packed values of one of the next days; None where none of them can be packed, and for
        a minute after it went round: days of few values stay as they are, and were read each second.
        """
        if now_ms < self._again_ms:
            return None
        with txn.cursor() as cursor:
            for _ in range(_DAYS_VISITED):
                if not cursor.set_range(self._next) or cursor.key()[:1] != _DIMENSION:
                    self._next, self._again_ms = _DIMENSION, now_ms + _PACKING_ROUND_MS
                    return None
                prefix = cursor.key()[:PREFIX]
                self._next = prefix + b"\xff" * (_KEY_LENGTH - PREFIX)
                if not txn.get(day_values_key(prefix)) and (record := _packed(cursor, prefix, now_ms)):
                    return day_values_key(prefix), record
        return None


def _packed(cursor: lmdb.Cursor[bytes], prefix: bytes, now_ms: int) -> bytes:
    """Return the values at a cursor and behind it as one record; none where they are few, or more may come."""
    records, more = list[bytes](), True
    while more and cursor.key().startswith(prefix):
        if not is_over(cursor.value(), now_ms):
            return OUTDATED
        records.append(cursor.value())
        more = cursor.next()
    return packed(records)


def _add(txn: lmdb.Transaction[bytes], key: Key, labels: dict[str, str], sums: Sums) -> None:
    stored = txn.get(key)
    total = Sums() if stored is None else Sums.unpack(stored)
    total.add(sums)
    total.labels = {**labels, **total.labels}
    txn.put(key, total.pack())


def oldest_tenth(txn: lmdb.Transaction[bytes], draw: Random, tenant: bytes = b"") -> int:
    """Return about when the last arrival was of a tenth of all sessions, runs and tasks, or of those of one tenant.

    It is estimated by a sample; 0 if there are none.
    """
    arrivals = sorted(arrival for table in _AGEING for arrival in _sample(txn, table, draw, tenant) if arrival)
    return arrivals[len(arrivals) // 10] if arrivals else 0


def crowding_tenant(txn: lmdb.Transaction[bytes]) -> bytes:
    """Return the tenant that has the most sessions and runs, where it has clearly more than an even share of them.

    Empty where none has, and where the tenants are too many to compare: names of tenants may be made up as well.
    """
    sizes: dict[bytes, int] = {}
    for table in _NAMELESS:
        for tenant in _tenants(txn, table, _TENANTS_COMPARED + 1):
            sizes[tenant] = sizes.get(tenant, 0) + _count(txn, bytes((table,)) + tenant)
    if not 1 < len(sizes) <= _TENANTS_COMPARED:
        return b""
    largest = max(sizes, key=sizes.__getitem__)
    return largest if sizes[largest] > _CROWDING * sum(sizes.values()) / len(sizes) else b""


def _tenants(txn: lmdb.Transaction[bytes], table: Table, most: int) -> list[bytes]:
    """Return the first tenants that have records in a table."""
    prefix, tenants = bytes((table,)), list[bytes]()
    with txn.cursor() as cursor:
        more = cursor.set_range(prefix)
        while more and cursor.key()[:1] == prefix and len(tenants) < most:
            tenants.append(cursor.key()[1:_TENANT_END])
            more = cursor.set_range(prefix + tenants[-1] + b"\xff" * 17)
    return tenants


def _count(txn: lmdb.Transaction[bytes], prefix: bytes) -> int:
    """Return about how many keys have a prefix. Hashes behind it are spread evenly: the first few show how densely."""
    with txn.cursor() as cursor:
        more, result, last = cursor.set_range(prefix), 0, prefix
        while more and result < _COUNTED and cursor.key().startswith(prefix):
            result, last = result + 1, cursor.key()
            more = cursor.next()
    reached = int.from_bytes(last[_TENANT_END : _TENANT_END + 8].ljust(8, b"\0"), "big") + 1
    return result if result < _COUNTED else (result << 64) // reached


def _sample(txn: lmdb.Transaction[bytes], table: Table, draw: Random, tenant: bytes) -> Iterator[int]:
    """Yield arrivals of records that lie behind random keys: the keys are hashes."""
    prefix = bytes((table,))
    tenants = [tenant] if tenant else _tenants(txn, table, _TENANTS_SAMPLED)
    with txn.cursor() as cursor:
        for number in range(_SAMPLE if tenants else 0):
            of_tenant = prefix + tenants[number % len(tenants)]
            result = cursor.set_range(of_tenant + draw.randbytes(16)) and cursor.key().startswith(of_tenant)
            if result or (cursor.set_range(of_tenant) and cursor.key().startswith(of_tenant)):
                yield _arrival_ms(cursor.value())


def fold_days(txn: lmdb.Transaction[bytes], before: int, limit: int) -> int:
    """Add up to `limit` of the totals of models of days before `before` (days since 1970) into one total a day.

    Returns how many there were.
    """
    folded: list[tuple[Key, Sums]] = []
    with txn.cursor() as cursor:
        more = cursor.set_range(_DAY)
        while more and cursor.key()[:1] == _DAY and len(folded) < limit:
            sums = Sums.unpack(cursor.value())
            is_whole = (sums.labels.get("provider", ""), sums.labels.get("model")) == ("", OTHER_MODELS)
            if not is_whole and int(sums.labels.get("day", "0")) < before:
                folded.append((cursor.key(), sums))
            more = cursor.next()
    return sum(_join_other_model(txn, key, sums, "") for key, sums in folded)
