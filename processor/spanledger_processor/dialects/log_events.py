"""Which log events report a call, and where they say what: one table a client and event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spanledger_processor.dialects.counts import Input, Output
from spanledger_processor.dialects.dialect import NO_TOKENS, Keys, Tokens


@dataclass(frozen=True, slots=True, eq=False)
class LogEvent:
    """One kind of event. `where` are attributes that must have these values.

    `request_id` names the response: a span of the same call has it too. `identity` are keys whose values together are
    the event's own where there is no request id. `usage_text` holds the provider's answer: it adds to what another
    event counts, and is left out where it has no request id to join them (a gateway may drop it).
    """

    client: str
    names: Keys
    operation: str
    where: Mapping[str, str] = field(default_factory=dict)
    model: Keys = ()
    fixed_provider: str = ""
    session: Keys = ()
    request_id: Keys = ()
    identity: Keys = ()
    tokens: Tokens = NO_TOKENS
    input: Input = Input.INCLUSIVE
    output: Output = Output.INCLUSIVE
    usage_text: Keys = ()
    cost: Keys = ()
    speed: Keys = ()
    duration_ms: Keys = ()
    tool_name: Keys = ()
    arguments: Keys = ()
    call_id: Keys = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    agent: Keys = ()
    agent_parent: Keys = ()
    kept: Keys = ()


_CODEX_TOKENS = Tokens(
    input=("input_token_count",),
    output=("output_token_count",),
    cache_read=("cached_token_count",),
    cache_write=("cache_write_token_count",),
    reasoning=("reasoning_token_count",),
)
_GEMINI_TOKENS = Tokens(
    input=("input_token_count",),
    output=("output_token_count",),
    total=("total_token_count",),
    cache_read=("cached_content_token_count",),
    reasoning=("thoughts_token_count",),
)

EVENTS = (
    LogEvent(
        client="claude_code",
        names=("claude_code.api_request",),
        operation="chat",
        model=("model",),
        fixed_provider="anthropic",
        session=("session.id",),
        request_id=("request_id",),
        identity=("event.sequence", "event.timestamp"),
        tokens=Tokens(
            input=("input_tokens",),
            output=("output_tokens",),
            cache_read=("cache_read_tokens",),
            cache_write=("cache_creation_tokens",),
            cache_write_5m=("cache_creation_5m_tokens",),
            cache_write_1h=("cache_creation_1h_tokens",),
        ),
        input=Input.EXCLUSIVE,
        cost=("cost_usd",),
        speed=("speed",),
        duration_ms=("duration_ms",),
        agent=("agent_id",),
        agent_parent=("parent_agent_id",),
        kept=("workflow.run_id", "anthropic.provider"),
    ),
    LogEvent(
        client="claude_code",
        names=("claude_code.api_response_body",),
        operation="chat",
        model=("model",),
        fixed_provider="anthropic",
        session=("session.id",),
        request_id=("request_id",),
        identity=("event.sequence", "event.timestamp"),
        usage_text=("body",),
        agent=("agent_id",),
        agent_parent=("parent_agent_id",),
        kept=("workflow.run_id", "anthropic.provider"),
    ),
    LogEvent(
        client="claude_code",
        names=("claude_code.tool_result",),
        operation="execute_tool",
        session=("session.id",),
        identity=("event.sequence", "event.timestamp"),
        duration_ms=("duration_ms",),
        tool_name=("tool_name",),
        arguments=("tool_input", "tool_parameters"),
        call_id=("tool_use_id",),
        failed={"success": "false"},
        agent=("agent_id",),
        agent_parent=("parent_agent_id",),
        kept=("workflow.run_id",),
    ),
    LogEvent(
        client="codex",
        names=("codex.sse_event",),
        operation="chat",
        where={"event.kind": "response.completed"},
        model=("model", "slug"),
        fixed_provider="openai",
        session=("conversation.id",),
        request_id=("response_id", "response.id"),
        tokens=_CODEX_TOKENS,
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
    LogEvent(
        client="cursor",
        names=("cursor.api.request",),
        operation="chat",
        model=("cursor.api.request.model", "cursor.model.name"),
        session=("cursor.conversation.id",),
        identity=("cursor.event.id",),
        tokens=Tokens(
            input=("cursor.api.request.input_tokens",),
            output=("cursor.api.request.output_tokens",),
            cache_read=("cursor.api.request.cache_read_tokens",),
            cache_write=("cursor.api.request.cache_creation_tokens", "cursor.api.request.cache_write_tokens"),
        ),
        input=Input.UNSURE,
        cost=("cursor.api.request.cost_usd",),
        duration_ms=("cursor.api.request.duration_ms",),
    ),
)
"""`api_response_body` comes where raw bodies are logged; it has the split of cache writes that early versions lack."""

CONVENTION = "gen_ai.client.inference.operation.details"
"""The convention's event: its attributes are those of the span, and mean what they mean there."""

SAID_BETTER = ("gemini-cli", "qwen-code")
"""Scopes whose own events say more than the convention's that they send as well."""
