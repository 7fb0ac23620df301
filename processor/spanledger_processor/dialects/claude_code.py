"""Claude Code's own spans (beta): bare keys under span names that begin with `claude_code.`."""

from __future__ import annotations

from spanledger_processor.dialects.counts import Input
from spanledger_processor.dialects.dialect import Dialect, Groups, Kinds, Signs, Source, Tokens, ToolKeys
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.view import View
from spanledger_processor.model import Call

PROVIDERS = {
    "bedrock": "aws.bedrock",
    "vertex": "gcp.vertex_ai",
    "foundry": "azure.ai.inference",
}
"""Values of `anthropic.provider` that are not Anthropic itself ("firstParty")."""


def provider(view: View, call: Call) -> None:
    """The seller behind the client: spans say `anthropic` whoever that is."""
    if "anthropic.provider" in view.attributes:
        call.provider = PROVIDERS.get(text(view.attributes.get("anthropic.provider")), call.provider)


CLAUDE_CODE = Dialect(
    name="claude_code",
    about="Claude Code spans (CLAUDE_CODE_ENHANCED_TELEMETRY_BETA)",
    signs=Signs(names=("claude_code.",)),
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
    sources=(Source(Input.EXCLUSIVE, why="copies Anthropic's own counts"),),
    tiers=("speed",),
    tool=ToolKeys(
        name=("gen_ai.tool.name", "tool_name"),
        arguments=("tool_input",),
        call_id=("gen_ai.tool.call.id", "tool_use_id"),
    ),
    agent=("agent_id",),
    agent_parent=("parent_agent_id",),
    groups=Groups(session=("session.id", "gen_ai.conversation.id"), run=("workflow.run_id",)),
    rules=(provider,),
    notes=(
        "Tool arguments are in the log event `tool_result` only; `full_command` and `file_path` are parts of them.",
        "`prompt.id` names one prompt of the user, a turn: it is no run.",
    ),
)
