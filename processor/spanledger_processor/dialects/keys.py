"""The keys of a dialect's tables: all of them, and those that spans of one shape have.

Spans come in few shapes. Asking every span for a hundred keys costs more than reading it; asking each shape once does
not: `specialize` leaves out of a dialect's tables what spans with certain keys do not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import chain
from typing import Any

from spanledger_processor.dialects.schema import (
    NO_TOKENS,
    CostKey,
    Dialect,
    Kinds,
    Mark,
    Source,
    Tokens,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.values import version_of

_LISTS = (
    "request_model",
    "response_model",
    "provider",
    "response_id",
    "answers",
    "served",
    "asked",
    "served_in",
    "asked_in",
    "endpoints",
    "output_type",
    "offers",
    "answered",
    "agent",
    "agent_parent",
)
_ROWS = ("kinds", "usage_texts", "fallback_texts", "costs", "own_cache", "subscription")
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
    """Return the dialect with only the keys, and only the sources, that spans of a shape can have."""
    changes: dict[str, Any] = {name: _keys(getattr(dialect, name), present) for name in _LISTS}
    changes |= {name: tuple(row for row in getattr(dialect, name) if row.key in present) for name in _ROWS}
    changes |= {name: _group(getattr(dialect, name), present) for name in _GROUPS}
    parsed = version_of(version)
    if not dialect.fixed_provider and not changes["provider"]:
        changes["fixed_provider"] = SCOPES.get(scope.rpartition(".")[2].rpartition("-")[2], "")
    changes["sources"] = tuple(source for source in dialect.sources if _may_be(source, present, scope, parsed))
    return replace(dialect, **changes)


def keys_of(dialect: Dialect) -> Iterator[str]:
    """Yield every key that a dialect's tables ask for."""
    yield from (*dialect.detection.keys, *dialect.detection.requires)
    for name in _LISTS:
        yield from getattr(dialect, name)
    for name in _ROWS:
        rows: tuple[Kinds | UsageText | CostKey | Mark, ...] = getattr(dialect, name)
        yield from (row.key for row in rows)
    for source in dialect.sources:
        yield from (*source.has, *source.lacks)
    for cost in dialect.costs:
        yield from (*cost.upstream, *cost.own_key, cost.currency, cost.said_by)
    for name in _GROUPS:
        yield from keys_in(getattr(dialect, name))


def keys_in(group: Tokens | ToolKeys) -> Iterator[str]:
    """Yield every key of a group of a dialect's tables."""
    for item in fields(group):
        value = getattr(group, item.name)
        if isinstance(value, Mapping):
            yield from chain.from_iterable(value.values())
        elif isinstance(value, tuple):
            yield from value


def _keys(keys: tuple[str, ...], present: frozenset[str]) -> tuple[str, ...]:
    return tuple(key for key in keys if key in present)


def _group(group: Tokens | ToolKeys, present: frozenset[str]) -> Tokens | ToolKeys:
    changes: dict[str, Any] = {}
    for item in fields(group):
        value = getattr(group, item.name)
        if isinstance(value, Mapping):
            changes[item.name] = {name: left for name, keys in value.items() if (left := _keys(keys, present))}
        elif isinstance(value, tuple):
            changes[item.name] = _keys(value, present)
    narrowed = replace(group, **changes)
    return NO_TOKENS if narrowed == NO_TOKENS else narrowed


def _may_be(source: Source, present: frozenset[str], scope: str, version: tuple[int, ...]) -> bool:
    return (
        scope.startswith(source.scope)
        and (not source.has or not present.isdisjoint(source.has))
        and (not source.lacks or present.isdisjoint(source.lacks))
        and (not source.since or version >= source.since)
        and (not source.before or bool(version and version < source.before))
    )
