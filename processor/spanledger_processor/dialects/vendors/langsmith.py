"""LangSmith's OpenTelemetry exporter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Counts, Input, normalize
from spanledger_processor.dialects.schema import (
    Detection,
    GroupingKeys,
    Kinds,
    Place,
    ScopedSpan,
    Source,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.values import NoCountError, count
from spanledger_processor.dialects.vendors.otel import OTEL
from spanledger_processor.model import Call


def _details(view: ScopedSpan, call: Call) -> None:
    """The parts of input and output, in JSON of their own."""
    if call.usage is None or call.usage.input is None:
        return
    inputs, outputs = (
        _object(view, "gen_ai.usage.input_token_details"),
        _object(view, "gen_ai.usage.output_token_details"),
    )
    try:
        counts = Counts(
            call.usage.input,
            call.usage.output,
            cache_read=count(inputs.get("cache_read")),
            cache_write=count(inputs.get("cache_creation")),
            cache_write_5m=count(inputs.get("ephemeral_5m_input_tokens")),
            cache_write_1h=count(inputs.get("ephemeral_1h_input_tokens")),
            reasoning=count(outputs.get("reasoning")),
        )
    except NoCountError:
        call.problem = "a token count that is none"
        return
    if inputs or outputs:
        normalized = normalize(counts, Input.INCLUSIVE)
        call.usage, call.problem = normalized.usage, normalized.problem


def _object(view: ScopedSpan, key: str) -> Mapping[str, Any]:
    value = texts.parse(view.attributes.get(key))
    return value if isinstance(value, Mapping) else {}


LANGSMITH = replace(
    OTEL,
    name="langsmith",
    place=Place.OWN_KEYS,
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
    usage_texts=(UsageText("gen_ai.completion"),),
    sources=(Source(Input.INCLUSIVE, why="LangChain's usage_metadata"),),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "gen_ai.prompt"),
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
    rules=(_details,),
    notes=("`langsmith.trace.session_id` is the project: it names no session.",),
)
