"""The schedule of retention, the size of its slices, and eviction when the ledger is full."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import lmdb

from spanledger_processor.ledger.retention import (
    Narrowing,
    Packing,
    Sweep,
    crowding_tenant,
    fold_days,
    forget_due,
    is_due,
    narrow,
    oldest_tenth,
)
from spanledger_processor.ledger.store import StoreUsage
from spanledger_processor.ledger.trace_places import TracePlaces
from spanledger_processor.units import MS_PER_DAY

log = logging.getLogger(__name__)

_SLICE = 512
"""Keys visited in one commit, beside twice those that the commit adds."""
_SLICE_BESIDE = 4096
"""Keys visited in a commit of its own, while nothing else is to be written."""
_ROUND_SLICE = 256
_NARROWING_SLICE = 4096
"""Keys of dimensions visited in one slice; they are read only where one has too many values."""
_ROUND_EVERY_MS = 3600_000
_READERS_EVERY_MS = 60_000
_SHORTEST_MS = 15 * 60_000
"""Nothing younger goes before its time unless there is nothing older left to go."""
_EVICTION_SLICE = 2048
_ROOMY = 0.9
"""Of what may be filled: where making room ends."""


def is_full(usage: StoreUsage) -> bool:
    """Return whether nothing more may be taken in."""
    return usage.used_bytes > _fillable(usage)


def _is_crowded(usage: StoreUsage) -> bool:
    """Return whether records may go before their time."""
    return usage.used_bytes > 0.95 * _fillable(usage)


def _fillable(usage: StoreUsage) -> float:
    """Return bytes for records. LMDB writes a changed page anew before it frees the old: to remove takes room, too."""
    return usage.map_bytes - min(usage.map_bytes / 2, max(16 << 20, usage.map_bytes / 20))


@dataclass(slots=True)
class Housekeeping:
    """Retention of one store. `spans_ms` for decisions, traces, responses and tool counts, `sessions_ms` for totals
    (0: they stay).
    """

    places: TracePlaces
    spans_ms: int
    sessions_ms: int
    _sweep: Sweep = field(default_factory=Sweep)
    _next_round_ms: int = 0
    _next_readers_ms: int = 0
    _crowded: bool = False
    evicted: int = 0
    """Records that gave way to the size."""
    _evicting: Sweep = field(default_factory=Sweep)
    _evict_before_ms: int = 0
    _narrowing: Narrowing = field(default_factory=Narrowing)
    _packing: Packing = field(default_factory=Packing)
    _draw: Random = field(default_factory=Random)

    def in_commit(self, txn: lmdb.Transaction[bytes], now_ms: int, usage: StoreUsage, brought: int) -> None:
        """Remove a slice of what is due, in a commit that brings `brought` short-lived records."""
        forget_due(txn, self.places, self._horizon(now_ms, usage), _SLICE + 2 * brought)

    def when_idle(self, environment: lmdb.Environment, now_ms: int, usage: StoreUsage) -> bool:
        """Remove a slice of what is due, in a commit of its own; return whether there is more."""
        if now_ms >= self._next_readers_ms:
            self._next_readers_ms = now_ms + _READERS_EVERY_MS
            environment.reader_check()
        horizon = self._horizon(now_ms, usage)
        with environment.begin() as txn:
            due = is_due(txn, horizon)
        if due:
            return self._forget_some(horizon) >= _SLICE_BESIDE
        if _is_crowded(usage):
            return self._evict_some(environment, now_ms)
        if self._narrow(environment):
            return True
        if self._pack_day(environment, now_ms):
            return True
        if now_ms < self._next_round_ms or not self.sessions_ms:
            return False
        with environment.begin(write=True) as txn:
            complete = self._sweep.go(txn, now_ms - max(self.sessions_ms, self.spans_ms), _ROUND_SLICE)
        if complete:
            self._next_round_ms = now_ms + _ROUND_EVERY_MS
        return not complete

    def _narrow(self, environment: lmdb.Environment) -> bool:
        """Bound the values of a dimension and day; return whether there were too many."""
        with environment.begin() as txn:
            rows = self._narrowing.go(txn, _NARROWING_SLICE)
        if not rows:
            return False
        with environment.begin(write=True) as txn:
            narrow(txn, rows)
        return True

    def _pack_day(self, environment: lmdb.Environment, now_ms: int) -> bool:
        """Pack the values of a dimension on a day that is over; return whether there was one."""
        with environment.begin() as txn:
            packed = self._packing.go(txn, now_ms)
        if packed is None:
            return False
        with environment.begin(write=True) as txn:
            txn.put(*packed)
        return True

    def _horizon(self, now_ms: int, usage: StoreUsage) -> int:
        """Return the time in ms before which arrivals may go."""
        crowded = _is_crowded(usage)
        if crowded and not self._crowded:
            log.warning("the ledger is nearly full: spans are remembered for less than state.retention.spans")
        self._crowded = crowded or (self._crowded and usage.used_bytes > 0.5 * _fillable(usage))
        return now_ms - (min(_SHORTEST_MS, self.spans_ms) if crowded else self.spans_ms)

    def make_room(self, environment: lmdb.Environment, now_ms: int, usage: Callable[[], StoreUsage]) -> bool:
        """Evict the oldest records until there is room again; return whether there is any.

        Sums stay exact: what sessions and runs had spent belongs to no session and no run afterwards.
        """
        while not _is_roomy(usage()):
            if not self._evict_some(environment, now_ms):
                return not is_full(usage())
        return True

    def _evict_some(self, environment: lmdb.Environment, now_ms: int) -> bool:
        """Evict a slice of records; return whether there was any.

        What nothing was added to for a while goes first, then any session, whose sums stay, before what keeps repeats
        from being counted again; of sessions those of a tenant that has more than its share before all others. Models
        of days, which have no age, are the last.
        """
        if not self.evicted:
            log.warning("the ledger is full: the oldest sessions give way, and their sums stay (state.max_size_mib)")
        idle, any_age, today = now_ms - min(_SHORTEST_MS, self.spans_ms), now_ms + 1, now_ms // MS_PER_DAY
        gone = (
            self._forget_some(idle)
            or self._evict_totals(environment, idle, crowding=True)
            or self._evict_totals(environment, any_age, crowding=True)
            or self._evict_totals(environment, idle)
            or self._evict_totals(environment, any_age)
            or self._forget_some(any_age)
            or _sliced(self.places, lambda txn, limit: fold_days(txn, today, limit))
            or _sliced(self.places, lambda txn, limit: fold_days(txn, 1 << 32, limit))
        )
        self.evicted += gone
        return gone > 0

    def _forget_some(self, horizon_ms: int) -> int:
        """Forget as much as there is room for: the tree is rewritten where records leave it."""
        return _sliced(self.places, lambda txn, limit: forget_due(txn, self.places, horizon_ms, limit), _SLICE_BESIDE)

    def _evict_totals(self, environment: lmdb.Environment, horizon_ms: int, *, crowding: bool = False) -> int:
        """Remove some of the oldest tenth of sessions, runs and tasks, in rounds; return how many.

        With `crowding`, only those of a tenant that crowds out others.
        """
        while True:
            if not self._evict_before_ms:
                with environment.begin() as txn:
                    tenant = crowding_tenant(txn) if crowding else b""
                    oldest = oldest_tenth(txn, self._draw, tenant) if tenant or not crowding else 0
                if not 0 < oldest < horizon_ms:
                    return 0
                self._evict_before_ms, self._evicting = oldest + 1, Sweep(tenant, for_room=True)
            before = self._evicting.removed
            complete = _sliced(self.places, self._evict_slice)
            if complete:
                self._evict_before_ms = 0
            if self._evicting.removed > before:
                return self._evicting.removed - before
            if complete and not self._evicting.removed:
                return 0

    def _evict_slice(self, txn: lmdb.Transaction[bytes], limit: int) -> int:
        return int(self._evicting.go(txn, self._evict_before_ms, limit))


def _is_roomy(usage: StoreUsage) -> bool:
    return usage.used_bytes <= _ROOMY * _fillable(usage)


def _sliced(
    places: TracePlaces,
    work: Callable[[lmdb.Transaction[bytes], int], int],
    limit: int = _EVICTION_SLICE,
) -> int:
    """Do `work` on so many records in a commit of its own, or on fewer if there is no room for that."""
    while True:
        try:
            with places.writing() as txn:
                return work(txn, limit)
        except lmdb.MapFullError:
            if limit == 1:
                raise
            limit = max(1, limit // 8)
