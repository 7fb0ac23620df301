"""OpenAI Codex's own spans: usage on `handle_responses`, tools where a call is dispatched."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.schema import (
    ContentKeys,
    Detection,
    GroupingKeys,
    LogEvent,
    Mark,
    Precedence,
    ScopedSpan,
    Source,
    Tokens,
    ToolKeys,
    has,
)
from spanledger_processor.dialects.vendors.otel import OTEL, TOKENS
from spanledger_processor.model import Kind

_LOGIN = Mark("auth_mode", ("chatgpt", "chatgpt_auth_tokens", "chatgptauthtokens"))
"""A ChatGPT plan pays; with "ApiKey" the call is billed (codex-rs/otel, `TelemetryAuthMode`)."""


def _kind(view: ScopedSpan) -> Kind | None:
    if view.attributes.get("codex.tool.phase") == "dispatch":
        return "tool"
    return "llm" if has(view, *TOKENS.input) else None


CODEX = replace(
    OTEL,
    name="codex",
    precedence=Precedence.CODING_AGENT,
    rank=2,
    about="OpenAI Codex CLI spans",
    detection=Detection(
        keys=("codex.usage.total_tokens", "codex.usage.reasoning_output_tokens", "codex.tool.phase"),
        scopes=("codex",),
        requires=TOKENS.input,
    ),
    kinds=(),
    kind_of=_kind,
    kind_else=None,
    fixed_provider="openai",
    tokens=Tokens(
        input=TOKENS.input,
        output=TOKENS.output,
        total=("codex.usage.total_tokens",),
        cache_read=TOKENS.cache_read,
        cache_write=TOKENS.cache_write,
        reasoning=("codex.usage.reasoning_output_tokens", *TOKENS.reasoning),
    ),
    content=ContentKeys(
        keys={
            "arguments": ("tool_arguments",),
            "output": ("tool_results",),
            "prompt": ("prompts",),
            "cwd": ("prompts",),
        },
    ),
    subscription=(_LOGIN,),
    sources=(Source(why="copies OpenAI's counts"),),
    tool=ToolKeys(name=("tool_name",), arguments=("arguments",), call_id=("call_id",)),
    groups=GroupingKeys(session=("conversation.id",)),
    notes=("Tool arguments are in the log event `codex.tool_result` only.",),
)

_CODEX_TOKENS = Tokens(
    input=("input_token_count",),
    output=("output_token_count",),
    cache_read=("cached_token_count",),
    cache_write=("cache_write_token_count",),
    reasoning=("reasoning_token_count",),
)

LOG_EVENTS = (
    LogEvent(
        client="codex",
        names=("codex.sse_event",),
        operation="chat",
        condition={"event.kind": "response.completed"},
        model=("model", "slug"),
        fixed_provider="openai",
        session=("conversation.id",),
        request_id=("response_id", "response.id"),
        tokens=_CODEX_TOKENS,
        subscription=(_LOGIN,),
        duration_ms=("duration_ms",),
    ),
    LogEvent(
        client="codex",
        names=("codex.tool_result",),
        operation="execute_tool",
        session=("conversation.id",),
        duration_ms=("duration_ms",),
        tool_name=("tool_name",),
        arguments=("arguments",),
        call_id=("call_id",),
        failed={"success": "false"},
    ),
)
