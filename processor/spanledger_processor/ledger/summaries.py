"""Sessions that have ended, closed or stale, and whose summary is due.

A session is watched from its first span on, where that is configured (`Sums.summarized_ns`). Once its summary was
sent, it is sent again only if the session went on and ended again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from spanledger_processor.ledger.facts import Lifecycle
from spanledger_processor.ledger.keys import hashed_key, session_key
from spanledger_processor.ledger.orders import Order, time_rank, unsummarized, unsummarized_until, walk
from spanledger_processor.ledger.queries import session, tenant_name
from spanledger_processor.ledger.rows import Row
from spanledger_processor.ledger.runs import RunsAndParent, named_by, run_of_session
from spanledger_processor.ledger.store import Changes, Key, Reader, Table, Unit
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.units import NS_PER_MS

_LOOKED_AT = 2000
"""Sessions at a time."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that has ended, with the key of its totals and its last activity."""

    tenant: bytes
    key: Key
    id: str
    last_ns: int
    sums: Sums


def ended(reader: Reader, lifecycle: Lifecycle, now_ns: int, quiet_ns: int) -> Iterator[Ended]:
    """Yield sessions that have ended, and whose summary is due.

    Of a closed one nothing came for `quiet_ns`, of a stale one also for as long as a session is active: a replay, a
    queue that is emptied after an outage and a first reading of histories pause for longer.
    """
    for tenant, key in islice(unsummarized(reader, unsummarized_until(now_ns - lifecycle.idle_ns)), _LOOKED_AT):
        sums = reader.sums(key)
        state, silent_ns = lifecycle.state(sums, now_ns), now_ns - sums.arrival_ms * NS_PER_MS
        long_enough = {"closed": quiet_ns, "stale": max(quiet_ns, lifecycle.active_ns)}.get(state)
        if long_enough is not None and silent_ns >= long_enough:
            yield Ended(tenant, key, sums.labels.get("id", ""), sums.last_ns, sums)


def active_lately(reader: Reader, tenant: bytes, since_ns: int) -> Iterator[Key]:
    """Yield the keys of the totals of sessions whose last activity was at `since_ns` or later, latest first."""
    for position in islice(walk(reader, tenant, Table.SESSION, Order.LAST), _LOOKED_AT):
        if position[0] < time_rank(since_ns):
            return
        yield hashed_key(tenant, Table.SESSION, position[1])


def mark_summarized(unit: Unit, sessions: Iterable[Ended], now_ns: int) -> None:
    """Store in the ledger that the summaries of these sessions were sent."""
    there = {one.key: Sums(summarized_ns=one.last_ns) for one in sessions if unit.get(one.key) is not None}
    unit.apply(Changes(add=there), now_ns)


def summary(reader: Reader, one: Ended, lifecycle: Lifecycle, now_ns: int) -> Row | None:
    """Return the summary of a session: the row of `queries.session`, its `run_id` and the tenant's name."""
    row = session(reader, one.tenant, one.id, lifecycle, now_ns)
    if row is None:
        return None

    def look(session_id: str) -> RunsAndParent:
        return named_by(reader.sums(session_key(one.tenant, session_id)))

    tenant = tenant_name(reader, one.tenant)
    return {**row, "run_id": run_of_session(one.id, look)[0], "tenant": tenant}
