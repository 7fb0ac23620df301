"""Gemini CLI and Qwen Code spans: the convention's keys with operations of their own."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Output
from spanledger_processor.dialects.schema import (
    ANSWER,
    ANY_INPUT,
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
)
from spanledger_processor.dialects.vendors.otel import OTEL
from spanledger_processor.model import Call


def _untold(_: ScopedSpan, call: Call) -> None:
    """Make no call of a span that says no more than that there was one (`telemetry.traces` is off, as by default)."""
    if call.kind == "llm" and call.usage is None and not call.model:
        call.kind = "other"
        call.note = call.note or "tells nothing of its call: the log event api_response does"


def _incomplete(_: ScopedSpan, call: Call) -> None:
    """Leave a span unpriced that lacks cached tokens (too high) and thoughts (too low); the log event has all."""
    if call.usage is not None and call.usage.output is not None and call.usage.reasoning is None:
        call.problem = "the span leaves cached tokens and thoughts out"
        call.note = call.note or "tokens without cached ones and thoughts: the log event api_response has them"


def _own_arguments(_: ScopedSpan, call: Call) -> None:
    """Keep the arguments alone of the whole request for the tool, which the span holds."""
    request = texts.parse(call.tool.arguments) if call.tool is not None else None
    if call.tool is not None and isinstance(request, dict) and "args" in request and "callId" in request:
        call.tool.arguments = request["args"]


GEMINI_CLI = replace(
    OTEL,
    name="gemini_cli",
    precedence=Precedence.CODING_AGENT,
    rank=3,
    about="Gemini CLI and Qwen Code spans",
    detection=Detection(scopes=("gemini-cli", "qwen-code"), requires=("gen_ai.operation.name",)),
    fixed_provider="gcp.gen_ai",
    sources=(
        Source(
            output=Output.EXCLUSIVE,
            why="candidates only; thoughts are in the log event",
            package="npm:@google/gemini-cli-core",
            read=("0.40.0", "0.61.0"),
        ),
    ),
    content=ContentKeys(
        keys={
            "function_args": ("tool_arguments",),
            "request_text": ANY_INPUT,
            "response_text": ANSWER,
            "prompt": ("prompts",),
            "reasoning": ("completions",),
            "error": ANY_INPUT,
            "args": ("tool_arguments",),
            "extensions": ANY_INPUT,
        },
    ),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "gen_ai.input", "gen_ai.input.messages"),
        call_id=("gen_ai.tool.call_id", "gen_ai.tool.call.id"),
    ),
    groups=GroupingKeys(session=("gen_ai.conversation.id", "sessionId", "session.id")),
    rules=(_untold, _incomplete),
    tool_rules=(_own_arguments, *OTEL.tool_rules),
    notes=(
        "Cached tokens and thoughts are in the log event `api_response` only: without it a call stays unpriced.",
        "A span that names no model (the CLI's default) counts as no call: its log event does.",
    ),
)

_GEMINI_TOKENS = Tokens(
    input=("input_token_count",),
    output=("output_token_count",),
    total=("total_token_count",),
    cache_read=("cached_content_token_count",),
    reasoning=("thoughts_token_count",),
    adds=("tool_token_count",),
)

_LOGINS = {"gemini_cli": Mark("auth_type", ("oauth-personal",)), "qwen_code": Mark("auth_type", ("qwen-oauth",))}
"""Logins whose calls are paid for by the seat, or are free up to a limit: `AuthType` in `core/contentGenerator`."""

LOG_EVENTS = (
    *(
        event
        for client, prefix in (("gemini_cli", "gemini_cli."), ("qwen_code", "qwen-code."))
        for event in (
            LogEvent(
                client=client,
                names=(f"{prefix}api_response",),
                operation="generate_content",
                model=("model",),
                fixed_provider="gcp.gen_ai" if client == "gemini_cli" else "",
                session=("session.id", "sessionId"),
                request_id=("response_id",),
                tokens=_GEMINI_TOKENS,
                output=Output.EXCLUSIVE if client == "gemini_cli" else Output.INCLUSIVE,
                duration_ms=("duration_ms",),
                subscription=(_LOGINS[client],),
            ),
            LogEvent(
                client=client,
                names=(f"{prefix}tool_call",),
                operation="execute_tool",
                session=("session.id", "sessionId"),
                duration_ms=("duration_ms",),
                tool_name=("function_name",),
                arguments=("function_args",),
                call_id=("call_id",),
                failed={"success": "false"},
            ),
        )
    ),
)
