"""Datadog's tracer through its OpenTelemetry bridge."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import Detection, Precedence, Source
from spanledger_processor.dialects.vendors.otel import OTEL

DDTRACE = replace(
    OTEL,
    name="ddtrace",
    precedence=Precedence.CONVENTION_KEYS,
    rank=12,
    about="Datadog ddtrace, OpenTelemetry bridge",
    detection=Detection(keys=("gen_ai.usage.cache_write_input_tokens", "gen_ai.usage.reasoning_output_tokens")),
    sources=(
        Source(
            Input.INCLUSIVE,
            why="adds the classes up; releases before 4.15 write none of these keys",
            package="pypi:ddtrace",
            read=("4.15.0", "4.16.0"),
        ),
    ),
)
