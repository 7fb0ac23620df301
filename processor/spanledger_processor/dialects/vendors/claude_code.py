"""Claude Code's own spans (beta): bare keys under span names that begin with `claude_code.`."""

from __future__ import annotations

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    Detection,
    Dialect,
    FirstToken,
    GroupingKeys,
    Kinds,
    LogEvent,
    Precedence,
    ScopedSpan,
    Source,
    Tokens,
    ToolKeys,
)
from spanledger_processor.dialects.values import text
from spanledger_processor.model import Call

PROVIDERS = {
    "bedrock": "aws.bedrock",
    "vertex": "gcp.vertex_ai",
    "foundry": "azure.ai.inference",
}
"""Values of `anthropic.provider` that are not Anthropic itself ("firstParty")."""


def provider(view: ScopedSpan, call: Call) -> None:
    """Set the seller behind the client: spans say `anthropic` whoever that is."""
    if "anthropic.provider" in view.attributes:
        call.provider = PROVIDERS.get(text(view.attributes.get("anthropic.provider")), call.provider)


CLAUDE_CODE = Dialect(
    name="claude_code",
    precedence=Precedence.CODING_AGENT,
    rank=1,
    about="Claude Code spans (CLAUDE_CODE_ENHANCED_TELEMETRY_BETA)",
    detection=Detection(names=("claude_code.",)),
    kinds=(
        Kinds(
            "span.type",
            {
                "interaction": "agent",
                "llm_request": "llm",
                "tool": "tool",
                "tool.execution": "other",
                "tool.blocked_on_user": "other",
                "hook": "other",
            },
        ),
    ),
    otherwise="other",
    request_model=("gen_ai.request.model", "model"),
    response_model=("gen_ai.response.model",),
    provider=("gen_ai.provider.name", "gen_ai.system"),
    fixed_provider="anthropic",
    response_id=("gen_ai.response.id", "request_id"),
    tokens=Tokens(
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read=("cache_read_tokens",),
        cache_write=("cache_creation_tokens",),
        cache_write_5m=("cache_creation_5m_tokens",),
        cache_write_1h=("cache_creation_1h_tokens",),
    ),
    content=ContentKeys(
        keys={
            "prompt": ("prompts",),
            "user_prompt": ("prompts",),
            "prompt_text": ("prompts",),
            "response": ("completions",),
            "tool_input": ("tool_arguments",),
            "tool_parameters": ("tool_arguments",),
            "full_command": ("tool_arguments",),
            "bash_command": ("tool_arguments",),
            "bash_argv*": ("tool_arguments",),
            "tool_output": ("tool_results",),
            "tool_result": ("tool_results",),
            "new_context": ANY_INPUT,
            "system_prompt": ("system_instructions",),
            "response.model_output": ("completions",),
            "error": ANY_INPUT,
            "file_path": ("tool_arguments",),
        },
    ),
    first_token=(FirstToken("ttft_ms", "ms"),),
    sources=(Source(Input.EXCLUSIVE, why="copies Anthropic's own counts"),),
    served=("speed",),
    tool=ToolKeys(
        name=("gen_ai.tool.name", "tool_name"),
        arguments=("tool_input",),
        call_id=("gen_ai.tool.call.id", "tool_use_id"),
    ),
    agent=("agent_id",),
    agent_parent=("parent_agent_id",),
    groups=GroupingKeys(
        session=("session.id", "gen_ai.conversation.id"), session_first=("session.id",), run=("workflow.run_id",)
    ),
    rules=(provider,),
    notes=(
        "Tool arguments are in the log event `tool_result` only; `full_command` and `file_path` are parts of them.",
        "Whether a subscription or an API key pays is not known: calls count at list prices, under a plan as what they"
        " would have cost.",
        "`gen_ai.conversation.id` of a sub-agent is its `agent_id`: its calls belong to the session of `session.id`, as"
        " its log events do.",
        "`prompt.id` names one prompt of the user, a turn: it is no run.",
    ),
)

LOG_EVENTS = (
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
        first_token_ms=("ttft_ms",),
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
)
"""`api_response_body` comes where raw bodies are logged; it has the split of cache writes that early versions lack."""
