"""Anthropic's SDKs and API spans: the convention, and the split of cache writes."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.counts import Input
from spanledger_processor.dialects.dialect import Signs, Source
from spanledger_processor.dialects.otel import OTEL

ANTHROPIC = replace(
    OTEL,
    name="anthropic",
    about="Anthropic SDK and API spans",
    signs=Signs(
        keys=("anthropic.request.id", "anthropic.usage.cache_creation.ephemeral_1h_input_tokens"),
        scopes=("com.anthropic.sdk", "com.anthropic.claude-platform"),
        marks=("gen_ai.operation.name",),
    ),
    fixed_provider="anthropic",
    sources=(Source(Input.INCLUSIVE, why="follows the convention"),),
)
