"""Gemini CLI and Qwen Code spans: the convention's keys with operations of their own."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.counts import Output
from spanledger_processor.dialects.dialect import Groups, Signs, Source, ToolKeys
from spanledger_processor.dialects.otel import OTEL
from spanledger_processor.dialects.view import View
from spanledger_processor.model import Call


def _incomplete(_: View, call: Call) -> None:
    """A price of these counts could be too high (no cached tokens) or too low (no thoughts); the log event has all."""
    if call.usage is not None and call.usage.output is not None and call.usage.reasoning is None:
        call.problem = "the span leaves cached tokens and thoughts out"
        call.note = call.note or "tokens without cached ones and thoughts: the log event api_response has them"


def _own_arguments(_: View, call: Call) -> None:
    """The span holds the whole request for the tool, of which only the arguments are the call."""
    request = texts.parse(call.tool.arguments) if call.tool is not None else None
    if call.tool is not None and isinstance(request, dict) and "args" in request and "callId" in request:
        call.tool.arguments = request["args"]


GEMINI_CLI = replace(
    OTEL,
    name="gemini_cli",
    about="Gemini CLI and Qwen Code spans",
    signs=Signs(scopes=("gemini-cli", "qwen-code"), marks=("gen_ai.operation.name",)),
    fixed_provider="gcp.gen_ai",
    sources=(Source(output=Output.EXCLUSIVE, why="candidates only; thoughts are in the log event"),),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "gen_ai.input", "gen_ai.input.messages"),
        call_id=("gen_ai.tool.call_id", "gen_ai.tool.call.id"),
    ),
    groups=Groups(session=("gen_ai.conversation.id", "sessionId", "session.id")),
    rules=(_incomplete, _own_arguments),
    notes=("Cached tokens and thoughts are in the log event `api_response` only: without it a call stays unpriced.",),
)
