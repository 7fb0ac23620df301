"""LiveKit Agents: the convention's keys, and metrics as JSON."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import (
    ANSWER,
    ANY_INPUT,
    ContentKeys,
    Detection,
    FirstToken,
    GroupingKeys,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
    UsageText,
    has,
)
from spanledger_processor.dialects.vendors.otel import OTEL, TOKENS
from spanledger_processor.model import Kind


def _kind(view: ScopedSpan) -> Kind | None:
    return "tool" if has(view, "lk.function_tool.name") else None


LIVEKIT = replace(
    OTEL,
    name="livekit",
    precedence=Precedence.OWN_KEYS,
    rank=11,
    about="LiveKit Agents",
    detection=Detection(
        keys=("lk.function_tool.name", "lk.llm_metrics", "lk.realtime_model_metrics", "lk.response.ttft")
    ),
    kind_of=_kind,
    tokens=replace(
        TOKENS,
        cache_read=(*TOKENS.cache_read, "gen_ai.usage.input_cached_tokens"),
        parts={
            **TOKENS.parts,
            "input_audio": (*TOKENS.parts["input_audio"], "gen_ai.usage.input_audio_tokens"),
            "output_audio": (*TOKENS.parts["output_audio"], "gen_ai.usage.output_audio_tokens"),
        },
    ),
    usage_texts=(UsageText("lk.llm_metrics"),),
    content=ContentKeys(
        keys={
            "lk.function_tool.arguments": ("tool_arguments",),
            "lk.function_tool.output": ("tool_results",),
            "lk.pii.*": ANY_INPUT,
            "lk.chat_ctx": ANY_INPUT,
            "lk.user_transcript": ("prompts",),
            "lk.response.*": ANSWER,
            "lk.input_text": ("prompts",),
            "lk.instructions": ("system_instructions",),
            "lk.user_input": ("prompts",),
        },
        prefixes=("lk.",),
        plain=(
            "lk.job_id",
            "lk.session_id",
            "lk.agent_name",
            "lk.speech_id",
            "lk.function_tool.id",
            "lk.function_tool.name",
            "lk.function_tool.is_error",
            "lk.pii.function_tool.id",
            "lk.pii.function_tool.name",
            "lk.room_name",
            "lk.agent_label",
            "lk.generation_id",
            "lk.parent_generation_id",
            "lk.participant_*",
        ),
    ),
    first_token=(FirstToken("lk.response.ttft", "s"),),
    sources=(
        Source(
            Input.INCLUSIVE,
            why="OpenAI's shape; metrics have the cached part",
            package="pypi:livekit-agents",
            read=("1.2.0", "1.8.9"),
        ),
    ),
    tool=ToolKeys(
        name=("lk.function_tool.name",),
        arguments=("lk.pii.function_tool.arguments", "lk.function_tool.arguments"),
        result=("lk.pii.function_tool.output", "lk.function_tool.output"),
        call_id=("lk.function_tool.id",),
    ),
    groups=GroupingKeys(session=("lk.job_id", "lk.session_id")),
)
