"""session-usage.json as a value: cumulative usage by model, the last request, and children rolled up (facts 1.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spanledger_sidecar.tokens import ZERO, Five
from spanledger_sidecar.values import UnreadableError, count, nested, text

VERSION = 1
_CLASSES = ("input", "cached", "cacheCreate", "output", "reasoning")
_CHILD_CLASSES = ("inputTokens", "cachedTokens", "cacheCreateTokens", "outputTokens", "reasoningTokens")
_PICO = 10**12
_DEAREST = 10**5
"""USD; what a file says beyond it is no cost, and the sums stay within 63 bits."""
_VAGUE_TIERS = frozenset({"unknown", "mixed", "standard"})


@dataclass(frozen=True, slots=True)
class Bucket:
    """Usage under one model key. `cost` is in picodollars and says nothing where not `complete` (facts 1.4)."""

    tokens: Five = ZERO
    cost: Five = ZERO
    complete: bool = True
    included: bool = False
    tier: str = ""
    named: str = ""
    """The model as the only request so far named it; empty once there were several."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The last request: its model's key, its exact usage, and its end."""

    key: str
    bucket: Bucket
    end_ms: int


@dataclass(frozen=True, slots=True)
class Child:
    """What a parent's file says of a child that was rolled up into it. `tokens` is None where it does not say."""

    tokens: Five | None = None
    total: int | None = None
    cost: int | None = None
    agent_type: str = ""
    model_key: str = ""


@dataclass(frozen=True, slots=True)
class UsageFile:
    """One version of the file."""

    models: dict[str, Bucket] = field(default_factory=dict)
    last: Turn | None = None
    children: dict[str, Child] = field(default_factory=dict)


def parse(document: dict[str, Any]) -> UsageFile:
    """Read the document; parts that are no usage count as none (facts 1.7).

    Raises:
        UnreadableError: it is of a version that is not known.
    """
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        shown = version if isinstance(version, int) else "another kind"
        raise UnreadableError(f"is of version {shown}, only version {VERSION} is known")
    models = document.get("byModel")
    if not isinstance(models, dict):
        raise UnreadableError("has no usage by model (byModel)")
    children = document.get("rolledUpFrom")
    return UsageFile(
        {text(key): bucket_of(value) for key, value in models.items() if isinstance(value, dict)},
        _turn(document.get("lastRequest")),
        {text(key): _child(value) for key, value in children.items() if value} if isinstance(children, dict) else {},
    )


def bucket_of(value: dict[str, Any]) -> Bucket:
    """One Usage object."""
    tokens = Five(*(count(nested(value, name, "tokens")) for name in _CLASSES))
    costs = [_money(nested(value, name, "cost_usd")) for name in _CLASSES]
    known = all(cost is not None or not used for cost, used in zip(costs, tokens, strict=True))
    tier = text(value.get("serviceTier"))
    return Bucket(
        tokens,
        Five(*(cost or 0 for cost in costs)),
        known and not value.get("hasUnknownCosts"),
        value.get("costsIncluded") is True,
        "" if tier in _VAGUE_TIERS else tier,
        text(value.get("model")),
    )


def _money(value: Any) -> int | None:
    """USD as picodollars; None for what is no amount of money."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _DEAREST:
        return None
    return round(value * _PICO)


def _turn(value: Any) -> Turn | None:
    usage, key, end_ms = nested(value, "usage"), text(nested(value, "model")), count(nested(value, "timestamp"))
    if not isinstance(usage, dict) or not key or not end_ms:
        return None
    return Turn(key, bucket_of(usage), end_ms)


def _child(value: Any) -> Child:
    """A child's entry: `true` from older versions, totals by class from newer ones (facts 1.2)."""
    if not isinstance(value, dict):
        return Child()
    by_class = Five(*(count(value.get(name)) for name in _CHILD_CLASSES))
    known = any(name in value for name in _CHILD_CLASSES)
    total = count(value.get("totalTokens")) if "totalTokens" in value else None
    cost = _money(value.get("totalCostUsd"))
    named = text(value.get("model"))
    return Child(by_class if known else None, total, cost, text(value.get("agentType")), named)
