"""Model keys: `provider:model`, and the few that are none (facts 1.5)."""

from __future__ import annotations

from typing import NamedTuple

DIRECT = frozenset({"anthropic", "openai", "google", "xai", "deepseek", "moonshotai", "zai"})
"""Providers under whose names Mux keeps the models that gateways resell."""

GATEWAYS = {"mux-gateway": "/", "openrouter": "/", "coder": "/", "bedrock": "."}
"""Gateways, and what stands between maker and model in their names."""

NO_MODEL = frozenset({"historical", "unknown", ""})
"""Keys of usage whose model is not known: made by a rebuild from old history."""

CONVENTION = {"google": "gcp.gemini", "xai": "x_ai", "bedrock": "aws.bedrock"}
"""Mux's provider names that the semantic conventions spell otherwise."""


class Model(NamedTuple):
    """How a span names a model; both empty where the key names none."""

    provider: str
    model: str


def model_of(key: str) -> Model:
    """What a model key names. Without a provider's name it is a bare model; ids may hold colons themselves."""
    if key in NO_MODEL:
        return Model("", "")
    provider, colon, model = key.partition(":")
    if not colon:
        return Model("", key)
    return Model(CONVENTION.get(provider, provider), model)


def canonical(name: str) -> str:
    """The key under which Mux keeps a model that is named so in a request: a known maker's behind its gateway."""
    provider, colon, model = name.partition(":")
    separator = GATEWAYS.get(provider)
    if not colon or separator is None:
        return name or "unknown"
    maker, found, rest = model.partition(separator)
    return f"{maker}:{rest}" if found and rest and maker in DIRECT else name
