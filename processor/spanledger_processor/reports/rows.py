"""Totals as rows. Money leaves the ledger here: doubles of USD, and the exact amount beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

from spanledger_processor.calls import USD, Pico
from spanledger_processor.state.sums import Sums

Row: TypeAlias = dict[str, Any]
"""Keys in the order of `row`; values as JSON takes them."""


def usd(amount: Pico) -> float:
    """An amount as a double of USD, correctly rounded."""
    return amount / USD


def exact_usd(amount: Pico) -> str:
    """An amount in USD, every digit of it."""
    return f"{Decimal(amount).scaleb(-12).normalize():f}"


def row(sums: Sums) -> Row:
    """One record of totals: id, what it cost and why not all of it is known, tokens, models, times."""
    return {
        "id": sums.labels.get("id", ""),
        **({"parent_id": sums.labels["parent"]} if "parent" in sums.labels else {}),
        "cost_usd": usd(sums.cost),
        "cost_usd_exact": exact_usd(sums.cost),
        "calls": sums.calls,
        "unpriced": dict(sorted(sums.reasons.items())),
        "tool_calls": sums.tool_calls,
        "spans": sums.spans,
        "tokens": {
            "input": sums.input,
            "output": sums.output,
            "cache_read": sums.cache_read,
            "cache_write": sums.cache_write,
            "cache_write_1h": sums.cache_write_1h,
            "reasoning": sums.reasoning,
        },
        "models": {name: usd(cost) for name, cost in sorted(sums.models.items(), key=lambda item: -item[1])},
        "first": _time(sums.first_ns),
        "last": _time(sums.last_ns),
        **({"closed": True} if sums.closed else {}),
    }


def _time(at_ns: int) -> str | None:
    """RFC 3339 in UTC, to the millisecond; None where no time is known or none that a calendar holds."""
    if not at_ns:
        return None
    try:
        at = datetime.fromtimestamp(at_ns / 1e9, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
