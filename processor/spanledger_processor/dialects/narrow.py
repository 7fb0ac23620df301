"""A dialect's tables for spans with certain keys: what such a span does not have is left out.

Spans come in few shapes. Asking every span for a hundred keys costs more than reading it; asking each shape once
does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from spanledger_processor.dialects.dialect import (
    NO_TOKENS,
    CostKey,
    Dialect,
    Kinds,
    Source,
    Tokens,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.values import version_of

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


def narrow(dialect: Dialect, present: frozenset[str], scope: str, version: str) -> Dialect:
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
    yield from (*dialect.signs.keys, *dialect.signs.marks)
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
