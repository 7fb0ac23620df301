"""Reads one span by one dialect's tables.

The tables that come here are narrowed (`narrow`): of every list of keys only those are left that the span has.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from spanledger_processor.dialects.costs import reported
from spanledger_processor.dialects.dialect import Dialect, Keys
from spanledger_processor.dialects.usage import read_usage_of
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.view import View
from spanledger_processor.model import Call, Granularity, Kind, ToolCall

_AGGREGATES = frozenset({"agent", "workflow", "other"})
_NO_TIER = frozenset({"", "auto", "normal", "on_demand", "standard", "standard_only"})
_LONGEST_TIER = 64


def kind_of(dialect: Dialect, view: View) -> Kind | None:
    """The kind that a span has in a vocabulary, None where it is none of its GenAI spans."""
    if dialect.kind_of is not None:
        kind = dialect.kind_of(view)
        if kind is not None:
            return kind
    for kinds in dialect.kinds:
        value = text(view.attributes.get(kinds.key))
        kind = kinds.table.get(value) or kinds.table.get(value.lower())
        if kind is not None:
            return kind
    if dialect.kind_else is not None:
        kind = dialect.kind_else(view)
        if kind is not None:
            return kind
    return dialect.otherwise


def read(dialect: Dialect, view: View, kind: Kind) -> Call:
    """What a span says in a vocabulary."""
    call = Call(dialect.name, kind)
    call.request_model = first_text(view, dialect.request_model)
    call.response_model = first_text(view, dialect.response_model)
    call.provider = first_text(view, dialect.provider) or dialect.fixed_provider
    if kind == "tool":
        call.tool = _tool(dialect, view)
    else:
        call.response_id = first_text(view, dialect.response_id)
    read_usage_of(call, dialect, view)
    if dialect.agent:
        call.agent_id = first_text(view, dialect.agent)
        call.agent_parent_id = first_text(view, dialect.agent_parent)
    if dialect.costs:
        call.reported = reported(dialect.costs, view)
    if dialect.tiers and call.usage is not None:
        call.price_context = _context(dialect.tiers, view)
    for rule in dialect.rules:
        rule(view, call)
    call.granularity = granularity(call)
    return call


def granularity(call: Call) -> Granularity:
    """How much of a session a span's usage stands for."""
    if call.granularity != "per-message":
        return call.granularity
    if call.usage is None:
        return "cost-only" if call.reported is not None else "per-message"
    return "per-turn" if call.kind in _AGGREGATES else "per-message"


def first(view: View, keys: Keys) -> Any:
    """The first value under `keys`, None if there is none."""
    for key in keys:
        value = view.attributes.get(key)
        if value is not None and value != "":
            return value
    return None


def first_text(view: View, keys: Keys) -> str:
    """The first text under `keys`, without the quotes of a JSON string."""
    get = view.attributes.get
    for key in keys:
        value = text(get(key))
        if value:
            return value
    return ""


def _tool(dialect: Dialect, view: View) -> ToolCall:
    keys = dialect.tool
    name = first_text(view, keys.name) or (view.name if keys.name_from_span else "")
    return ToolCall(name or None, first(view, keys.arguments), first_text(view, keys.call_id) or None)


def _context(tiers: Keys, view: View) -> tuple[tuple[str, str], ...]:
    if len(tiers) == 1:
        value = view.attributes.get(tiers[0])
        return _asked(tiers[0], value[:_LONGEST_TIER]) if isinstance(value, str) else ()
    found: dict[str, str] = {}
    for key in tiers:
        for name, tier in _asked(key, text(view.attributes.get(key))[:_LONGEST_TIER]):
            found.setdefault(name, tier)
    return tuple(sorted(found.items()))


@lru_cache(maxsize=256)
def _asked(key: str, value: str) -> tuple[tuple[str, str], ...]:
    """What one tier asks of pricing. Bounded: values come from the network."""
    tier = text(value).lower()
    return () if tier in _NO_TIER else (("speed" if key.endswith("speed") else "service_tier", tier),)
