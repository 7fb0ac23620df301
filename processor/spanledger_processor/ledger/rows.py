"""Totals as rows. Money leaves the ledger here: doubles of USD, and the exact amount beside them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias

from spanledger_processor.ledger.facts import OTHER_MODELS
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import USAGE_CLASSES
from spanledger_processor.pricing import provider_name
from spanledger_processor.units import NS_PER_DAY, USD, Pico

Row: TypeAlias = dict[str, Any]
"""Keys in the order of `row`; values as JSON takes them."""

NOTES = {
    "per-turn": "a turn is the sum of its model calls",
    "per-session-aggregate": "an aggregate is what a file says of a session so far: no per-call or per-tool detail",
    "cost-only": "of some only the cost is known, not the usage",
}
"""Notes on counted spans that are no single model calls, by granularity."""

_SHORT_ID = 12
"""Characters of an id in the label of a session."""


def usd(amount: Pico) -> float:
    """Return an amount as a double of USD, correctly rounded."""
    return amount / USD


def exact_usd(amount: Pico) -> str:
    """Return an amount in USD, every digit of it."""
    whole, places = divmod(abs(amount), USD)
    return f"{'-' if amount < 0 else ''}{whole}.{places:012d}".rstrip("0").rstrip(".")


def money(amount: Pico) -> Row:
    """Return an amount both ways: the double that charts take, and every digit."""
    return {"cost_usd": usd(amount), "cost_usd_exact": exact_usd(amount)}


def spend(sums: Sums) -> Row:
    """Return what was spent: cost, calls and why not all of them have a price, tokens and units sold by the call."""
    counts = list(zip(USAGE_CLASSES, sums.usage, strict=True))
    return {
        **money(sums.cost),
        "calls": sums.calls,
        "granularities": granularities(sums),
        "unpriced": dict(sorted(sums.reasons.items())),
        "tokens": {one.name: count for one, count in counts if one.unit == "token"},
        "units": {one.name: count for one, count in counts if one.unit != "token"},
    }


def granularities(sums: Sums) -> dict[str, int]:
    """Return how many of the counted spans are single model calls, turns, aggregates, or a cost alone."""
    other = dict(sorted(sums.granularities.items()))
    single = sums.calls - sum(other.values())
    return {**({"per-message": single} if single else {}), **other}


def note(kinds: Mapping[str, int]) -> str:
    """Return the note on spans of these granularities; empty where all are single model calls."""
    return "; ".join(text for name, text in NOTES.items() if kinds.get(name))


def listed_model(label: str) -> str:
    """Return a model's label with the one name of its provider, if there is one in front: users may write another, and
    what earlier versions took in has the one that spans have.
    """
    provider, separator, model = label.partition("/")
    return f"{provider_name(provider)}/{model}" if separator else label


def models(sums: Sums) -> list[Row]:
    """Return the cost on each model, the dearest first. One that more was taken back of than it has is part of the
    others: of a value or session with many models a part of it joined them before.
    """
    spent: dict[str, Pico] = {}
    for name, cost in sums.models.items():
        listed = listed_model(name)
        spent[listed] = spent.get(listed, 0) + cost
    for name in [name for name, cost in spent.items() if cost < 0 and name != OTHER_MODELS]:
        spent[OTHER_MODELS] = spent.get(OTHER_MODELS, 0) + spent.pop(name)
    ranked = sorted(spent.items(), key=lambda item: (-item[1], item[0]))
    return [{"model": name, **money(cost)} for name, cost in ranked]


def row(sums: Sums) -> Row:
    """Return sums as a row: names, what was spent, on which models (the dearest first), and when."""
    return {
        "id": sums.labels.get("id", ""),
        **({"parent_id": parent} if (parent := sums.parent) else {}),
        **({"name": sums.labels["name"]} if "name" in sums.labels else {}),
        **({"project": text} if (text := project(sums)) else {}),
        **spend(sums),
        **({"note": text} if (text := note(sums.granularities)) else {}),
        "tool_calls": sums.tool_calls,
        "spans": sums.spans,
        "models": models(sums),
        "first": time_of(sums.first_ns),
        "last": time_of(sums.last_ns),
        **({"closed": True} if sums.closed else {}),
    }


def project(session: Sums) -> str:
    """Return the project of a session: the first that its spans have as a dimension, else the one that its source or
    the configuration gave it. Only the former is known of spans that came before anything named their session.
    """
    said = session.facts.values.get("project") if session.facts else None
    return said[0] if said else session.labels.get("project", "")


def label(session: Sums) -> str:
    """Return what a session is called: its name, else its only process, else the first characters of its id."""
    name, instances = session.labels.get("name", ""), session.facts.values.get("instance", []) if session.facts else []
    if name or len(instances) == 1:
        return name or instances[0]
    return session.labels.get("id", "")[:_SHORT_ID]


def time_of(at_ns: int) -> str | None:
    """Return a time as RFC 3339 in UTC, to the millisecond; None where none is known or none that a calendar holds."""
    if not at_ns:
        return None
    try:
        at = datetime.fromtimestamp(at_ns / 1e9, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=4096)
def date_of(day: int) -> str | None:
    """Return the date of a day since 1970; None where no calendar holds it."""
    at = time_of(max(day * NS_PER_DAY, 1))
    return at and at.partition("T")[0]
