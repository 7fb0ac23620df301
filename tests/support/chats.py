"""Requests of `chat` spans that cost something known, and spans odd in one way each."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

MODEL = "gpt-4o-mini"
PRICE = {"input": Decimal("0.15"), "cache_read": Decimal("0.075"), "output": Decimal("0.60")}
"""USD a million tokens of `MODEL`, from its price page."""
USAGE = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
COST = float(1000 * PRICE["input"] / 10**6 + 100 * PRICE["output"] / 10**6)
"""USD of one call with `USAGE`."""

CHAT: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": MODEL,
}


def chat(**fields: Any) -> Span:
    """One call of `COST`; `fields` are of Span."""
    now = time.time_ns()
    span = Span(
        name="chat",
        trace_id=secrets.token_bytes(16),
        span_id=secrets.token_bytes(8),
        start_time_unix_nano=now - 10**8,
        end_time_unix_nano=now,
    )
    set_attributes(span, CHAT | USAGE)
    for name, value in fields.items():
        setattr(span, name, value)
    return span


def set_attributes(span: Span, attributes: dict[str, Any]) -> None:
    """Give `span` these attributes, of plain values; one that is there is replaced."""
    for key, value in attributes.items():
        for old in [attribute for attribute in span.attributes if attribute.key == key]:
            span.attributes.remove(old)
        span.attributes.append(_key_value(key, value))


def without(span: Span, *keys: str) -> Span:
    """`span` less some attributes."""
    for old in [attribute for attribute in span.attributes if attribute.key in keys]:
        span.attributes.remove(old)
    return span


def request(*spans: Span, resource: Mapping[str, Any] | None = None) -> bytes:
    """An export request of these spans; `resource` has the attributes of theirs."""
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.resource.attributes.extend(_key_value(key, value) for key, value in (resource or {}).items())
    group.scope_spans.add().spans.extend(spans)
    return message.SerializeToString()


def _key_value(key: str, value: Any) -> KeyValue:
    attribute = KeyValue(key=key)
    if isinstance(value, bool):
        attribute.value.bool_value = value
    elif isinstance(value, int):
        attribute.value.int_value = value
    elif isinstance(value, float):
        attribute.value.double_value = value
    else:
        attribute.value.string_value = value
    return attribute
