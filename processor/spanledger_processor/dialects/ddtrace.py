"""Datadog's tracer through its OpenTelemetry bridge."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.counts import Input
from spanledger_processor.dialects.dialect import Signs, Source
from spanledger_processor.dialects.otel import OTEL

DDTRACE = replace(
    OTEL,
    name="ddtrace",
    about="Datadog ddtrace, OpenTelemetry bridge",
    signs=Signs(keys=("gen_ai.usage.cache_write_input_tokens", "gen_ai.usage.reasoning_output_tokens")),
    sources=(
        Source(Input.UNSURE, providers=("anthropic", "aws", "bedrock", "amazon"), why="not documented"),
        Source(Input.INCLUSIVE, why="the convention"),
    ),
)
