"""LangSmith's OpenTelemetry exporter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Counts, Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    Detection,
    GroupingKeys,
    Kinds,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.usage_objects import read_counts, read_terms
from spanledger_processor.dialects.vendors.otel import OTEL


def _details(view: ScopedSpan, counts: Counts) -> None:
    """Add the parts of input and output, which stand in JSON of their own, and whose names may hold a tier."""
    inputs = _object(view, "gen_ai.usage.input_token_details")
    outputs = _object(view, "gen_ai.usage.output_token_details")
    if not (inputs or outputs):
        return
    # LangChain's form of usage (`usage_shapes`), put together again.
    whole = {
        "input_tokens": counts.input,
        "output_tokens": counts.output,
        "total_tokens": (counts.input or 0) + (counts.output or 0),
        "input_token_details": inputs,
        "output_token_details": outputs,
    }
    read = read_counts(whole)
    if read is None:
        return
    counts.cache_read, counts.cache_write = read.cache_read, read.cache_write
    counts.cache_write_5m, counts.cache_write_1h = read.cache_write_5m, read.cache_write_1h
    counts.reasoning, counts.parts = read.reasoning, read.parts
    counts.terms = read_terms(whole)


def _object(view: ScopedSpan, key: str) -> Mapping[str, Any]:
    value = texts.parse(view.attributes.get(key))
    return value if isinstance(value, Mapping) else {}


_METADATA = "langsmith.metadata.usage_metadata"
"""A run's usage that its outputs do not hold, or whose outputs are hidden."""

LANGSMITH = replace(
    OTEL,
    name="langsmith",
    precedence=Precedence.OWN_KEYS,
    rank=6,
    about="LangSmith SDK, exporting OpenTelemetry",
    detection=Detection(keys=("langsmith.span.kind",)),
    kind_else=None,
    kinds=(
        Kinds(
            "langsmith.span.kind",
            {
                "llm": "llm",
                "embedding": "embedding",
                "retriever": "retrieval",
                "tool": "tool",
                "chain": "workflow",
                "agent": "agent",
                "prompt": "other",
                "parser": "other",
            },
        ),
    ),
    otherwise="other",
    request_model=("gen_ai.request.model", "ls.model_name", "langsmith.metadata.ls_model_name"),
    provider=("gen_ai.provider.name", "gen_ai.system", "langsmith.metadata.ls_provider"),
    answers=("gen_ai.completion",),
    usage_texts=(
        UsageText("gen_ai.completion"),
        UsageText(_METADATA),
        UsageText(_METADATA, whole=True),
    ),
    sources=(
        Source(Input.INCLUSIVE, why="LangChain's usage_metadata", package="pypi:langsmith", read=("0.3.18", "0.15.1")),
    ),
    content=ContentKeys(
        keys={
            "langsmith.metadata.user*": ("user_ids",),
            "langsmith.span.inputs": ANY_INPUT,
            "langsmith.span.outputs": ANY_INPUT,
        },
        prefixes=("langsmith.",),
        plain=(
            "langsmith.metadata.ls_*",
            "langsmith.metadata.lc_*",
            "langsmith.metadata.langgraph_*",
            "langsmith.span.kind",
            "langsmith.span.id",
            "langsmith.span.parent_id",
            "langsmith.span.dotted_order",
            "langsmith.trace.*",
            "langsmith.span.tags",
        ),
    ),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "gen_ai.prompt"),
        result=("gen_ai.tool.call.result", "gen_ai.completion"),
        call_id=("gen_ai.tool.call.id",),
        name_from_span=True,
    ),
    groups=GroupingKeys(
        session=(
            "langsmith.metadata.session_id",
            "langsmith.metadata.thread_id",
            "langsmith.metadata.conversation_id",
        )
    ),
    completes=_details,
    notes=("`langsmith.trace.session_id` is the project: it names no session.",),
)
