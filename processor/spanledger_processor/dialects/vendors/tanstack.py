"""TanStack AI (`otelMiddleware`): the convention's keys, counts as each of its adapters copies them."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import ContentKeys, Detection, Precedence, ScopedSpan, Source, has
from spanledger_processor.dialects.vendors.otel import OTEL
from spanledger_processor.model import Call, Kind

_ITERATIONS, _OUTCOME = "tanstack.ai.iterations", "tanstack.ai.tool.outcome"


def _kind(view: ScopedSpan) -> Kind | None:
    """Return what the span above all iterations is: it sums up their usage, and names no operation."""
    return "agent" if has(view, _ITERATIONS) else None


def _arguments(view: ScopedSpan, call: Call) -> None:
    """Take the arguments of a tool from the one message that the middleware makes of them, here for Langfuse."""
    messages = texts.parse(view.attributes.get("langfuse.observation.input")) if call.tool is not None else None
    if call.tool is not None and call.tool.arguments is None and isinstance(messages, list) and len(messages) == 1:
        (message,) = messages
        if isinstance(message, dict) and message.get("role") == "tool":
            call.tool.arguments = message.get("content")


TANSTACK = replace(
    OTEL,
    name="tanstack",
    precedence=Precedence.CONVENTION_KEYS,
    rank=19,
    about="TanStack AI",
    detection=Detection(keys=("tanstack.ai.iteration", _ITERATIONS, _OUTCOME)),
    kind_of=_kind,
    content=ContentKeys(
        keys={"tanstack.ai.system_prompt.metadata": ("system_instructions",)},
        prefixes=("tanstack.",),
        plain=("tanstack.ai.completion.reason", "tanstack.ai.usage.*"),
    ),
    sources=(
        Source(
            Input.EXCLUSIVE,
            providers=("anthropic",),
            absent_cache_is_zero=True,
            why="copies Anthropic's own counts without classes of 0; the total leaves caches out as well",
            package="npm:@tanstack/ai-anthropic",
            read=("0.18.11", "0.18.11"),
        ),
        *OTEL.sources,
    ),
    tool_rules=(_arguments, *OTEL.tool_rules),
    notes=(
        "Arguments of tools are told with `captureContent` alone.",
        "The service tier and cache writes by their time to live are in no span.",
    ),
)
