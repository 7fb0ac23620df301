"""LiveKit Agents: the convention's keys, and metrics as JSON."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.counts import Input
from spanledger_processor.dialects.dialect import Groups, Signs, Source, ToolKeys, UsageText
from spanledger_processor.dialects.otel import OTEL, TOKENS
from spanledger_processor.dialects.view import View, has
from spanledger_processor.model import Kind


def _kind(view: View) -> Kind | None:
    return "tool" if has(view, "lk.function_tool.name") else None


LIVEKIT = replace(
    OTEL,
    name="livekit",
    about="LiveKit Agents",
    signs=Signs(keys=("lk.function_tool.name", "lk.llm_metrics", "lk.response.ttft")),
    kind_of=_kind,
    tokens=replace(TOKENS, cache_read=(*TOKENS.cache_read, "gen_ai.usage.input_cached_tokens")),
    usage_texts=(UsageText("lk.llm_metrics"),),
    sources=(Source(Input.INCLUSIVE, why="OpenAI's shape; metrics have the cached part"),),
    tool=ToolKeys(
        name=("lk.function_tool.name",),
        arguments=("lk.pii.function_tool.arguments", "lk.function_tool.arguments"),
        call_id=("lk.function_tool.id",),
    ),
    groups=Groups(session=("lk.job_id", "lk.session_id")),
)
