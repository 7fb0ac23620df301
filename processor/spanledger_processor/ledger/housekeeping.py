"""When retention runs, and how much of it at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import lmdb

from spanledger_processor.ledger.retention import Rounds, forget_due, is_due
from spanledger_processor.ledger.store import Usage

log = logging.getLogger(__name__)

_SLICE = 512
"""Keys looked at in one commit, beside twice those that the commit brings."""
_SLICE_BESIDE = 4096
"""Keys looked at in one commit of its own, while nothing else is to be written."""
_ROUND_SLICE = 256
_ROUND_EVERY_MS = 3600_000
_READERS_EVERY_MS = 60_000
_SHORTEST_MS = 15 * 60_000
"""Nothing younger goes before its time, however crowded it is."""


def is_full(usage: Usage) -> bool:
    """Whether nothing more may be taken in."""
    return usage.used_bytes > _fillable(usage)


def _is_crowded(usage: Usage) -> bool:
    """Whether records may go before their time."""
    return usage.used_bytes > 0.95 * _fillable(usage)


def _fillable(usage: Usage) -> float:
    """Bytes for records. LMDB writes changed pages anew before it lets go of the old: also to remove takes room."""
    return usage.map_bytes - min(usage.map_bytes / 2, max(16 << 20, usage.map_bytes / 20))


@dataclass(slots=True)
class Housekeeping:
    """Retention of one store. `spans_ms` for decisions, traces, responses and tool counts, `sessions_ms` for totals
    (0: they stay).
    """

    spans_ms: int
    sessions_ms: int
    _rounds: Rounds = field(default_factory=Rounds)
    _next_round_ms: int = 0
    _next_readers_ms: int = 0
    _crowded: bool = False

    def in_commit(self, txn: lmdb.Transaction[bytes], now_ms: int, usage: Usage, brought: int) -> None:
        """A slice of what is due, in a commit that brings `brought` short-lived records."""
        forget_due(txn, self._horizon(now_ms, usage), _SLICE + 2 * brought)

    def beside(self, environment: lmdb.Environment, now_ms: int, usage: Usage) -> bool:
        """A slice of what is due, in a commit of its own; whether there is more."""
        if now_ms >= self._next_readers_ms:
            self._next_readers_ms = now_ms + _READERS_EVERY_MS
            environment.reader_check()
        horizon = self._horizon(now_ms, usage)
        with environment.begin() as txn:
            due = is_due(txn, horizon)
        if due:
            return _forget_some(environment, horizon)
        if now_ms < self._next_round_ms or not self.sessions_ms:
            return False
        with environment.begin(write=True) as txn:
            complete = self._rounds.go(txn, now_ms - max(self.sessions_ms, self.spans_ms), _ROUND_SLICE)
        if complete:
            self._next_round_ms = now_ms + _ROUND_EVERY_MS
        return not complete

    def _horizon(self, now_ms: int, usage: Usage) -> int:
        """Arrivals from before this may go."""
        crowded = _is_crowded(usage)
        if crowded and not self._crowded:
            log.warning("the ledger is nearly full: spans are remembered for less than state.retention.spans")
        self._crowded = crowded
        return now_ms - (min(_SHORTEST_MS, self.spans_ms) if crowded else self.spans_ms)


def _forget_some(environment: lmdb.Environment, horizon_ms: int) -> bool:
    """As much as there is room for: the tree is rewritten where records leave it."""
    limit = _SLICE_BESIDE
    while True:
        try:
            with environment.begin(write=True) as txn:
                return forget_due(txn, horizon_ms, limit) >= limit
        except lmdb.MapFullError:
            if limit == 1:
                raise
            limit //= 8
