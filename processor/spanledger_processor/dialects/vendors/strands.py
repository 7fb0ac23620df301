"""Strands Agents: the convention's keys, arguments in span events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Counts, Input
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
_OF_PYTHON = "strands."
"""The beginning of the scope of Python's library; that of JavaScript's is named as the service is."""


def _is_of_anthropic(model: str) -> bool:
    return "claude" in model and not any(part in model for part in _OF_BEDROCK)


def _counts_of_javascript(view: ScopedSpan, counts: Counts) -> None:
    """Say what JavaScript's counts of Anthropic's own API mean: the total leaves caches out as well."""
    model = str(view.attributes.get("gen_ai.request.model") or "").lower()
    if not view.scope_name.startswith(_OF_PYTHON) and _is_of_anthropic(model):
        counts.means = Input.EXCLUSIVE


def _sure_by_model(view: ScopedSpan, call: Call) -> None:
    """Take counts for sure where the model shows what they mean: Bedrock's are inclusive since there are these keys.

    JavaScript's copy Bedrock's, whose total tells; and Anthropic's, unless its `VercelModel` has added up the caches.
    """
    model = call.model.lower()
    of_javascript = not view.scope_name.startswith(_OF_PYTHON)
    inclusive = not of_javascript and has(view, *_SINCE_1_54) and any(part in model for part in _OF_BEDROCK)
    if inclusive or not any(maker in model for maker in _EXCLUSIVE_MAKERS):
        call.estimate = False
    elif of_javascript and _is_of_anthropic(model) and call.usage is not None:
        cached = (call.usage.cache_read or 0) + (call.usage.cache_write or 0)
        call.estimate = call.estimate or 0 < 2 * cached <= (call.usage.input or 0)


def _no_provider(view: ScopedSpan, call: Call) -> None:
    """Take no service for a provider: JavaScript's library names its service as one (`getServiceName`)."""
    if call.provider == view.scope_name:
        call.provider = ""


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
        keys=("event_loop.cycle_id", "gen_ai.event.start_time"),
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
            why="adds the caches up from 1.54 on; of Anthropic's own API only in later releases; JavaScript's does not",
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
    completes=_counts_of_javascript,
    rules=(_no_provider, _sure_by_model),
    tool_rules=(_arguments, *OTEL.tool_rules),
    notes=(
        "JavaScript's library names the service as the provider: the model tells who it is.",
        "JavaScript's counts of Anthropic's own API and of Bedrock exclude caches (read in @strands-agents/sdk 1.0.0 to"
        " 1.19.0). Its `VercelModel` adds them up, which no key tells: an Anthropic model's counts are an estimate"
        " where the caches would fit into the input.",
    ),
)
