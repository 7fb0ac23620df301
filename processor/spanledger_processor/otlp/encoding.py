"""Attributes as encoded fields, and whole trace requests of spans that were synthesized, from log records for example.

Everything of an attribute but its value is known beforehand, so it is encoded without building messages: a prefix made
once and the value behind it. Such a piece is one `repeated KeyValue` field of a span (Span.attributes).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger_processor.otlp.request import TraceRequest, parsing_traces
from spanledger_processor.otlp.values import GIANT, Attributes
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import LENGTH, SHORT_VARINTS, Steps, finished, write_varint

INT64 = range(-(2**63), 2**63)

_SPAN_ATTRIBUTES = 9
_STRING, _BOOL, _INT, _DOUBLE = b"\x0a", b"\x10", b"\x18", b"\x21"
"""Tags of AnyValue's fields."""
_LENGTHS_CACHED = 4096
_THREE_BYTES = struct.Struct("<HB").pack
"""A varint of three bytes: the first two as they stand, and the last."""
_NOTHING: Mapping[int, bytes] = MappingProxyType({})


def delimited(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return write_varint(number << 3 | LENGTH) + write_varint(len(content)) + content


def text(key: str) -> Callable[[str], bytes]:
    """Write string attributes named `key`; characters that UTF-8 cannot express become `?`."""

    def piece(value: str) -> bytes:
        content = value.encode("utf-8", "replace")
        return _text_prefix(key, len(content)) + content

    return piece


def integer(key: str) -> Callable[[int], bytes]:
    """Write int attributes named `key`, in the range of int64."""
    prefixes = integer_prefixes(key)
    return lambda value: b"".join(integers(((prefixes, value),)))


def integer_prefixes(key: str) -> Sequence[bytes]:
    """Return what stands before the values of int attributes named `key`, by the bytes of the value."""
    return [_prefix(key, _INT, size) for size in range(11)]


def integers(attributes: Iterable[tuple[Sequence[bytes], int]]) -> list[bytes]:
    """Return int attributes, each given by its prefixes and a value in the range of int64, as pieces to be joined."""
    pieces: list[bytes] = []
    for prefixes, value in attributes:
        if value < 0x80:
            if value >= 0:
                pieces += (prefixes[1], SHORT_VARINTS[value])
            else:
                pieces += (prefixes[10], write_varint(value & 0xFFFF_FFFF_FFFF_FFFF))
        elif value < 0x4000:
            pieces += (prefixes[2], SHORT_VARINTS[value])
        elif value < 0x20_0000:
            pieces += (prefixes[3], _THREE_BYTES(value & 0x7F | value << 1 & 0x7F00 | 0x8080, value >> 14))
        else:
            content = write_varint(value)
            pieces += (prefixes[len(content)], content)
    return pieces


def double(key: str) -> Callable[[float], bytes]:
    """Write double attributes named `key`."""
    prefix, pack = _prefix(key, _DOUBLE, 8), struct.Struct("<d").pack

    def piece(value: float) -> bytes:
        return prefix + pack(value)

    return piece


def doubles(*keys: str, between: Mapping[int, bytes] = _NOTHING) -> Callable[[Sequence[float]], bytes]:
    """Write double attributes named `keys`, one value each, in one go.

    `between` are other encoded attributes, by the number of values that they stand behind.
    """
    prefixes: list[bytes | float] = [
        between.get(number, b"") + _prefix(key, _DOUBLE, 8) for number, key in enumerate(keys)
    ]
    prefixes.append(between.get(len(keys), b""))
    sizes = [len(prefix) for prefix in prefixes if isinstance(prefix, bytes)]
    pack = struct.Struct("<" + "d".join(f"{size}s" for size in sizes)).pack
    places: list[bytes | float] = [0.0] * (2 * len(keys) + 1)
    places[::2] = prefixes

    def piece(values: Sequence[float]) -> bytes:
        arguments = places.copy()
        arguments[1::2] = values
        return pack(*arguments)

    return piece


def flag(key: str, *, value: bool) -> bytes:
    """Return a bool attribute named `key`."""
    return _prefix(key, _BOOL, 1) + bytes((value,))


def _prefix(key: str, tag: bytes, size: int) -> bytes:
    """Return the bytes before a value that is written as `tag` and `size` bytes."""
    value = write_varint(2 << 3 | LENGTH) + write_varint(len(tag) + size) + tag
    entry = delimited(1, key.encode()) + value
    return write_varint(_SPAN_ATTRIBUTES << 3 | LENGTH) + write_varint(len(entry) + size) + entry


@lru_cache(_LENGTHS_CACHED)
def _text_prefix(key: str, size: int) -> bytes:
    return _prefix(key, _STRING + write_varint(size), size)


INTERNAL, CLIENT = 1, 3
"""Span kinds."""


@dataclass(slots=True)
class SynthesizedSpan:
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


def encode_traces(spans: Iterable[SynthesizedSpan]) -> bytes:
    """Return an ExportTraceServiceRequest with `spans`, grouped by resource and scope, otherwise in their order."""
    return finished(encoding_traces(spans)).body


def encoding_traces(spans: Iterable[SynthesizedSpan]) -> Steps[TraceRequest]:
    """Encode the same request in slices: yields after each `SLICE_SPANS`.

    The spans of what is returned need no parsing: it has views of the first `MOST_VIEWS`.
    """
    resources: dict[bytes, dict[tuple[str, str], list[_Encoded]]] = {}
    resource, encoded = None, b""
    for number, span in enumerate(spans):
        if span.resource is not resource:
            resource = span.resource
            encoded = _fields(_RESOURCE_ATTRIBUTES, _encoded_values(dict(sorted(resource.items()))))
            resources.setdefault(encoded, {})
        of_scope = resources[encoded].setdefault((_text(span.scope_name), _text(span.scope_version)), [])
        of_scope.append(_encode(span, has_view=number < MOST_VIEWS))
        if number % SLICE_SPANS == SLICE_SPANS - 1:
            yield None
    scopes = 0
    views: dict[tuple[int, int], SpanView] = {}
    pieces: list[bytes] = []
    for encoded, by_scope in resources.items():
        group = [delimited(_RESOURCE, encoded)]
        for (name, version), of_scope in by_scope.items():
            scope = InstrumentationScope(name=name, version=version).SerializeToString()
            framed = [delimited(_SCOPE, scope)]
            for place, (item, view) in enumerate(of_scope):
                framed.append(delimited(_SCOPE_SPANS, item))
                if view is not None:
                    views[scopes, place] = view
                if place % SLICE_FRAMED == SLICE_FRAMED - 1:
                    yield None
            group.append(delimited(_GROUP_SCOPES, b"".join(framed)))
            scopes += 1
            yield None
        pieces.append(delimited(_GROUPS, b"".join(group)))
        yield None
    read = yield from parsing_traces(b"".join(pieces))
    return TraceRequest(read.body, read.groups, read.span_count, views)


SLICE_SPANS = 32
"""Spans encoded between two pauses."""
SLICE_FRAMED = 1024
"""Encoded spans put together between two pauses."""
MOST_VIEWS = 1024
"""Spans whose views are kept; those of a larger request would take more memory than it is charged for."""
_GROUPS = _RESOURCE = _SCOPE = _RESOURCE_ATTRIBUTES = _KEY = 1
_GROUP_SCOPES = _SCOPE_SPANS = _VALUE = 2
_STATUS = 15
"""Field numbers: groups of a request; a group's resource and scopes; a scope and its spans; an attribute's parts."""

_Encoded: TypeAlias = tuple[bytes, SpanView | None]
"""A span, and its view."""


def _encode(span: SynthesizedSpan, *, has_view: bool) -> _Encoded:
    """Return a span as bytes, in the order of its fields' numbers, with its view if it is to have one."""
    attributes = _encoded_values(span.attributes)
    message = Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_id,
        name=_text(span.name),
        kind=span.kind,  # type: ignore[arg-type]  # the stubs want the enum, the field takes its number
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
    )
    encoded = message.SerializeToString() + _fields(_SPAN_ATTRIBUTES, attributes)
    if span.status_code:
        message.status.code = span.status_code  # type: ignore[assignment]
        encoded += delimited(_STATUS, message.status.SerializeToString())
    has_view = has_view and len(encoded) <= GIANT  # the attributes of a giant span are let go of once they were read
    return encoded, SpanView(message, Attributes(attributes)) if has_view else None


def _encoded_values(attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """Return attributes with their values as encoded AnyValues."""
    return {_text(key): encoded_value(value) for key, value in attributes.items() if value is not None}


def _fields(number: int, attributes: Mapping[str, bytes]) -> bytes:
    """Return attributes as the fields `number` of a message."""
    return b"".join(
        [
            delimited(number, (delimited(_KEY, key.encode()) if key else b"") + delimited(_VALUE, value))
            for key, value in attributes.items()
        ]
    )


def encoded_value(value: Any) -> bytes:
    """Return a plain Python value as an encoded AnyValue: the bytes of `any_value`, mostly without its messages."""
    kind = type(value)
    if kind is str:
        content: bytes = value.encode("utf-8", "replace")
        return _STRING + write_varint(len(content)) + content
    if kind is bool:
        return _BOOL + bytes((value,))
    if kind is int and value in INT64:
        return _INT + write_varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    encoded: bytes = any_value(value).SerializeToString()
    return encoded


def any_value(value: Any) -> AnyValue:
    """Return a plain Python value as an AnyValue message."""
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
        built = AnyValue()
        built.kvlist_value.SetInParent()
        built.kvlist_value.values.extend(KeyValue(key=_text(key), value=any_value(item)) for key, item in value.items())
        return built
    if isinstance(value, list | tuple):
        built = AnyValue()
        built.array_value.SetInParent()
        built.array_value.values.extend(any_value(item) for item in value)
        return built
    return AnyValue(string_value=_text(str(value)))


def _text(value: str) -> str:
    """Return `value` as UTF-8 can express it."""
    return value.encode("utf-8", "replace").decode()
