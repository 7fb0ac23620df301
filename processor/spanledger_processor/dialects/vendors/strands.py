"""Strands Agents: the convention's keys, arguments in span events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    Detection,
    FirstToken,
    GroupingKeys,
    Precedence,
    ScopedSpan,
    Source,
    has,
)
from spanledger_processor.dialects.vendors.otel import OTEL
from spanledger_processor.model import Call

_EXCLUSIVE_MAKERS = ("claude", "anthropic", "nova", "amazon")
_OF_BEDROCK = ("anthropic.", "amazon.", ":bedrock:")
_SINCE_1_54 = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens")


def _sure_by_model(view: ScopedSpan, call: Call) -> None:
    """Take counts for sure where the model shows what they mean: Bedrock's are inclusive since there are these keys."""
    model = call.model.lower()
    inclusive = has(view, *_SINCE_1_54) and any(part in model for part in _OF_BEDROCK)
    if inclusive or not any(maker in model for maker in _EXCLUSIVE_MAKERS):
        call.estimate = False


def _arguments(view: ScopedSpan, call: Call) -> None:
    if call.tool is None or call.tool.arguments is not None:
        return
    for event in view.events:
        if event.name == "gen_ai.tool.message":
            call.tool.arguments = event.attributes.get("content")
        elif event.name == "gen_ai.client.inference.operation.details":
            call.tool.arguments = _in_messages(event.attributes.get("gen_ai.input.messages"))
        if call.tool.arguments is not None:
            return


def _in_messages(value: Any) -> Any:
    """Return the arguments of the first tool call in a list of messages."""
    messages = texts.parse(value)
    for message in messages if isinstance(messages, list) else []:
        for part in message.get("parts") or [] if isinstance(message, dict) else []:
            if isinstance(part, dict) and part.get("type") == "tool_call":
                return part.get("arguments")
    return None


STRANDS = replace(
    OTEL,
    name="strands",
    precedence=Precedence.CONVENTION_KEYS,
    rank=4,
    about="Strands Agents",
    detection=Detection(
        keys=("event_loop.cycle_id",),
        scopes=("strands",),
        requires=("gen_ai.operation.name", "gen_ai.event.start_time"),
    ),
    content=ContentKeys(
        keys={
            "gen_ai.user.message": ("prompts",),
            "content": ANY_INPUT,
            "message": ANY_INPUT,
            "tool.result": ("tool_results",),
            "gen_ai.tool.json_schema": ("system_instructions",),
            "tool.parameters": ("tool_arguments",),
        },
        plain=("tool.status", "event_loop.*"),
    ),
    first_token=(FirstToken("gen_ai.server.time_to_first_token", "ms"),),
    sources=(
        Source(
            Input.UNSURE,
            has=_SINCE_1_54,
            why="adds the caches up from 1.54 on; of Anthropic's own API only in later releases",
            package="pypi:strands-agents",
            read=("1.54.0", "1.62.0"),
        ),
        Source(
            Input.UNSURE,
            why="copies the provider's counts, of which Bedrock's and Anthropic's exclude caches; the total has them",
            package="pypi:strands-agents",
            read=("0.1.0", "1.53.0"),
        ),
    ),
    groups=GroupingKeys(session=("session.id", "gen_ai.conversation.id")),
    rules=(_sure_by_model,),
    tool_rules=(_arguments, *OTEL.tool_rules),
)
