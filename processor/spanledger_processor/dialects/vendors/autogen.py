"""AutoGen's runtime: messages between agents, of which some hold the usage of the call that wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.schema import Detection, Dialect, Precedence, ScopedSpan, UsageText
from spanledger_processor.dialects.values import text
from spanledger_processor.model import Call, Kind

_MESSAGE = "message"
_WITH_USAGE = re.compile(r'"models_usage"\s{0,4}:\s{0,4}\{')
_PATHS: tuple[tuple[str, ...], ...] = (("message",), ("response", "chat_message"), ())
"""Where the agent's message stands in what is delivered: a group chat's message, an agent's response, or the message
itself. The inner messages of a response were delivered on their own before."""


def _message(view: ScopedSpan) -> Mapping[str, Any] | None:
    """Return the message with usage that a span delivers, None if there is none."""
    value = view.attributes.get(_MESSAGE)
    parsed = texts.parse(value) if isinstance(value, str) and _WITH_USAGE.search(value) else None
    for path in _PATHS:
        node = parsed
        for step in path:
            node = node.get(step) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping) and isinstance(node.get("models_usage"), Mapping):
            return node
    return None


def _kind(view: ScopedSpan) -> Kind | None:
    """Return `llm` for spans of the runtime, processing or acknowledgement, that hold a model's message."""
    if not view.name.startswith(("autogen process ", "autogen ack")):
        return None
    return "llm" if _message(view) is not None else None


def _identity(view: ScopedSpan, call: Call) -> None:
    message = _message(view)
    if call.fallback is not None and message is not None:
        call.response_id = text(message.get("id"))


AUTOGEN = Dialect(
    name="autogen",
    precedence=Precedence.OWN_KEYS,
    rank=13,
    about="AutoGen (autogen-core's runtime)",
    detection=Detection(scopes=("autogen ",), requires=("sender_agent_type", "recipient_agent_type")),
    kind_of=_kind,
    fallback_texts=tuple(UsageText(_MESSAGE, (*path, "models_usage")) for path in _PATHS),
    rules=(_identity,),
    notes=(
        "A message's usage stands in where no span of the trace has usage of its own; no model is reported. A message"
        " is delivered to several agents, on several topics: it counts once, by its id.",
        "Read in autogen-core 0.7.5 (`SingleThreadedAgentRuntime`) and autogen-agentchat 0.4.0 and 0.7.5"
        " (`GroupChatMessage`, `GroupChatAgentResponse`).",
    ),
)
