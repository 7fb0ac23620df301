"""Marking a session as ended by hand, where its source does not say so itself."""

from __future__ import annotations

from spanledger_processor.ledger.keys import session_key
from spanledger_processor.ledger.store import Changes, Unit
from spanledger_processor.ledger.sums import Sums


def close_session(tenant: bytes, session_id: str, now_ns: int, unit: Unit) -> bool:
    """Mark a session as ended; False if the ledger has none of that id. Spans that come later still count."""
    where = session_key(tenant, session_id)
    if not session_id or unit.get(where) is None:
        return False
    unit.apply(Changes(add={where: Sums(closed=True)}), now_ns)
    return True
