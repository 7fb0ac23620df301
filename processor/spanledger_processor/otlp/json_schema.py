"""OTLP's own messages, for the JSON form: the published ones, and copies of them that take any bytes for text.

The copies are proto2, which does not check UTF-8; names, numbers and types are the published ones, but that enums are
their numbers. A request whose text is not valid UTF-8 can be read by them only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanledger_processor.otlp.envelope import LOGS, METRICS, TRACES, Envelope

TYPES = FieldDescriptorProto

_IDS = frozenset({"trace_id", "span_id", "parent_span_id"})
"""Bytes that OTLP's JSON writes in hex, not base64."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal's envelope, its published request and the copy that takes any bytes for text."""

    envelope: Envelope
    published: Any
    lenient: Any


@dataclass(frozen=True, slots=True)
class JsonField:
    """One field as JSON sees it. `type` and `message` are protobuf's; `hex` marks ids."""

    name: str
    json_name: str
    type: int
    repeated: bool
    message: Descriptor | None
    enum: Mapping[str, int]
    hex: bool


@lru_cache(128)
def fields_by_number(message: Descriptor) -> dict[int, JsonField]:
    """Return the fields of a message by their numbers; one entry a message type, of which OTLP has about fifty."""
    return {field.number: _field(field) for field in message.fields}


@lru_cache(128)
def fields_by_name(message: Descriptor) -> dict[str, JsonField]:
    """Return the fields of a message by their names in JSON; protobuf's own names are taken as well."""
    known = fields_by_number(message).values()
    return {field.name: field for field in known} | {field.json_name: field for field in known}


def _field(field: FieldDescriptor) -> JsonField:
    return JsonField(
        field.name,
        field.json_name,
        field.type,
        field.is_repeated,
        field.message_type,
        {} if field.enum_type is None else {value.name: value.number for value in field.enum_type.values},
        field.name in _IDS,
    )


def _lenient(requests: Iterable[Any]) -> DescriptorPool:
    """A pool with the copies of everything that `requests` need, each file once, after what it needs itself."""
    pool = DescriptorPool()
    files = {file.name: file for request in requests for file in _with_dependencies(request.DESCRIPTOR.file)}
    for file in files.values():
        copy = FileDescriptorProto.FromString(file.serialized_pb)
        copy.syntax = "proto2"
        for message in copy.message_type:
            _loosen(message)
        pool.Add(copy)
    return pool


def _with_dependencies(file: FileDescriptor) -> Iterator[FileDescriptor]:
    for dependency in file.dependencies:
        yield from _with_dependencies(dependency)
    yield file


def _loosen(message: DescriptorProto) -> None:
    """Make a proto3 message fit for proto2: no `optional` in a oneof of its own, no enum that drops later values."""
    for field in message.field:
        if field.type == TYPES.TYPE_ENUM:
            field.type = TYPES.TYPE_INT32
            field.ClearField("type_name")
        if field.proto3_optional:
            field.ClearField("proto3_optional")
            field.ClearField("oneof_index")
    used = {field.oneof_index for field in message.field if field.HasField("oneof_index")}
    del message.oneof_decl[len(used) :]  # those made for `optional` stand last
    for nested in message.nested_type:
        _loosen(nested)


_PUBLISHED: dict[str, tuple[Envelope, Any]] = {
    "traces": (TRACES, ExportTraceServiceRequest),
    "logs": (LOGS, ExportLogsServiceRequest),
    "metrics": (METRICS, ExportMetricsServiceRequest),
}
_POOL = _lenient(request for _, request in _PUBLISHED.values())

SIGNALS = {
    name: Signal(envelope, request, GetMessageClass(_POOL.FindMessageTypeByName(request.DESCRIPTOR.full_name)))
    for name, (envelope, request) in _PUBLISHED.items()
}
