"""Keys that other backends read a cost from, and how each is written (docs/contract.md#aliases).

Only totals are sure to be what counts. Parts are written where they add up to it, that is where it was computed here.
JSON-valued keys hold JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from spanledger_processor.model import Cost
from spanledger_processor.otlp.encoding import double, text
from spanledger_processor.units import USD, Pico

_Alias: TypeAlias = Callable[[Cost, Pico], bytes]


def _total(key: str) -> _Alias:
    piece = double(key)
    return lambda _, amount: piece(amount / USD)


def _part(key: str, *fields: str) -> _Alias:
    piece = double(key)
    return lambda cost, amount: (
        piece(sum(getattr(cost, field) for field in fields) / USD) if _adds_up(cost, amount) else b""
    )


def _json(key: str, total: str, parts: Mapping[str, tuple[str, ...]]) -> _Alias:
    piece = text(key)

    def alias(cost: Cost, amount: Pico) -> bytes:
        amounts = {total: amount}
        if _adds_up(cost, amount):
            amounts |= {name: sum(getattr(cost, field) for field in fields) for name, fields in parts.items()}
        return piece(json.dumps({name: value / USD for name, value in amounts.items()}))

    return alias


def _adds_up(cost: Cost, amount: Pico) -> bool:
    """Whether the computed parts are parts of what counts; a billed cost has none that are known."""
    return cost.computed == amount


_PROMPT = ("input", "cache_read", "cache_write")

ALIASES: Mapping[str, _Alias] = {
    "gen_ai.usage.cost": _total("gen_ai.usage.cost"),
    "operation.cost": _total("operation.cost"),
    "llm.cost.total": _total("llm.cost.total"),
    "llm.cost.prompt": _part("llm.cost.prompt", *_PROMPT),
    "llm.cost.prompt_details.input": _part("llm.cost.prompt_details.input", "input"),
    "llm.cost.prompt_details.cache_read": _part("llm.cost.prompt_details.cache_read", "cache_read"),
    "llm.cost.prompt_details.cache_write": _part("llm.cost.prompt_details.cache_write", "cache_write"),
    "llm.cost.completion": _part("llm.cost.completion", "output"),
    "llm.cost.completion_details.output": _part("llm.cost.completion_details.output", "output"),
    "langfuse.observation.cost_details": _json(
        "langfuse.observation.cost_details",
        "total",
        {
            "input": ("input",),
            "input_cached_tokens": ("cache_read",),
            "input_cache_creation": ("cache_write",),
            "output": ("output",),
            "other": ("other",),
        },
    ),
    "mlflow.llm.cost": _json("mlflow.llm.cost", "total_cost", {"input_cost": _PROMPT, "output_cost": ("output",)}),
}
"""Keys of other backends and how each is written from a cost and the amount that counts."""


def alias_keys(aliases: Iterable[str]) -> tuple[str, ...]:
    """The keys that the aliases of a configuration stand for: `llm.cost.*` is every key that begins so."""
    wanted = [alias.removesuffix("*") for alias in aliases if alias.endswith("*")]
    exact = frozenset(aliases)
    return tuple(key for key in ALIASES if key in exact or key.startswith(tuple(wanted)))
