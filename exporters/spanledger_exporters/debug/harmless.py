"""Which attributes may be shown: those known to hold ids, names, numbers and states, never what was said.

An allow list (contract, promise 5): what is not listed may be a prompt under a name that we do not know yet.
"""

from __future__ import annotations

from spanledger_exporters.text import one_line
from spanledger_processor.otlp.views import Attributes
from spanledger_processor.otlp.wire import MalformedError

_PREFIXES = ("spanledger.", "gen_ai.usage.", "llm.token_count.", "llm.cost.")
_KEYS = frozenset(
    (
        "agent.id",
        "ai.model.id",
        "ai.model.provider",
        "ai.operationId",
        "ai.response.id",
        "ai.response.model",
        "ai.usage.completionTokens",
        "ai.usage.inputTokens",
        "ai.usage.outputTokens",
        "ai.usage.promptTokens",
        "embedding.model_name",
        "error.type",
        "gen_ai.agent.id",
        "gen_ai.conversation.id",
        "gen_ai.operation.name",
        "gen_ai.output.type",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.id",
        "gen_ai.response.model",
        "gen_ai.system",
        "gen_ai.tool.call.id",
        "gen_ai.tool.name",
        "gen_ai.tool.type",
        "http.response.status_code",
        "llm.model_name",
        "llm.provider",
        "llm.request.type",
        "llm.system",
        "openinference.span.kind",
        "run_id",
        "service.name",
        "service.version",
        "session.id",
        "telemetry.sdk.language",
        "telemetry.sdk.name",
        "telemetry.sdk.version",
        "tool.name",
        "tool_call.id",
        "traceloop.span.kind",
        "user_session.id",
    )
)
_LONGEST = 120
"""Characters of a value that are shown."""


def shown(attributes: Attributes) -> dict[str, str]:
    """The attributes that may be shown, as text, by key. Values that hold other values are left out."""
    found = ((key, _text(attributes, key)) for key in sorted(attributes.keys()) if _may_be_shown(key))
    return {one_line(key): text for key, text in found if text is not None}


def _may_be_shown(key: str) -> bool:
    return key in _KEYS or key.startswith(_PREFIXES)


def _text(attributes: Attributes, key: str) -> str | None:
    try:
        value = attributes.get(key)
    except MalformedError:
        return "(cannot be read)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return one_line(value, _LONGEST) if isinstance(value, str) else None
