"""Pydantic AI."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Counts, Input, Output
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    CostKey,
    Detection,
    GroupingKeys,
    Precedence,
    ScopedSpan,
    Source,
    Tokens,
    ToolKeys,
    has,
)
from spanledger_processor.dialects.values import version_of
from spanledger_processor.dialects.vendors.otel import OTEL
from spanledger_processor.model import Call, Kind

_PACKAGE = "pypi:pydantic-ai-slim"


def _tokens(prefix: str) -> Tokens:
    details = f"{prefix}.details"
    return Tokens(
        input=(f"{prefix}.input_tokens",),
        output=(f"{prefix}.output_tokens",),
        cache_read=(
            f"{prefix}.cache_read.input_tokens",
            f"{details}.cache_read_tokens",
            f"{details}.cache_read_input_tokens",
            f"{details}.cached_tokens",
            f"{details}.cached_content_tokens",
        ),
        cache_write=(
            f"{prefix}.cache_creation.input_tokens",
            f"{prefix}.cache_write.input_tokens",
            f"{details}.cache_write_tokens",
            f"{details}.cache_creation_input_tokens",
        ),
        cache_write_5m=(f"{details}.ephemeral_5m_input_tokens",),
        cache_write_1h=(f"{details}.ephemeral_1h_input_tokens",),
        reasoning=(
            f"{prefix}.reasoning.output_tokens",
            f"{details}.reasoning_tokens",
            f"{details}.thoughts_tokens",
        ),
        parts={
            "input_audio": (
                f"{prefix}.audio.input_tokens",
                f"{details}.input_audio_tokens",
                f"{details}.audio_prompt_tokens",
            ),
            "input_image": (f"{details}.input_image_tokens", f"{details}.image_prompt_tokens"),
            "cache_read_audio": (f"{details}.cache_audio_read_tokens", f"{details}.audio_cache_tokens"),
            "cache_read_image": (f"{details}.image_cache_tokens",),
            "output_audio": (
                f"{prefix}.audio.output_tokens",
                f"{details}.output_audio_tokens",
                f"{details}.audio_candidates_tokens",
                f"{details}.audio_tokens",
            ),
            "output_image": (f"{details}.output_image_tokens", f"{details}.image_candidates_tokens"),
            "web_searches": (f"{details}.web_searches", f"{details}.web_search_requests"),
        },
        unclassed={
            "video tokens": (f"{details}.video_prompt_tokens", f"{details}.video_candidates_tokens"),
            "seconds of audio": (f"{details}.audio_seconds",),
            "code executions": (f"{details}.code_execution_requests",),
        },
    )


def _kind(view: ScopedSpan) -> Kind | None:
    """Return agent for a run of an early version, which has plain names of agent and model, and no operation."""
    if has(view, "agent_name") and has(view, "model_name") and not has(view, "gen_ai.operation.name"):
        return "agent"
    return None


_TELLS_HOURS = (2, 68)
"""The version from which writes for an hour are reported where there are any (seen; perhaps some earlier ones do)."""


_COPIES_OUTPUT_ALONE = (0, 8)
"""The version from which OpenAI's `audio_tokens` are the output's; before it, the prompt's were written over them."""


def _sound_of_the_prompt(view: ScopedSpan, counts: Counts) -> None:
    """Take `audio_tokens` of an early release for the input's."""
    parts, version = counts.parts or {}, version_of(view.scope_version)
    if version and version < _COPIES_OUTPUT_ALONE and "output_audio" in parts and "input_audio" not in parts:
        parts["input_audio"] = parts.pop("output_audio")


def _no_hours(view: ScopedSpan, call: Call) -> None:
    usage = call.usage
    if usage is None or not usage.cache_write or usage.cache_write_1h is not None:
        return
    if version_of(view.scope_version) >= _TELLS_HOURS:
        usage.cache_write_1h = 0


PYDANTIC_AI = replace(
    OTEL,
    name="pydantic_ai",
    precedence=Precedence.CONVENTION_KEYS,
    rank=2,
    about="Pydantic AI",
    detection=Detection(
        scopes=("pydantic-ai",),
        requires=("gen_ai.operation.name", "gen_ai.request.model", "gen_ai.tool.name", "gen_ai.usage.input_tokens"),
    ),
    content=ContentKeys(
        unread={
            "all_messages_events": ANY_INPUT,
            "model_request_parameters": ("system_instructions",),
            "pydantic_ai.all_messages": ANY_INPUT,
        },
        keys={
            "events": ANY_INPUT,
            "final_result": ("completions",),
            "tool_arguments": ("tool_arguments",),
            "tool_response": ("tool_results",),
        },
        prefixes=("pydantic_ai.",),
    ),
    kind_of=_kind,
    request_model=("gen_ai.request.model", "model_name"),
    tokens=_tokens("gen_ai.usage"),
    aggregated=_tokens("gen_ai.aggregated_usage"),
    sources=(
        Source(
            Input.EXCLUSIVE,
            providers=("bedrock", "aws"),
            before=(1, 40),
            absent_cache_is_zero=True,
            why="copies Bedrock's own counts",
            package=_PACKAGE,
            read=("0.0.55", "1.39.0"),
        ),
        Source(
            Input.EXCLUSIVE,
            providers=("anthropic",),
            before=(0, 1, 9),
            why="copies Anthropic's own counts",
            package=_PACKAGE,
            read=("0.0.55", "0.1.8"),
        ),
        Source(
            Input.INCLUSIVE,
            has=("gen_ai.client.operation.time_to_first_chunk",),
            lacks=("gen_ai.response.finish_reasons",),
            output=Output.BEGUN,
            absent_cache_is_zero=True,
            why="tells why an answer ended, and counts from the first event on",
            package=_PACKAGE,
            read=("2.68.0", "2.68.0"),
        ),
        Source(
            Input.INCLUSIVE,
            absent_cache_is_zero=True,
            why="adds the classes up and leaves out classes of 0",
            package=_PACKAGE,
            read=("0.1.9", "2.68.0"),
        ),
    ),
    costs=(CostKey("operation.cost", means_zero=True, same_list=True),),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "tool_arguments"),
        result=("gen_ai.tool.call.result", "tool_response"),
        call_id=("gen_ai.tool.call.id",),
    ),
    completes=_sound_of_the_prompt,
    rules=(_no_hours,),
    groups=GroupingKeys(session=("gen_ai.conversation.id",), run=("gen_ai.agent.call.id",)),
)
