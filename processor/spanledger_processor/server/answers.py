"""The ledger's answers while `serve` runs, for the API and for a metric, and the one change that the API makes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from spanledger_processor.ledger import queries as questions
from spanledger_processor.ledger.keys import EVERY_TENANT
from spanledger_processor.ledger.rows import Row, usd
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.server.closing import close_session

_TENANT = tenant_hash("")


class Answers:
    """Implements `api.Reports`, for the default tenant and each over a short snapshot, and `api.Closing`."""

    def __init__(self, ledger: LedgerWriter) -> None:
        self._ledger = ledger

    def sessions(self) -> Sequence[Row]:
        """All sessions."""
        with self._ledger.snapshot() as reader:
            return questions.sessions(reader, _TENANT)

    def session(self, session_id: str) -> Row | None:
        """One session with its tasks."""
        with self._ledger.snapshot() as reader:
            return questions.session(reader, _TENANT, session_id)

    def runs(self) -> Sequence[Row]:
        """All runs."""
        with self._ledger.snapshot() as reader:
            return questions.runs(reader, _TENANT)

    def run(self, run_id: str) -> Row | None:
        """One run."""
        with self._ledger.snapshot() as reader:
            return questions.run(reader, _TENANT, run_id)

    def summary(self) -> Row:
        """The whole ledger and its models."""
        with self._ledger.snapshot() as reader:
            return {"total": questions.total(reader, _TENANT), "models": questions.models(reader, _TENANT)}

    async def close(self, tenant: str, session_id: str) -> bool:
        """Mark a session as ended; False if there is none of that id."""
        return await self._ledger.submit(partial(close_session, tenant_hash(tenant), session_id, time.time_ns()))

    def late_correction(self) -> float:
        """What was sent on spans beyond the ledgers of all tenants, in USD."""
        with self._ledger.snapshot() as reader:
            return usd(questions.late_correction(reader, EVERY_TENANT))
