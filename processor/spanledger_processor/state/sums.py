"""Totals of a session, run, task, day and model, or of the whole ledger: numbers that add up in any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgpack

ID_BOUND = 512
"""Bytes of an id, name or label kept in a record; the key holds the hash of all of it."""

_COUNTS = (
    *("cost", "calls", "priced", "unpriced"),
    *("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning"),
    *("tool_calls", "spans"),
)
_VERSION = 1


@dataclass(slots=True)
class Sums:
    """A record of numbers that commute: counts are added, times widened, labels kept (the first one wins), sets united.

    `cost` in 1e-12 USD; may be negative in a change that moves an amount elsewhere, never in what is stored.
    `reasons` counts unpriced calls by reason. `named` unites up to three names seen, enough to tell one from several.
    """

    cost: int = 0
    calls: int = 0
    priced: int = 0
    unpriced: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    tool_calls: int = 0
    spans: int = 0
    first_ns: int = 0
    last_ns: int = 0
    closed: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)

    def add(self, other: Sums, sign: int = 1) -> None:
        """Merge `other` into this one; with `sign` -1 take its counts out again (times and labels stay)."""
        for name in _COUNTS:
            value = getattr(other, name)
            if value:
                setattr(self, name, getattr(self, name) + sign * value)
        _merge_counts(self.reasons, other.reasons, sign)
        _merge_counts(self.models, other.models, sign)
        if sign < 0:
            return
        if other.first_ns and (not self.first_ns or other.first_ns < self.first_ns):
            self.first_ns = other.first_ns
        self.last_ns = max(self.last_ns, other.last_ns)
        self.closed = self.closed or other.closed
        for name, text in other.labels.items():
            self.labels.setdefault(name, text)
        if other.named and len(self.named) < 3:
            self.named = set(sorted(self.named | other.named)[:3])

    def pack(self) -> bytes:
        """The stored form."""
        counts = [getattr(self, name) for name in _COUNTS[1:]]
        models = {name: _wide(cost) for name, cost in self.models.items()}
        times = [self.first_ns, self.last_ns, self.closed]
        record: bytes = msgpack.packb(
            [_VERSION, _wide(self.cost), counts, times, self.labels, self.reasons, models, sorted(self.named)]
        )
        return record

    @classmethod
    def unpack(cls, record: bytes) -> Sums:
        """Read a stored record."""
        _, cost, counts, times, labels, reasons, models, named = msgpack.unpackb(record)
        sums = cls(_narrow(cost), *counts)
        sums.first_ns, sums.last_ns, sums.closed = times
        sums.labels, sums.reasons, sums.named = labels, reasons, set(named)
        sums.models = {name: _narrow(amount) for name, amount in models.items()}
        return sums


def _merge_counts(into: dict[str, int], counts: Mapping[str, int], sign: int) -> None:
    for name, count in counts.items():
        total = into.get(name, 0) + sign * count
        if total:
            into[name] = total
        else:
            into.pop(name, None)


def _wide(amount: int) -> int | str:
    """msgpack integers end at 64 bits, which is 9 million USD; beyond that the amount is kept as text."""
    return amount if -(1 << 63) <= amount < (1 << 63) else str(amount)


def _narrow(stored: int | str) -> int:
    return int(stored)
