"""Trace requests made from something that was no span, such as log records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

from spanledger_processor.otlp.pieces import INT64

INTERNAL, SERVER, CLIENT = 1, 2, 3
"""Span kinds."""


@dataclass(slots=True)
class MadeSpan:
    """A span to be written. Times are nanoseconds since 1970; `kind` and `status_code` are OTLP's numbers.

    Attribute values are plain Python values: str, bool, int, float, bytes, lists and dicts of them. None stands for
    an attribute that is not there; an int that no int64 holds is written in decimal, as text.
    """

    trace_id: bytes
    span_id: bytes
    name: str
    start_ns: int
    end_ns: int
    parent_id: bytes = b""
    kind: int = INTERNAL
    status_code: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    resource: Mapping[str, Any] = field(default_factory=dict)
    scope_name: str = ""
    scope_version: str = ""


def encode_traces(spans: Iterable[MadeSpan]) -> bytes:
    """An ExportTraceServiceRequest with `spans`, grouped by resource and scope, otherwise in their order."""
    request = ExportTraceServiceRequest()
    resources: dict[bytes, Any] = {}
    scopes: dict[tuple[bytes, str, str], ScopeSpans] = {}
    for span in spans:
        attributes = _key_values(dict(sorted(span.resource.items())))
        resource = b"\0".join(attribute.SerializeToString(deterministic=True) for attribute in attributes)
        if resource not in resources:
            resources[resource] = request.resource_spans.add()
            resources[resource].resource.attributes.extend(attributes)
        place = (resource, span.scope_name, span.scope_version)
        if place not in scopes:
            scopes[place] = resources[resource].scope_spans.add()
            scopes[place].scope.name, scopes[place].scope.version = _text(span.scope_name), _text(span.scope_version)
        scopes[place].spans.append(_span(span))
    return request.SerializeToString()


def trace_id_of(*parts: str | bytes | int) -> bytes:
    """A trace id that is a hash of what the trace stands for: the same parts always give the same id."""
    return _digest(b"trace", parts, 16)


def span_id_of(*parts: str | bytes | int) -> bytes:
    """A span id that is a hash of what the span stands for: the same parts always give the same id."""
    return _digest(b"span", parts, 8)


def _digest(kind: bytes, parts: tuple[str | bytes | int, ...], size: int) -> bytes:
    """Each part goes in with its length, so that moving a character from one to the next gives another hash."""
    digest = blake2b(digest_size=size, person=kind)
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(content) + content)
    return digest.digest()


def _span(made: MadeSpan) -> Span:
    return Span(
        trace_id=made.trace_id,
        span_id=made.span_id,
        parent_span_id=made.parent_id,
        name=_text(made.name),
        kind=made.kind,  # type: ignore[arg-type]  # the stubs want the enum, the field takes its number
        start_time_unix_nano=made.start_ns,
        end_time_unix_nano=made.end_ns,
        attributes=_key_values(made.attributes),
        status=Status(code=made.status_code) if made.status_code else None,  # type: ignore[arg-type]
    )


def _key_values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=_text(key), value=any_value(value)) for key, value in attributes.items() if value is not None]


def any_value(value: Any) -> AnyValue:
    """A plain Python value as an AnyValue message."""
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if value in INT64 else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, Mapping):
        made = AnyValue()
        made.kvlist_value.SetInParent()
        made.kvlist_value.values.extend(KeyValue(key=_text(key), value=any_value(item)) for key, item in value.items())
        return made
    if isinstance(value, list | tuple):
        made = AnyValue()
        made.array_value.SetInParent()
        made.array_value.values.extend(any_value(item) for item in value)
        return made
    return AnyValue(string_value=_text(str(value)))


def _text(value: str) -> str:
    """`value` as UTF-8 can express it."""
    return value.encode("utf-8", "replace").decode()
