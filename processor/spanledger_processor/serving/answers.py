"""The ledger's answers while `serve` runs, for the API and for a metric."""

from __future__ import annotations

from collections.abc import Sequence

from spanledger_processor.reports import ledger as questions
from spanledger_processor.reports.rows import Row
from spanledger_processor.state.store import tenant_hash
from spanledger_processor.state.writer import LedgerWriter

_TENANT = tenant_hash("")


class Answers:
    """Implements `api.Reports` for the default tenant; each answer is over a short snapshot of its own."""

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

    def late_correction(self) -> float:
        """What was sent on spans beyond the ledger, in USD."""
        with self._ledger.snapshot() as reader:
            correction: float = questions.total(reader, _TENANT)["late_correction_usd"]
            return correction
