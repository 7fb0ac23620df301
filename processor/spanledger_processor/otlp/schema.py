"""Trimmed OTLP schemas: only what is read is decoded, everything else stays bytes.

On the wire a sub-message and a `bytes` field look the same, and so do `repeated KeyValue` and a map. Events and data
points are therefore declared as bytes, and attributes as a map from key to encoded AnyValue: look-ups are made in a C
hash map, and only the values asked for are decoded. What stands around items has a schema to count by alone, in which
every field is a list, so that none hides another; for reading, offsets matter (`envelope`).

The syntax is proto2, which does not check UTF-8: invalid text reads as bytes and never makes a request fail.
Field numbers are those of opentelemetry-proto v1.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_SCALARS = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "fixed32": FieldDescriptorProto.TYPE_FIXED32,
    "fixed64": FieldDescriptorProto.TYPE_FIXED64,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
}
_MAP = "map"
_REPEATED = "repeated "
_ATTRIBUTES = (1, 3, 6, 9)
"""Field numbers of attributes: of resources, events, log records and spans."""

_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    # An export request of any signal.
    "Request": {"resources": (1, "repeated ResourceItems")},
    "ResourceItems": {
        "resource": (1, "repeated bytes"),
        "scopes": (2, "repeated ScopeItems"),
        "schema_url": (3, "repeated bytes"),
    },
    "ScopeItems": {
        "scope": (1, "repeated bytes"),
        "items": (2, "repeated bytes"),
        "schema_url": (3, "repeated bytes"),
    },
    "Resource": {"attributes": (1, _MAP)},
    "Scope": {"name": (1, "string"), "version": (2, "string")},
    "Span": {
        "trace_id": (1, "bytes"),
        "span_id": (2, "bytes"),
        "parent_span_id": (4, "bytes"),
        "name": (5, "string"),
        "kind": (6, "int32"),
        "start_time_unix_nano": (7, "fixed64"),
        "end_time_unix_nano": (8, "fixed64"),
        "attributes": (9, _MAP),
        "events": (11, "repeated bytes"),
        "status": (15, "Status"),
        # Not read, but most spans have it: fields without a schema are looked at one by one (`values.attributes_of`).
        "flags": (16, "fixed32"),
    },
    # Of a span of which nothing else matters; the rest is passed over.
    "SpanHead": {
        "trace_id": (1, "bytes"),
        "span_id": (2, "bytes"),
        "parent_span_id": (4, "bytes"),
        "start_time_unix_nano": (7, "fixed64"),
        "end_time_unix_nano": (8, "fixed64"),
    },
    "Status": {"code": (3, "int32")},
    "Event": {"time_unix_nano": (1, "fixed64"), "name": (2, "string"), "attributes": (3, _MAP)},
    "LogRecord": {
        "time_unix_nano": (1, "fixed64"),
        "severity_number": (2, "int32"),
        "body": (5, "AnyValue"),
        "attributes": (6, _MAP),
        "trace_id": (9, "bytes"),
        "span_id": (10, "bytes"),
        "observed_time_unix_nano": (11, "fixed64"),
        "event_name": (12, "string"),
    },
    "Metric": {
        "gauge": (5, "Points"),
        "sum": (7, "Points"),
        "histogram": (9, "Points"),
        "exponential_histogram": (10, "Points"),
        "summary": (11, "Points"),
    },
    "Points": {"data_points": (1, "repeated bytes")},
    "AnyValue": {
        "string_value": (1, "string"),
        "bool_value": (2, "bool"),
        "int_value": (3, "int64"),
        "double_value": (4, "double"),
        "array_value": (5, "ArrayValue"),
        "kvlist_value": (6, "KeyValueList"),
        "bytes_value": (7, "bytes"),
    },
    "ArrayValue": {"values": (1, "repeated AnyValue")},
    "KeyValueList": {"values": (1, "repeated KeyValue")},
    "KeyValue": {"key": (1, "string"), "value": (2, "AnyValue")},
    # A KeyValue with fields of a later OTLP version: a map leaves such an entry out.
    "Entry": {"key": (1, "string"), "value": (2, "bytes")},
    **{f"Entries{number}": {"attributes": (number, "repeated Entry")} for number in _ATTRIBUTES},
}
_ONEOF = {"AnyValue": "value"}


def _add_field(message: DescriptorProto, name: str, number: int, kind: str) -> None:
    label = FieldDescriptorProto.LABEL_OPTIONAL
    if kind.startswith(_REPEATED):
        label, kind = FieldDescriptorProto.LABEL_REPEATED, kind.removeprefix(_REPEATED)
    field = message.field.add(name=name, number=number, label=label)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".spanledger.wire.{kind}"


def _add_map(message: DescriptorProto, name: str, number: int) -> None:
    entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
    entry.options.map_entry = True
    _add_field(entry, "key", 1, "string")
    _add_field(entry, "value", 2, "bytes")
    _add_field(message, name, number, f"repeated {message.name}.{entry.name}")


def _build() -> DescriptorPool:
    file = FileDescriptorProto(name="spanledger/wire.proto", package="spanledger.wire", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            if kind == _MAP:
                _add_map(message, field, number)
            else:
                _add_field(message, field, number, kind)
        if name in _ONEOF:
            message.oneof_decl.add(name=_ONEOF[name])
            for declared in message.field:
                declared.oneof_index = 0
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _build()


def _class(name: str) -> Any:
    """Return the message class; typed as Any because its fields come from the table above."""
    return GetMessageClass(_POOL.FindMessageTypeByName(f"spanledger.wire.{name}"))


Request = _class("Request")
Resource = _class("Resource")
Scope = _class("Scope")
Span = _class("Span")
SpanHead = _class("SpanHead")
Event = _class("Event")
LogRecord = _class("LogRecord")
Metric = _class("Metric")
AnyValue = _class("AnyValue")
Entry = _class("Entry")
ENTRIES = {number: _class(f"Entries{number}") for number in _ATTRIBUTES}
"""Messages of which nothing is read but the attributes, by the number of these: all of them, as they stand there."""


def text(value: str | bytes) -> str:
    """Return a string field as read: protobuf gives bytes where the text is not valid UTF-8."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
