"""Reads one span by one dialect's tables.

Spans come in few shapes. Asking every span for a hundred keys costs more than reading it; asking each shape once does
not: `specialize` leaves out of a dialect's tables what spans with certain keys do not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.schema import (
    NO_TOKENS,
    CostKey,
    Dialect,
    Keys,
    Kinds,
    ScopedSpan,
    Source,
    Tokens,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.usage import read_usage_of
from spanledger_processor.dialects.values import money, text, version_of
from spanledger_processor.model import Call, Granularity, Kind, ReportedCost, ToolCall

_AGGREGATES = frozenset({"agent", "workflow", "other"})
_NO_TIER = frozenset({"", "auto", "normal", "on_demand", "standard", "standard_only"})
_LONGEST_TIER = 64


def kind_of(dialect: Dialect, view: ScopedSpan) -> Kind | None:
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


def read(dialect: Dialect, view: ScopedSpan, kind: Kind) -> Call:
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


def first(view: ScopedSpan, keys: Keys) -> Any:
    """The first value under `keys`, None if there is none."""
    for key in keys:
        value = view.attributes.get(key)
        if value is not None and value != "":
            return value
    return None


def first_text(view: ScopedSpan, keys: Keys) -> str:
    """The first text under `keys`, without the quotes of a JSON string."""
    get = view.attributes.get
    for key in keys:
        value = text(get(key))
        if value:
            return value
    return ""


def _tool(dialect: Dialect, view: ScopedSpan) -> ToolCall:
    keys = dialect.tool
    name = first_text(view, keys.name) or (view.name if keys.name_from_span else "")
    return ToolCall(name or None, first(view, keys.arguments), first_text(view, keys.call_id) or None)


def _context(tiers: Keys, view: ScopedSpan) -> tuple[tuple[str, str], ...]:
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


_LISTS = ("request_model", "response_model", "provider", "response_id", "tiers", "agent", "agent_parent")
_ROWS = ("kinds", "usage_texts", "fallback_texts", "costs")
_GROUPS = ("tokens", "aggregated", "tool")


SCOPES = {
    "anthropic": "anthropic",
    "bedrock": "aws.bedrock",
    "cohere": "cohere",
    "google_genai": "gcp.gemini",
    "google_generativeai": "gcp.gemini",
    "groq": "groq",
    "mistralai": "mistral_ai",
    "together": "together_ai",
    "vertexai": "gcp.vertex_ai",
}
"""Last words of scopes and the providers that they speak to, for spans that do not name theirs."""


def specialize(dialect: Dialect, present: frozenset[str], scope: str, version: str) -> Dialect:
    """The dialect with only the keys, and only the sources, that spans of a shape can have."""
    changes: dict[str, Any] = {name: _keys(getattr(dialect, name), present) for name in _LISTS}
    changes |= {name: tuple(row for row in getattr(dialect, name) if row.key in present) for name in _ROWS}
    changes |= {name: _group(getattr(dialect, name), present) for name in _GROUPS}
    parsed = version_of(version)
    if not dialect.fixed_provider and not changes["provider"]:
        changes["fixed_provider"] = SCOPES.get(scope.rpartition(".")[2].rpartition("-")[2], "")
    changes["sources"] = tuple(source for source in dialect.sources if _may_be(source, scope, parsed))
    return replace(dialect, **changes)


def keys_of(dialect: Dialect) -> Iterator[str]:
    """Every key that a dialect's tables ask for."""
    yield from (*dialect.detection.keys, *dialect.detection.requires)
    for name in _LISTS:
        yield from getattr(dialect, name)
    for name in _ROWS:
        rows: tuple[Kinds | UsageText | CostKey, ...] = getattr(dialect, name)
        yield from (row.key for row in rows)
    for name in _GROUPS:
        group = getattr(dialect, name)
        for item in fields(group):
            value = getattr(group, item.name)
            yield from value if isinstance(value, tuple) else ()


def _keys(keys: tuple[str, ...], present: frozenset[str]) -> tuple[str, ...]:
    return tuple(key for key in keys if key in present)


def _group(group: Tokens | ToolKeys, present: frozenset[str]) -> Tokens | ToolKeys:
    changes: dict[str, Any] = {
        item.name: _keys(value, present)
        for item in fields(group)
        if isinstance(value := getattr(group, item.name), tuple)
    }
    narrowed = replace(group, **changes)
    return NO_TOKENS if narrowed == NO_TOKENS else narrowed


def _may_be(source: Source, scope: str, version: tuple[int, ...]) -> bool:
    return (
        scope.startswith(source.scope)
        and (not source.since or version >= source.since)
        and (not source.before or bool(version and version < source.before))
    )


COST_ALIASES = frozenset(
    {
        "gen_ai.usage.cost",
        "langfuse.observation.cost_details",
        "llm.cost.completion",
        "llm.cost.completion_details.output",
        "llm.cost.prompt",
        "llm.cost.prompt_details.cache_read",
        "llm.cost.prompt_details.cache_write",
        "llm.cost.prompt_details.input",
        "llm.cost.total",
        "mlflow.llm.cost",
        "operation.cost",
    }
)
"""Keys that other backends read a cost from: those that came in are never overwritten."""


def reported(keys: tuple[CostKey, ...], view: ScopedSpan) -> ReportedCost | None:
    """The first amount under `keys`."""
    for cost in keys:
        value = view.attributes.get(cost.key)
        if cost.path:
            value = texts.parse(value)
            for step in cost.path:
                value = value.get(step) if isinstance(value, Mapping) else None
        amount = money(value, cost.unit)
        if amount is not None:
            return ReportedCost(amount, cost.source == "billed", cost.key)
    return None
