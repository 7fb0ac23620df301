"""Anthropic's SDKs and API spans: the convention, and the split of cache writes."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import Detection, Precedence, Source
from spanledger_processor.dialects.vendors.otel import OTEL

ANTHROPIC = replace(
    OTEL,
    name="anthropic",
    precedence=Precedence.CONVENTION_KEYS,
    rank=8,
    about="Anthropic SDK and API spans",
    detection=Detection(
        keys=("anthropic.request.id", "anthropic.usage.cache_creation.ephemeral_1h_input_tokens"),
        scopes=("com.anthropic.sdk", "com.anthropic.claude-platform"),
        requires=("gen_ai.operation.name",),
    ),
    fixed_provider="anthropic",
    sources=(Source(Input.INCLUSIVE, why="follows the convention"),),
)
