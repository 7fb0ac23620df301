"""A stand-in for `enrichment.facts.ScopedSpanView` out of plain dictionaries, and captured spans as such."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from spanledger_processor.dialects import detect
from spanledger_processor.model import Call

CAPTURES = Path(__file__).parents[1] / "data" / "otlp"


class PlainAttributes(dict[str, Any]):
    """Attributes as a dictionary, with the questions that a dictionary does not answer."""

    def among(self, keys: frozenset[str]) -> frozenset[str]:
        return keys.intersection(self)

    def fingerprint(self, keys: tuple[str, ...]) -> tuple[Any, ...]:
        return tuple(repr(self.get(key)) for key in keys)

    def integers(self, keys: tuple[str, ...]) -> list[int] | None:
        values: list[Any] = [self.get(key) for key in keys]
        return values if all(type(value) is int and 0 <= value < 1 << 28 for value in values) else None

    def marked(self, key: str, marks: tuple[bytes, ...]) -> Any:
        value = self.get(key)
        return "" if isinstance(value, str) and not any(mark.decode() in value for mark in marks) else value

    def derived(self, key: str, marks: tuple[bytes, ...], read: Callable[[Any], Hashable]) -> Any:
        return read(self.marked(key, marks))

    def is_filled(self, key: str) -> bool:
        return self.get(key) not in (None, "")


@dataclass
class PlainEvent:
    name: str
    attributes: PlainAttributes = field(default_factory=PlainAttributes)


@dataclass
class PlainView:
    """A span given by its attributes; the rest has the emptiest values there are."""

    attributes: PlainAttributes
    name: str = "span"
    scope_name: str = ""
    scope_version: str = ""
    resource: PlainAttributes = field(default_factory=PlainAttributes)
    status_code: int = 0
    events: Sequence[PlainEvent] = ()
    trace_id: bytes = b""
    span_id: bytes = b""
    parent_id: bytes = b""
    start_ns: int = 0
    end_ns: int = 0


def plain(value: AnyValue) -> Any:
    """An OTLP value as a Python value."""
    which = value.WhichOneof("value")
    if which == "array_value":
        return [plain(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return dict(attributes(value.kvlist_value.values))
    return getattr(value, which) if which else None


def attributes(pairs: Sequence[KeyValue]) -> PlainAttributes:
    return PlainAttributes((pair.key, plain(pair.value)) for pair in pairs)


def captured(folder: Path) -> Iterator[PlainView]:
    """The spans of a capture, in the order in which they arrived."""
    for path in sorted(folder.glob("*.traces.*")):
        for resource_spans in _request(path).resource_spans:
            resource = attributes(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    yield PlainView(
                        attributes(span.attributes),
                        span.name,
                        scope_spans.scope.name,
                        scope_spans.scope.version,
                        resource,
                        span.status.code,
                        [PlainEvent(event.name, attributes(event.attributes)) for event in span.events],
                        span.trace_id,
                        span.span_id,
                        span.parent_span_id,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                    )


def _request(path: Path) -> ExportTraceServiceRequest:
    if path.suffix != ".json":
        return ExportTraceServiceRequest.FromString(path.read_bytes())
    return ParseDict(_with_base64_ids(json_loads(path)), ExportTraceServiceRequest(), ignore_unknown_fields=True)


def json_loads(path: Path) -> Any:

    return json.loads(path.read_text(encoding="utf-8"))


def _with_base64_ids(node: Any) -> Any:
    """OTLP-JSON writes ids in hex where protobuf's own JSON form has base64."""

    if isinstance(node, list):
        return [_with_base64_ids(item) for item in node]
    if isinstance(node, dict):
        return {
            key: b64encode(bytes.fromhex(item)).decode()
            if key in ("traceId", "spanId", "parentSpanId")
            else _with_base64_ids(item)
            for key, item in node.items()
        }
    return node


def span(given: dict[str, Any], name: str = "span", scope: str = "", version: str = "", **more: Any) -> PlainView:
    """A span with these attributes."""
    return PlainView(PlainAttributes(given), name, scope, version, **more)


CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5.1"}


def chat(**tokens: Any) -> dict[str, Any]:
    """The attributes of a chat span of the convention, `cache_read__input_tokens` for `gen_ai.usage.cache_read...`."""
    return CHAT | {f"gen_ai.usage.{name.replace('__', '.')}": value for name, value in tokens.items()}


def read(view: PlainView) -> Call:
    """What a span says that must be known."""
    call = detect(view)
    assert call is not None
    return call
