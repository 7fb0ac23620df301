"""The time that prices go by (docs/contract.md#state-and-money)."""

from __future__ import annotations

NS_PER_DAY = 86_400 * 10**9
_EARLIEST_NS = 1_577_836_800 * 10**9
"""2020-01-01: an earlier start is a clock that was never set."""


def price_time(start_ns: int, now_ns: int) -> tuple[int, bool]:
    """The time by which a span is priced, and whether it is the span's own: its start, else its arrival."""
    if _EARLIEST_NS <= start_ns <= now_ns + NS_PER_DAY:
        return start_ns, True
    return now_ns, False
