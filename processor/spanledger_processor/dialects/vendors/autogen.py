"""AutoGen's runtime: messages between agents, of which some hold the usage of the call that wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.schema import (
    Detection,
    Dialect,
    Place,
    ScopedSpan,
    UsageText,
)
from spanledger_processor.dialects.values import text
from spanledger_processor.model import Call, Kind

_MESSAGE = "message"
_WITH_USAGE = re.compile(r'"models_usage"\s{0,4}:\s{0,4}\{')


def _kind(view: ScopedSpan) -> Kind | None:
    """A message is published once, and then processed by each that receives it: there it is told again."""
    if not view.name.startswith("autogen publish "):
        return None
    value = view.attributes.get(_MESSAGE)
    return "llm" if isinstance(value, str) and _WITH_USAGE.search(value) else None


def _identity(view: ScopedSpan, call: Call) -> None:
    value = texts.parse(view.attributes.get(_MESSAGE))
    message = value.get("message") if isinstance(value, Mapping) else None
    if call.fallback is not None and isinstance(message, Mapping):
        call.response_id = text(message.get("id"))


AUTOGEN = Dialect(
    name="autogen",
    place=Place.OWN_KEYS,
    rank=13,
    about="AutoGen (autogen-core's runtime)",
    detection=Detection(
        scopes=("autogen ",), requires=("sender_agent_type", "recipient_agent_type", "messaging.message.envelope.size")
    ),
    kind_of=_kind,
    fallback_texts=(UsageText(_MESSAGE, ("message", "models_usage")),),
    rules=(_identity,),
    notes=(
        "A message's usage stands in where no span of the trace has usage of its own; the model is not told.",
        "Read in autogen-core 0.7.5 (`SingleThreadedAgentRuntime`) and autogen-agentchat 0.7.5 (`GroupChatMessage`).",
    ),
)
