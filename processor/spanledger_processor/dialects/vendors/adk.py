"""Google's Agent Development Kit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spanledger_processor.dialects.normalize import Counts, Input, Output
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
    has,
)
from spanledger_processor.dialects.texts import parse
from spanledger_processor.dialects.values import count
from spanledger_processor.dialects.vendors.otel import OTEL, TOKENS
from spanledger_processor.model import Call, Kind

_NAMES: tuple[tuple[str, Kind], ...] = (
    ("call_llm", "llm"),
    ("execute_tool", "tool"),
    ("invoke_agent", "agent"),
    ("agent_run", "agent"),
    ("invocation", "workflow"),
)
"""Beginnings of span names, by which early versions told the kind."""

_ANSWER = "gcp.vertex.agent.llm_response"
_REASONING = (*TOKENS.reasoning, "gen_ai.usage.experimental.reasoning_tokens")


def _kind(view: ScopedSpan) -> Kind | None:
    if "gen_ai.operation.name" in view.attributes:
        return None
    return next((kind for start, kind in _NAMES if view.name.startswith(start)), None)


def _tool_tokens(view: ScopedSpan, counts: Counts) -> None:
    """Add the tokens of tools' results to an input that copies `prompt_token_count` alone, as up to 2.2."""
    answer = parse(view.attributes.marked(_ANSWER, (b"tool_use_prompt_token",)))
    usage = answer.get("usage_metadata") if isinstance(answer, Mapping) else None
    if isinstance(usage, Mapping) and counts.input is not None and usage.get("prompt_token_count") == counts.input:
        counts.input += count(usage.get("tool_use_prompt_token_count")) or 0


def _other_models(view: ScopedSpan, call: Call) -> None:
    """Take classes that are not told of a model that is not Gemini as unknown.

    ADK writes the counts of all models as Gemini's, which leaves out classes of 0; its adapters leave out those that
    they do not read: LiteLLM's and Anthropic's told no caches up to 1.x, Apigee's tells none in 2.13.0.
    """
    usage = call.usage
    if usage is None or "gemini" in call.model.lower() or "/endpoints/" in call.model:
        return
    if not usage.cache_read and not has(view, *TOKENS.cache_read) and not _in_answer(view, b"cached_content_token"):
        usage.cache_read = None
    if not usage.cache_write and not has(view, *TOKENS.cache_write):
        usage.cache_write = None
    if not usage.reasoning and not has(view, *_REASONING) and not _in_answer(view, b"thoughts_token"):
        usage.reasoning = None


def _in_answer(view: ScopedSpan, mark: bytes) -> bool:
    return bool(view.attributes.marked(_ANSWER, (mark,)))


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
    notes=(
        "Its log events name no model: they are calls of that of the span that they belong to.",
        "Classes that are not told of another model than Gemini are unknown: ADK's adapters may not read them.",
    ),
    tokens=replace(TOKENS, reasoning=_REASONING),
    usage_texts=(UsageText(_ANSWER),),
    fallback_texts=(UsageText(_ANSWER),),
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
    completes=_tool_tokens,
    rules=(_other_models,),
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
