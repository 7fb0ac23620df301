"""Orders in which the ledger is read page by page: sessions and runs by last activity or cost, sessions whose summary
is due, and thresholds and warnings by time.

Rows of `Table.ORDER` have no value; their key is the tenant, the table and order, a rank, and the hash of the id. They
are written where totals land, and only when a rank changes: times are ranked by about a second, costs in steps of 1.6 %
or less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from spanledger_processor.ledger.facts import believed_ns
from spanledger_processor.ledger.keys import EVERY_TENANT, ID_HASH, ORDERS_COMPLETE, TENANT_HASH, hashed_key, order_key
from spanledger_processor.ledger.store import Key, Reader, Table
from spanledger_processor.ledger.sums import Sums

ORDERED = (Table.SESSION, Table.RUN)

_TIME_BITS = 30
"""The lowest bits of a time in ns, which make no difference to its rank."""
_UNSUMMARIZED_BITS = 39
"""Likewise for `UNSUMMARIZED`, about nine minutes: its rows are seldom written."""
_MANTISSA_BITS = 6
_NAMELESS = blake2b(b"", digest_size=16).digest()
"""The hash of the empty id (unattributed), which has no row in the orders."""

Position: TypeAlias = tuple[int, bytes]
"""A rank, and the hash of an id."""


class Order(IntEnum):
    """The rank of totals; by cost for sessions only. The numbers are stored, and never change."""

    LAST = 1
    COST = 2
    GROUPED = 3
    """By last activity, as LAST, but only sessions that name a run or the session that spawned them."""
    UNSUMMARIZED = 4
    """Sessions of all tenants whose summary is due: those that were closed first, then by last activity."""
    THRESHOLDS = 5
    """Thresholds of budgets that were passed, by time in ms."""
    WARNINGS = 6
    """Warnings, likewise."""
    UNSENT = 7
    """Both, of all tenants, whose notification is due."""


_WITHIN: Mapping[tuple[int, Order], bytes] = {
    (table, order): bytes((table, order)) for table in ORDERED for order in Order
}
"""What the keys of an order of a table have in front, behind the tenant."""


class Ranks(NamedTuple):
    """The values that rank a total: `cost` is for sessions only, `unsummarized` None where no summary is due."""

    last: int
    cost: int
    is_grouped: bool
    unsummarized: int | None


def time_rank(at_ns: int) -> int:
    """Return the rank of a time."""
    return max(0, at_ns) >> _TIME_BITS


def time_at(rank: int) -> int:
    """Return the earliest time of a rank."""
    return rank << _TIME_BITS


def cost_rank(cost: int) -> int:
    """Return the rank of an amount; all that is not positive has rank 0."""
    bits = cost.bit_length()
    if cost <= 0:
        return 0
    shift = bits - 1 - _MANTISSA_BITS
    mantissa = cost >> shift if shift >= 0 else cost << -shift
    return (bits << _MANTISSA_BITS) | (mantissa & ((1 << _MANTISSA_BITS) - 1))


def ranks_of(sums: Sums) -> Ranks:
    """Return the values that rank a total in the orders."""
    is_grouped = bool(sums.named or sums.parents)
    due = _unsummarized_rank(sums) if sums.summarized_ns else None
    return Ranks(time_rank(sums.last_ns), cost_rank(sums.cost), is_grouped, due)


def _unsummarized_rank(sums: Sums) -> int | None:
    if sums.last_ns <= sums.summarized_ns:
        return None
    return 0 if sums.closed else unsummarized_until(believed_ns(sums))


def unsummarized_until(at_ns: int) -> int:
    """Return the rank in `UNSUMMARIZED` of a last activity."""
    return 1 + (max(0, at_ns) >> _UNSUMMARIZED_BITS)


def unsummarized(reader: Reader, until: int) -> Iterator[tuple[bytes, Key]]:
    """Yield tenants and keys of sessions whose summary is due, up to a rank."""
    within = bytes((Table.SESSION, Order.UNSUMMARIZED))
    prefix = 1 + len(EVERY_TENANT) + len(within)
    for row, _ in reader.scan(Table.ORDER, EVERY_TENANT, within=within):
        if int.from_bytes(row[prefix : prefix + 8], "big") > until:
            return
        tenant, id_hash = row[prefix + 8 : prefix + 16], row[prefix + 16 :]
        yield tenant, hashed_key(tenant, Table.SESSION, id_hash)


def is_ordered(key: Key) -> bool:
    """Return whether the total at `key` has rows in the orders."""
    return key[0] in ORDERED and key[ID_HASH] != _NAMELESS


def rows_at(key: Key, ranks: Ranks) -> list[Key]:
    """Return the keys of the rows of the total at `key`."""
    table, tenant, id_hash = key[0], key[TENANT_HASH], key[ID_HASH]
    rows = [order_key(tenant, _WITHIN[table, Order.LAST], ranks.last, id_hash)]
    if table == Table.SESSION:
        rows.append(order_key(tenant, _WITHIN[table, Order.COST], ranks.cost, id_hash))
    if ranks.unsummarized is not None:
        rows.append(order_key(EVERY_TENANT, _WITHIN[table, Order.UNSUMMARIZED], ranks.unsummarized, key[1:]))
    if ranks.is_grouped:
        rows.append(order_key(tenant, _WITHIN[table, Order.GROUPED], ranks.last, id_hash))
    return rows


def moved(key: Key, before: Ranks | None, after: Ranks) -> tuple[set[Key], set[Key]]:
    """Return the rows that are to go, and those that are to come, where a total changes; None: it is new."""
    if before == after:
        return set(), set()
    old, new = set() if before is None else {*rows_at(key, before)}, {*rows_at(key, after)}
    return old - new, new - old


def walk(
    reader: Reader, tenant: bytes, table: Table, order: Order, below: Position | None = None
) -> Iterator[Position]:
    """Yield positions from the highest rank down; only those below `below`, if it is given."""
    if table != Table.BUDGET and reader.get(ORDERS_COMPLETE) is None:
        result = sorted(_read_all(reader, tenant, table, order), reverse=True)
        yield from (position for position in result if below is None or position < below)
        return
    within = bytes((table, order))
    before = None if below is None else order_key(tenant, within, *below)
    prefix = 1 + len(tenant) + len(within)
    for row, _ in reader.scan(Table.ORDER, tenant, within=within, newest_first=True, before=before):
        yield int.from_bytes(row[prefix : prefix + 8], "big"), row[prefix + 8 :]


def _read_all(reader: Reader, tenant: bytes, table: Table, order: Order) -> Iterable[Position]:
    """Return the positions of a ledger that has no orders yet, because it was never written since there are any."""
    for key, record in reader.scan(table, tenant):
        if is_ordered(key):
            ranks = ranks_of(Sums.unpack(record))
            if order != Order.GROUPED or ranks.is_grouped:
                yield (ranks.cost if order == Order.COST else ranks.last), key[ID_HASH]
