"""Which traces have GenAI spans, and of which tenants."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Container

KNOWN_TRACES = 8192
"""Traces that a process remembers to have GenAI spans."""
_MOST_TENANTS = 4
"""Of a trace, beside the latest: of one of more it is not known of which tenants it has GenAI spans."""


class KnownTraces:
    """Traces that had GenAI spans lately, at most `KNOWN_TRACES`, and of which tenants, by their hashes.

    One more takes the place of the oldest of a tenant that has an even share of them or more: what one tenant sends
    takes nothing from another that has less.
    """

    def __init__(self) -> None:
        self._tenants: OrderedDict[bytes, bytes] = OrderedDict()
        """Of each trace the latest."""
        self._others: dict[bytes, set[bytes]] = {}
        """Of a trace of several tenants the others."""
        self._counts: Counter[bytes] = Counter()

    @property
    def ids(self) -> Container[bytes]:
        """Return the traces."""
        return self._tenants

    def is_of(self, trace_id: bytes, tenant: bytes) -> bool:
        """Return whether a trace had GenAI spans of a tenant."""
        return self._tenants.get(trace_id) == tenant or tenant in self._others.get(trace_id, ())

    def may_be_of(self, trace_id: bytes, tenant: bytes) -> bool:
        """Return whether it had, or had some of tenants that are not known."""
        return self.is_of(trace_id, tenant) or self.is_of(trace_id, b"")

    def __len__(self) -> int:
        return len(self._tenants)

    def add(self, trace_id: bytes, tenant: bytes) -> None:
        """Enter a trace as the newest; `tenant` is its hash, empty where it is not known whose GenAI spans it has."""
        before = self._tenants.get(trace_id)
        if before != tenant:
            if before is not None:
                self._forget(before)
                others = self._others.setdefault(trace_id, set())
                others.discard(tenant)
                others.add(before if len(others) < _MOST_TENANTS else b"")
            self._counts[tenant] += 1
        self._tenants[trace_id] = tenant
        self._tenants.move_to_end(trace_id)
        if len(self._tenants) > KNOWN_TRACES:
            share = len(self._tenants) // len(self._counts)
            while True:
                oldest, of = self._tenants.popitem(last=False)
                if self._counts[of] >= share:
                    break
                self._tenants[oldest] = of
            self._others.pop(oldest, None)
            self._forget(of)

    def _forget(self, tenant: bytes) -> None:
        self._counts[tenant] -= 1
        if not self._counts[tenant]:
            del self._counts[tenant]
