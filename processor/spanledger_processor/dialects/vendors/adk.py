"""Google's Agent Development Kit."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.schema import (
    ANSWER,
    ANY_INPUT,
    ContentKeys,
    Detection,
    GroupingKeys,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.vendors.otel import OTEL, TOKENS
from spanledger_processor.model import Kind

_NAMES: tuple[tuple[str, Kind], ...] = (
    ("call_llm", "llm"),
    ("execute_tool", "tool"),
    ("invoke_agent", "agent"),
    ("agent_run", "agent"),
    ("invocation", "workflow"),
)
"""Beginnings of span names, by which early versions told the kind."""


def _kind(view: ScopedSpan) -> Kind | None:
    if "gen_ai.operation.name" in view.attributes:
        return None
    return next((kind for start, kind in _NAMES if view.name.startswith(start)), None)


ADK = replace(
    OTEL,
    name="adk",
    precedence=Precedence.CONVENTION_KEYS,
    rank=3,
    about="Google Agent Development Kit",
    detection=Detection(
        keys=("gcp.vertex.agent.event_id", "gcp.vertex.agent.invocation_id", "gcp.vertex.agent.llm_response"),
        scopes=("gcp.vertex.agent",),
        requires=("gen_ai.operation.name", "gen_ai.system"),
    ),
    kind_of=_kind,
    response_id=("gen_ai.response.id", "gcp.vertex.agent.event_id"),
    content=ContentKeys(
        keys={
            "gcp.vertex.agent.llm_request": ANY_INPUT,
            "gcp.vertex.agent.llm_response": ANSWER,
            "gcp.vertex.agent.tool_call_args": ("tool_arguments",),
            "gcp.vertex.agent.tool_response": ("tool_results",),
            "gcp.vertex.agent.data": ANY_INPUT,
        },
        prefixes=("gcp.vertex.agent.",),
        plain=(
            "gcp.vertex.agent.event_id",
            "gcp.vertex.agent.invocation_id",
            "gcp.vertex.agent.session_id",
            "gcp.vertex.agent.tool_name",
            "gcp.vertex.agent.associated_event_ids",
        ),
    ),
    prices_events=True,
    notes=("Its log events name no model: they are calls of that of the span that they belong to.",),
    tokens=replace(TOKENS, reasoning=(*TOKENS.reasoning, "gen_ai.usage.experimental.reasoning_tokens")),
    usage_texts=(UsageText("gcp.vertex.agent.llm_response"),),
    fallback_texts=(UsageText("gcp.vertex.agent.llm_response"),),
    sources=(
        Source(
            Input.INCLUSIVE,
            since=(2, 3),
            absent_cache_is_zero=True,
            why="Gemini's counts, without those of 0; thoughts and tool tokens are added",
            package="pypi:google-adk",
            read=("2.3.0", "2.13.0"),
        ),
        Source(
            Input.INCLUSIVE,
            before=(2, 3),
            output=Output.EXCLUSIVE,
            why="candidates only; thoughts stand beside them or in the response's JSON, which has all classes",
            package="pypi:google-adk",
            read=("0.1.0", "2.2.0"),
        ),
        Source(Input.INCLUSIVE, why="Gemini's counts"),
    ),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "gcp.vertex.agent.tool_call_args"),
        result=("gen_ai.tool.call.result", "gcp.vertex.agent.tool_response"),
        call_id=("gen_ai.tool.call.id",),
    ),
    groups=GroupingKeys(
        session=("gen_ai.conversation.id", "gcp.vertex.agent.session_id"), run=("gcp.vertex.agent.invocation_id",)
    ),
)
