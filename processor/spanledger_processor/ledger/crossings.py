"""Thresholds of budgets that were passed, and warnings: what stands in the ledger of each, and in which order.

That a threshold was passed is stored in the commit that passes it: the first record stays, and it is reported once. A
warning is stored likewise (`warning_rules`), once for a session, or for a tenant and UTC day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter

from spanledger_processor.ledger.keys import (
    CROSSINGS_COMPLETE,
    EVERY_TENANT,
    ID_HASH,
    budget_key,
    hashed_key,
    order_key,
)
from spanledger_processor.ledger.orders import Order, Position, walk
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.rows import Row, date_of, exact_usd, time_of
from spanledger_processor.ledger.store import Key, Reader, Table
from spanledger_processor.units import MS_PER_DAY, NS_PER_DAY, NS_PER_MS, Pico

FORECAST = 0
"""Stands for a threshold: at the present rate, all will be used before the period ends."""
REPORTED_FOR = 31
"""Days after the end of a period in which its thresholds are reported: a replay of older history reports none."""
_KEPT_MS = (31 + REPORTED_FOR) * MS_PER_DAY
"""From a crossing in a period, a month at most, until nothing is reported of that period any more."""
_SENT = pack(True)
"""The end of the record of a crossing whose notification was sent."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A threshold of a budget that was passed: by which value of its dimension, or session or run, and when.

    `threshold` in percent, `FORECAST` for a forecast. `sent` is true once its notification was. `warning` is empty
    for a budget, else it is a warning (`of_session`, `of_day`), which say what the other fields are then. Until all of
    the notification is sent, `recorded` is whether its log record was accepted (False: refused for good, None: neither
    yet), and `posted` whether its webhook took it. `counted_since` is the first day of what is used, where that is not
    `since` (a rolling budget's), `until` the last day of the period. `rule` is what the budget was of
    (`BudgetRule.kind`): one that was changed since passes thresholds of its own. `unpriced` counts calls without a
    price beside what is used by then; None where that is not known, of a run.
    """

    budget: str
    tenant: bytes
    value: str
    since: str
    threshold: int
    used: Pico
    amount: Pico
    at_ns: int
    sent: bool = False
    warning: str = ""
    recorded: bool | None = None
    posted: bool = False
    counted_since: str = ""
    until: str = ""
    rule: str = ""
    unpriced: int | None = None

    @property
    def key(self) -> Key:
        """Return its key, which stays the same however often the threshold is passed."""
        name = f"\0{self.warning}" if self.warning else self.budget
        rule = (self.rule, str(self.amount)) if self.rule else ()
        return budget_key(self.tenant, name, self.value, self.since, self.threshold, *rule)

    @property
    def percent(self) -> str:
        """Return the threshold as text."""
        return "forecast" if self.threshold == FORECAST else str(self.threshold)

    def pack(self) -> bytes:
        """Return the stored form; its second element is the time by which retention goes: of a day or longer period not
        before it could be reported again.
        """
        values = [self.budget, self.tenant, self.value, self.since, self.threshold, self.warning]
        if self.recorded is not None or self.posted or self.counted_since or self.until or self.rule:
            values += [self.recorded, self.posted, self.counted_since, self.until, self.rule, self.unpriced]
        kept_ms = self.arrival_ms + (_KEPT_MS if self.since else 0)
        return pack([1, kept_ms, values, self.used, self.amount, self.at_ns, self.sent])

    @classmethod
    def unpack(cls, record: bytes) -> Crossing:
        """Read a stored form."""
        _, _, (budget, tenant, value, since, threshold, *more), used, amount, at_ns, reported, *_ = unpack(record)
        return cls(budget, tenant, value, since, threshold, int(used), int(amount), at_ns, reported, *more)

    @property
    def arrival_ms(self) -> int:
        """Return the time by which it is ordered."""
        return self.at_ns // NS_PER_MS

    @property
    def orders(self) -> set[Key]:
        """Return the keys of its rows in the orders of thresholds or warnings, and of what nobody was told yet."""
        id_hash = self.key[ID_HASH]
        order = Order.WARNINGS if self.warning else Order.THRESHOLDS
        rows = {order_key(self.tenant, bytes((Table.BUDGET, order)), self.arrival_ms, id_hash)}
        if not self.sent:
            rows.add(order_key(EVERY_TENANT, bytes((Table.BUDGET, Order.UNSENT)), self.arrival_ms, id_hash))
        return rows

    @property
    def first_day(self) -> str:
        """Return the first day of what is used; empty for a session or run."""
        return self.counted_since or self.since

    @property
    def is_over(self) -> bool:
        """Return whether its period was over when the threshold was passed: by a call that came late."""
        return bool(self.until) and self.until < (date_of(self.at_ns // NS_PER_DAY) or "")

    def row(self) -> Row:
        """Return the crossing as a row of an answer."""
        return {
            "budget": self.budget,
            "value": self.value,
            "since": self.first_day or None,
            "until": self.until or None,
            "threshold": self.percent,
            "used": share(self.used, self.amount),
            "used_usd_exact": exact_usd(self.used),
            "unpriced_calls": self.unpriced,
            "amount_usd_exact": exact_usd(self.amount),
            "at": time_of(self.at_ns),
        }


def is_stored(reader: Reader, crossing: Crossing) -> bool:
    """Return whether a ledger has a crossing: also one of an earlier version, whose keys tell no budgets of one name
    apart.
    """
    if reader.get(crossing.key) is not None:
        return True
    record = reader.get(replace(crossing, rule="").key) if crossing.rule else None
    return record is not None and Crossing.unpack(record).amount == crossing.amount


def crossing_moved(before: bytes | None, after: bytes) -> tuple[set[Key], set[Key]]:
    """Return the rows in the orders that are to go, and those that are to come, where a crossing's record changes."""
    old = set() if before is None else Crossing.unpack(before).orders
    new = Crossing.unpack(after).orders
    return old - new, new - old


def share(used: Pico, amount: Pico) -> float:
    """Return how much of an amount is used; 1 is all of it."""
    return used / amount


def crossings(reader: Reader, tenant: bytes, *, warnings: bool) -> Iterator[Crossing]:
    """Yield a tenant's warnings, or thresholds of budgets, that are kept: the newest first."""
    return (crossing for _, crossing in placed_crossings(reader, tenant, warnings=warnings))


def placed_crossings(
    reader: Reader, tenant: bytes, *, warnings: bool, below: Position | None = None
) -> Iterator[tuple[Position, Crossing]]:
    """Yield them with their positions, only those below `below`, if it is given: those that are asked for are read.

    A ledger of an earlier version that was never written since has no order of them.
    """
    if reader.get(CROSSINGS_COMPLETE) is None:
        crossings = ((key, Crossing.unpack(record)) for key, record in reader.scan(Table.BUDGET, EVERY_TENANT))
        mine = ((key, one) for key, one in crossings if one.tenant == tenant and bool(one.warning) == warnings)
        placed = (((one.at_ns // NS_PER_MS, key[ID_HASH]), one) for key, one in mine)
        yield from sorted((one for one in placed if below is None or one[0] < below), key=itemgetter(0), reverse=True)
        return
    order = Order.WARNINGS if warnings else Order.THRESHOLDS
    for position in walk(reader, tenant, Table.BUDGET, order, below):
        if (record := reader.get(hashed_key(EVERY_TENANT, Table.BUDGET, position[1]))) is not None:
            yield position, Crossing.unpack(record)


def unsent_crossings(reader: Reader) -> Iterator[Crossing]:
    """Yield the crossings whose notification is due, the oldest first."""
    if reader.get(CROSSINGS_COMPLETE) is None:
        records = (record for _, record in reader.scan(Table.BUDGET, EVERY_TENANT) if record[-1:] != _SENT)
    else:
        positions = [*walk(reader, EVERY_TENANT, Table.BUDGET, Order.UNSENT)][::-1]
        keys = (hashed_key(EVERY_TENANT, Table.BUDGET, id_hash) for _, id_hash in positions)
        records = (record for record in map(reader.get, keys) if record is not None)
    yield from map(Crossing.unpack, records)
