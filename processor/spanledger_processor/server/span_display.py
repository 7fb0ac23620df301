"""The attributes that the `debug` exporter may show of GenAI telemetry, and how it sums up enriched spans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from spanledger_processor.dialects.content import holds_content, kept_of_name
from spanledger_processor.otlp.views import Attributes, SpanView
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
"""An allow-list: a key that is not listed may hold a prompt under a name that we do not know yet."""


class SpanDisplay:
    """Implements `spanledger_exporters.debug.Display`: ids, names, numbers and states, never content."""

    def allows(self, key: str) -> bool:
        """Return whether the key is known to hold no content."""
        return key in _KEYS or key.startswith(_PREFIXES)

    def name(self, span: SpanView, scope: str) -> str:
        """Return the span's name; of one that bears content its operation, and its model or tool.

        Libraries name spans by agents' roles and by tasks, which are parts of prompts.
        """
        attributes = span.attributes
        try:
            if not _bears_content(span, scope):
                return span.name
            operation = next(filter(None, (_text(attributes, key) for key in _OPERATIONS)), "a span with content")
            return " ".join(filter(None, (operation, *(_text(attributes, key) for key in _OBJECTS)))).strip()
        except MalformedError:
            return "a span that cannot be read"

    def summary(self, spans: Sequence[Attributes]) -> str:
        """Return how many of the spans are GenAI spans, their cost, and how many have none."""
        known = [attributes for attributes in spans if "spanledger.kind" in attributes]
        if not known:
            return ""
        unpriced = sum("spanledger.cost.unpriced" in attributes for attributes in known)
        cost = math.fsum(_usd(attributes) for attributes in known)
        return f", {len(known)} GenAI, {cost:.6g} USD" + (f", {unpriced} unpriced" if unpriced else "")

    def details(self, shown: Mapping[str, str]) -> Iterator[str]:
        """Yield the cost of a span, or why it has none, and its session and run."""
        if cost := shown.get("spanledger.cost.usd"):
            yield f"{cost} USD"
        elif reason := shown.get("spanledger.cost.unpriced"):
            yield f"unpriced ({reason})"
        for name in ("session", "run"):
            if identifier := shown.get(f"spanledger.{name}.id"):
                yield f"{name} {identifier}"


_OPERATIONS = ("gen_ai.operation.name", "spanledger.kind", "openinference.span.kind", "traceloop.span.kind")
_OBJECTS = ("gen_ai.tool.name", "gen_ai.request.model", "llm.model_name")


def _text(attributes: Attributes, key: str) -> str:
    value = attributes.get(key)
    return value if isinstance(value, str) else ""


def _bears_content(span: SpanView, scope: str) -> bool:
    holders = (span.attributes, *(event.attributes for event in span.events))
    return kept_of_name(span.name, scope) is not None or any(
        not isinstance(attributes.get(key), int | float | None)
        for attributes in holders
        for key in attributes.keys()  # noqa: SIM118 - a C map behind a thin object, not a dict
        if holds_content(key)
    )


def _usd(attributes: Attributes) -> float:
    try:
        cost = attributes.get("spanledger.cost.usd")
    except MalformedError:
        return 0.0
    return cost if isinstance(cost, float) else 0.0
