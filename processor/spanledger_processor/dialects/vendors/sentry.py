"""Sentry's SDKs."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    CostKey,
    Detection,
    GroupingKeys,
    Kinds,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
)
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.vendors.otel import OPERATIONS, OTEL, TOKENS
from spanledger_processor.model import Kind

_OPS: dict[str, Kind] = {
    **OPERATIONS,
    "request": "llm",
    "generate_text": "llm",
    "stream_text": "llm",
    "generate_object": "llm",
    "stream_object": "llm",
    "embed": "embedding",
    "embed_many": "embedding",
    "pipeline": "workflow",
    "handoff": "other",
}


def _kind(view: ScopedSpan) -> Kind | None:
    op = text(view.attributes.get("sentry.op"))
    return _OPS.get(op.removeprefix("gen_ai."), "other") if op.startswith("gen_ai.") else None


SENTRY = replace(
    OTEL,
    name="sentry",
    precedence=Precedence.CONVENTION_KEYS,
    rank=9,
    about="Sentry SDKs",
    detection=Detection(keys=("sentry.op",)),
    kind_of=_kind,
    kinds=(Kinds("gen_ai.operation.name", _OPS),),
    tokens=replace(
        TOKENS,
        cache_read=(*TOKENS.cache_read, "gen_ai.usage.input_tokens.cached"),
        cache_write=(*TOKENS.cache_write, "gen_ai.usage.input_tokens.cache_write"),
        reasoning=(*TOKENS.reasoning, "gen_ai.usage.output_tokens.reasoning"),
    ),
    sources=(
        Source(
            Input.UNSURE,
            providers=("anthropic",),
            why="copied Anthropic's own counts up to 2.53, then adds the classes up; no version is reported",
            package="pypi:sentry-sdk",
            read=("2.50.0", "2.75.0"),
        ),
        Source(
            Input.INCLUSIVE,
            why="Sentry's documentation asks for it",
            package="pypi:sentry-sdk",
            read=("2.50.0", "2.75.0"),
        ),
    ),
    costs=(CostKey("gen_ai.cost.total_tokens"), CostKey("ai.total_cost")),
    content=ContentKeys(
        keys={
            "gen_ai.request.messages": ANY_INPUT,
            "gen_ai.response.text": ("completions",),
            "gen_ai.response.tool_calls": ("tool_arguments",),
            "gen_ai.request.available_tools": ("system_instructions",),
            "gen_ai.tool.input": ("tool_arguments",),
            "gen_ai.tool.output": ("tool_results",),
        },
        plain=("gen_ai.pipeline.name",),
    ),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "gen_ai.tool.input"),
        result=("gen_ai.tool.call.result", "gen_ai.tool.output"),
        call_id=("gen_ai.tool.call.id",),
    ),
    groups=GroupingKeys(session=("gen_ai.conversation.id",)),
    notes=("`gen_ai.cost.total_tokens` is USD, whatever its name says.",),
)
