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
    Library,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
    UsageText,
    has,
)
from spanledger_processor.dialects.texts import parse
from spanledger_processor.dialects.values import count, text
from spanledger_processor.dialects.vendors.otel import OTEL, TOKENS
from spanledger_processor.model import Call, Kind

_NAMES: tuple[tuple[str, Kind], ...] = (
    ("call_llm", "llm"),
    ("execute_tool", "tool"),
    ("invoke_agent", "agent"),
    ("agent_run", "agent"),
    ("invocation", "workflow"),
)
"""Beginnings of span names, by which early versions reported the kind."""

_OPENAI = ("gpt-", "o1", "o3", "o4", "chatgpt-")
_OF_GOOGLE = frozenset({"models", "projects", "publishers", "tunedModels"})
"""Beginnings of the paths that name Gemini models."""
_ANSWER = "gcp.vertex.agent.llm_response"
_REASONING = (*TOKENS.reasoning, "gen_ai.usage.experimental.reasoning_tokens")
_IN_ANSWER = (
    ("usage_metadata", "prompt_token_count", "tool_use_prompt_token_count"),
    ("usageMetadata", "promptTokenCount", "toolUsePromptTokenCount"),
)
"""The counts in the answer on a span of ADK for Python, and for JavaScript."""


def _kind(view: ScopedSpan) -> Kind | None:
    if "gen_ai.operation.name" in view.attributes:
        return None
    return next((kind for start, kind in _NAMES if view.name.startswith(start)), None)


def _counts(view: ScopedSpan, counts: Counts) -> None:
    """Add the tokens of tools' results to an input that copies `prompt_token_count` alone, as up to 2.2.

    Where LiteLLM or Apigee stand behind ADK, candidates are OpenAI's completion tokens, which hold the reasoning;
    from 2.3 on it is added to them once more (`_model_response_to_generate_content_response`, 2.13.0).
    """
    if counts.reasoning and counts.output is not None and counts.output >= counts.reasoning and _of_openai(view):
        counts.output -= counts.reasoning
    answer = parse(view.attributes.marked(_ANSWER, (b"tool_use_prompt_token", b"toolUsePromptToken")))
    if not isinstance(answer, Mapping) or counts.input is None:
        return
    for usage, prompt, of_tools in _IN_ANSWER:
        counted = answer.get(usage)
        if isinstance(counted, Mapping) and counted.get(prompt) == counts.input:
            counts.input += count(counted.get(of_tools)) or 0
            return


def _of_openai(view: ScopedSpan) -> bool:
    """Return whether a model's name is one of LiteLLM's, or of OpenAI's by Apigee: Gemini's and Anthropic's are not."""
    model = text(view.attributes.get("gen_ai.request.model"))
    first, slash, rest = model.partition("/")
    if not slash:
        return model.startswith(_OPENAI)
    return first not in _OF_GOOGLE and not (first == "apigee" and "gemini" in rest)


def _other_models(view: ScopedSpan, call: Call) -> None:
    """Take classes that are not reported of a model that is not Gemini as unknown.

    ADK writes the counts of all models as Gemini's, which leaves out classes of 0; its adapters leave out those that
    they do not read: LiteLLM's and Anthropic's reported no caches up to 1.x, Apigee's tells none in 2.13.0.
    """
    usage = call.usage
    if usage is None or "gemini" in call.model.lower() or "/endpoints/" in call.model:
        return
    if (
        not usage.cache_read
        and not has(view, *TOKENS.cache_read)
        and not _in_answer(view, b"cached_content_token", b"cachedContentToken")
    ):
        usage.cache_read = None
    if not usage.cache_write and not has(view, *TOKENS.cache_write):
        usage.cache_write = None
    if not usage.reasoning and not has(view, *_REASONING) and not _in_answer(view, b"thoughts_token", b"thoughtsToken"):
        usage.reasoning = None


def _in_answer(view: ScopedSpan, *marks: bytes) -> bool:
    return bool(view.attributes.marked(_ANSWER, marks))


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
    libraries=(Library("gcp.vertex.agent", holds_steps=True),),
    notes=(
        "Its log events name no model: they are calls of that of the span that they belong to.",
        "With LiteLLM's models the output on the span holds the reasoning twice: it is taken off.",
        "Classes that are not reported of another model than Gemini are unknown: ADK's adapters may not read them.",
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
    completes=_counts,
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
