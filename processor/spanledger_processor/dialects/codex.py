"""OpenAI Codex's own spans: usage on `handle_responses`, tools where a call is dispatched."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.dialect import Groups, Signs, Source, Tokens, ToolKeys
from spanledger_processor.dialects.otel import OTEL, TOKENS
from spanledger_processor.dialects.view import View, has
from spanledger_processor.model import Kind


def _kind(view: View) -> Kind | None:
    if view.attributes.get("codex.tool.phase") == "dispatch":
        return "tool"
    return "llm" if has(view, *TOKENS.input) else None


CODEX = replace(
    OTEL,
    name="codex",
    about="OpenAI Codex CLI spans",
    signs=Signs(
        keys=("codex.usage.total_tokens", "codex.usage.reasoning_output_tokens", "codex.tool.phase"),
        scopes=("codex",),
        marks=TOKENS.input,
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
    sources=(Source(why="copies OpenAI's counts"),),
    tool=ToolKeys(name=("tool_name",), arguments=("arguments",), call_id=("call_id",)),
    groups=Groups(session=("conversation.id",)),
    notes=("Tool arguments are in the log event `codex.tool_result` only.",),
)
