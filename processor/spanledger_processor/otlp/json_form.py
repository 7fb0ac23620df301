"""OTLP's JSON form, both ways. It stays equal in meaning, not in bytes.

Rules are protobuf's JSON mapping with OTLP's own: ids in hex, enums as numbers (names are taken too), 64-bit numbers
as text, unknown members ignored, null as absent (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
Errors name a path and a kind of value, never a value. `google.protobuf.json_format` is not used: it has no hex ids,
puts values into its errors, and is too slow for a file exporter.

Messages are the published ones, and copies of them that take any bytes for text: proto2, which does not check UTF-8,
with the published names, numbers and types, but that enums are their numbers. A request whose text is not valid UTF-8
can be read by the copies only.
"""

from __future__ import annotations

import binascii
import math
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal, TypeAlias

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.envelope import MAX_ITEMS, check_envelope
from spanledger_processor.otlp.json_text import LONG, JsonText
from spanledger_processor.otlp.signals import LOGS, METRICS, TRACES, Envelope
from spanledger_processor.otlp.wire import LENGTH, MalformedError, WireField, fields, write_varint

TYPES = FieldDescriptorProto

_IDS = frozenset({"trace_id", "span_id", "parent_span_id"})
"""Bytes that OTLP's JSON writes in hex, not base64."""


@dataclass(frozen=True, slots=True)
class RequestSchema:
    """A signal's envelope, its published request and the copy that takes any bytes for text."""

    envelope: Envelope
    published: Any
    lenient: Any


@dataclass(frozen=True, slots=True)
class JsonField:
    """One field as JSON sees it. `type` and `message` are protobuf's; `hex` marks ids."""

    number: int
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
        field.number,
        field.name,
        field.json_name,
        field.type,
        field.is_repeated,
        field.message_type,
        {} if field.enum_type is None else {value.name: value.number for value in field.enum_type.values},
        field.name in _IDS,
    )


def _lenient(requests: Iterable[Any]) -> DescriptorPool:
    """Return a pool with the copies of everything that `requests` need, each file once, after what it needs itself."""
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
    name: RequestSchema(envelope, request, GetMessageClass(_POOL.FindMessageTypeByName(request.DESCRIPTOR.full_name)))
    for name, (envelope, request) in _PUBLISHED.items()
}


Signal: TypeAlias = Literal["traces", "logs", "metrics"]


def to_protobuf(signal: Signal, text: bytes) -> bytes:
    """Return an export request in JSON as protobuf. Text that is not valid Unicode becomes U+FFFD where it is not.

    What is longer than a window is read member by member and element by element, so that it takes little more room
    than the text and the result, and no single step takes as long as the request, or anything in it, is large.

    Raises:
        MalformedError: it is no such request; names the path and what is wrong there, never a value.
    """
    kind = SIGNALS[signal]
    request = kind.envelope.request
    reader = JsonText(text.decode("utf-8-sig", "replace"))
    try:
        content, names = _message(reader, kind.published, 1)
        reader.end()
    except _WrongError as wrong:
        raise MalformedError(f"{wrong.path.lstrip('.') or '(root)'}: {wrong}") from None
    except RecursionError:
        raise MalformedError(f"{request}: nested too deep") from None
    except ValueError as error:
        raise MalformedError(f"{request}: not JSON: {error}") from None
    if names and not names & fields_by_name(kind.published.DESCRIPTOR).keys():
        raise MalformedError(f"{request}: holds no {kind.published.DESCRIPTOR.fields[0].json_name}")
    return content


def to_json(signal: Signal, body: bytes) -> bytes:
    """Return an export request in protobuf as JSON, in one line, with everything in `body` that can be read.

    Text that is not UTF-8 holds U+FFFD instead. Of a span, record or metric that cannot be read to its end, the rest
    is left out: whatever passes through can be written to a file.

    Raises:
        MalformedError: `body` is no such request.
    """
    kind = SIGNALS[signal]
    check_envelope(body, kind.envelope)
    try:
        message = kind.lenient.FromString(body)
    except DecodeError:
        message = salvage(kind.lenient(), body)
    return orjson.dumps(as_object(message))


def _message(reader: JsonText, kind: Any, depth: int) -> tuple[bytes, set[str]]:
    """Return the message (of class `kind`) that comes next, and the names of its members."""
    content = reader.value()
    if content is not LONG:
        message = kind()
        _fill(message, content, depth)
        return message.SerializeToString(), {*content}
    if reader.peek() != "{":
        raise _WrongError(f"must be an object, not {_kind_of_next(reader)}")
    if depth > MAX_DEPTH:
        raise _WrongError(_TOO_DEEP)
    known = fields_by_name(kind.DESCRIPTOR)
    members: dict[str, Any] = {}  # bytes: one that is longer than a window, encoded
    unknown = set[str]()
    for name in reader.members():
        if name not in known:
            unknown = {name}
            reader.skip()
            continue
        value = reader.value()
        if value is LONG:
            with _at(f".{name}"):
                value = _long(reader, kind, known[name], depth)
        members[name] = value
    return b"".join(_encoded(members, kind, depth)), {*members} or unknown


def _encoded(members: Mapping[str, Any], kind: Any, depth: int) -> Iterator[bytes]:
    """Yield the members of a message, encoded, in their order: of those that exclude each other the last one holds."""
    for is_encoded, run in groupby(members.items(), lambda member: isinstance(member[1], bytes)):
        if is_encoded:
            yield from (value for _, value in run)
        else:
            message = kind()
            _fill(message, dict(run), depth)
            yield message.SerializeToString()


def _long(reader: JsonText, kind: Any, field: JsonField, depth: int) -> bytes:
    """Return a field of the class `kind`, encoded, whose value comes next and is longer than a window."""
    if field.repeated:
        if reader.peek() != "[":
            raise _WrongError(f"must be an array, not {_kind_of_next(reader)}")
        return _elements(reader, kind, field, depth)
    if field.message is not None:
        return _framed(field, _message(reader, GetMessageClass(field.message), depth + 1)[0])
    if reader.peek() in ("{", "["):
        message = kind()
        _set(message, field, {} if reader.peek() == "{" else [], depth)  # raises
    if field.type == TYPES.TYPE_STRING and reader.peek() == '"':
        return _framed(field, b"".join(text_of(piece).encode() for piece in reader.pieces()))
    return _scalar(kind, field, reader.scalar())


def _elements(reader: JsonText, kind: Any, field: JsonField, depth: int) -> bytes:
    elements = bytearray()
    of = None if field.message is None else GetMessageClass(field.message)
    for index in reader.elements():
        with _at(f"[{index}]"):
            if index >= MAX_ITEMS:
                raise _WrongError(_TOO_MANY)
            if of is not None:
                elements += _framed(field, _message(reader, of, depth + 1)[0])
            else:
                value = reader.value()
                elements += _scalar(kind, field, reader.scalar() if value is LONG else value)
    return bytes(elements)


def _scalar(kind: Any, field: JsonField, value: Any) -> bytes:
    """Return a field of the class `kind` that is no message, encoded; of a repeated one, one element."""
    message, content = kind(), _READERS[field.type](value, field)
    if field.repeated:
        getattr(message, field.name).append(content)
    else:
        setattr(message, field.name, content)
    encoded: bytes = message.SerializeToString()
    return encoded


def _framed(field: JsonField, content: bytes) -> bytes:
    return b"".join((write_varint(field.number << 3 | LENGTH), write_varint(len(content)), content))


@contextmanager
def _at(step: str) -> Iterator[None]:
    """Put a step of the path in front of that of what is wrong inside."""
    try:
        yield
    except _WrongError as wrong:
        wrong.path = f"{step}{wrong.path}"
        raise


_TOO_MANY = f"more than {MAX_ITEMS} elements; send them in smaller requests"


def _kind_of_next(reader: JsonText) -> str:
    """Return of what kind the value is that comes next, and is longer than a window or no JSON."""
    start = reader.peek()
    if start not in ("{", "["):
        return _kind(reader.scalar())
    reader.skip()  # raises where it is no JSON
    return "an object" if start == "{" else "an array"


MAX_DEPTH = 100
"""Messages inside each other at which protobuf's own parsers stop."""
_TOO_DEEP = f"more than {MAX_DEPTH} messages inside each other"

_DECIMAL = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class _WrongError(Exception):
    """A value that does not fit; the path grows at its front while it rises."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.path = ""


def _fill(message: Any, content: Any, depth: int) -> None:
    if not isinstance(content, dict):
        raise _WrongError(f"must be an object, not {_kind(content)}")
    if depth > MAX_DEPTH:
        raise _WrongError(_TOO_DEEP)
    known = fields_by_name(message.DESCRIPTOR)
    for name, value in content.items():
        field = known.get(name)
        if field is None or value is None:
            continue
        try:
            _set(message, field, value, depth)
        except _WrongError as wrong:
            wrong.path = f".{name}{wrong.path}"
            raise


def _set(message: Any, field: JsonField, value: Any, depth: int) -> None:
    if field.repeated:
        _extend(getattr(message, field.name), field, value, depth)
    elif field.message is not None:
        child = getattr(message, field.name)
        child.SetInParent()
        _fill(child, value, depth + 1)
    else:
        setattr(message, field.name, _READERS[field.type](value, field))


def _extend(target: Any, field: JsonField, values: Any, depth: int) -> None:
    if not isinstance(values, list):
        raise _WrongError(f"must be an array, not {_kind(values)}")
    if len(values) > MAX_ITEMS:
        raise _WrongError(_TOO_MANY)
    for index, value in enumerate(values):
        try:
            if field.message is not None:
                _fill(target.add(), value, depth + 1)
            else:
                target.append(_READERS[field.type](value, field))
        except _WrongError as wrong:
            wrong.path = f"[{index}]{wrong.path}"
            raise


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "null")


_KINDS = {dict: "an object", list: "an array", str: "text", bool: "a boolean", int: "a number", float: "a fraction"}


def text_of(value: str) -> str:
    """Return `value` as UTF-8 can express it: a lone surrogate, which JSON can hold, becomes U+FFFD."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _SURROGATE.search(value) else value


_SURROGATE = re.compile("[\ud800-\udfff]")


def _string(value: Any, _: JsonField) -> str:
    if not isinstance(value, str):
        raise _WrongError(f"must be text, not {_kind(value)}")
    return text_of(value)


def _bytes(value: Any, field: JsonField) -> bytes:
    if not isinstance(value, str):
        raise _WrongError(f"must be text, not {_kind(value)}")
    try:
        if field.hex:
            return binascii.unhexlify(value)
        plain = value.replace("-", "+").replace("_", "/").rstrip("=")
        return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except ValueError:
        raise _WrongError("must be in hex" if field.hex else "must be in base64") from None


def _bool(value: Any, _: JsonField) -> bool:
    if not isinstance(value, bool):
        raise _WrongError(f"must be a boolean, not {_kind(value)}")
    return value


def _double(value: Any, _: JsonField) -> float:
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number and not (isinstance(value, str) and _NUMBER.fullmatch(value)):
        raise _WrongError(f"must be a number, not {_kind(value)}")
    try:
        return float(value)
    except OverflowError:
        raise _WrongError("is too large for a double") from None


def _integer(lowest: int, highest: int) -> Callable[[Any, JsonField], int]:
    def read(value: Any, _: JsonField) -> int:
        if not _is_whole(value):
            raise _WrongError(f"must be a whole number, not {_kind(value)}")
        if not lowest <= (number := int(value)) <= highest:
            raise _WrongError(f"must be from {lowest} to {highest}")
        return number

    return read


def _is_whole(value: Any) -> bool:
    if isinstance(value, str):
        return _DECIMAL.fullmatch(value) is not None
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _enum(value: Any, field: JsonField) -> int:
    if isinstance(value, str) and value in field.enum:
        return field.enum[value]
    return _INT32(value, field)


_INT32 = _integer(-(2**31), 2**31 - 1)
_INT64 = _integer(-(2**63), 2**63 - 1)
_UINT32 = _integer(0, 2**32 - 1)
_UINT64 = _integer(0, 2**64 - 1)

_READERS: dict[int, Callable[[Any, JsonField], Any]] = {
    TYPES.TYPE_STRING: _string,
    TYPES.TYPE_BYTES: _bytes,
    TYPES.TYPE_BOOL: _bool,
    TYPES.TYPE_DOUBLE: _double,
    TYPES.TYPE_ENUM: _enum,
    TYPES.TYPE_INT32: _INT32,
    TYPES.TYPE_SINT32: _INT32,
    TYPES.TYPE_SFIXED32: _INT32,
    TYPES.TYPE_INT64: _INT64,
    TYPES.TYPE_SINT64: _INT64,
    TYPES.TYPE_SFIXED64: _INT64,
    TYPES.TYPE_UINT32: _UINT32,
    TYPES.TYPE_FIXED32: _UINT32,
    TYPES.TYPE_UINT64: _UINT64,
    TYPES.TYPE_FIXED64: _UINT64,
}


_MAX_DESCENT = 50
"""Depth of `salvage` in what cannot be read; with what protobuf reads below, still less than JSON writers take."""


def as_object(message: Any) -> dict[str, Any]:
    """Return the fields that are set, as JSON has them."""
    known = fields_by_number(message.DESCRIPTOR)
    content = {}
    for descriptor, value in message.ListFields():
        field = known[descriptor.number]
        write = _WRITERS.get(field.type, _write_as_is)
        content[field.json_name] = [write(item, field) for item in value] if field.repeated else write(value, field)
    return content


def salvage(message: Any, encoded: bytes, depth: int = 0) -> Any:
    """Return `message` with all of `encoded` that can be read; a field that cannot is left out."""
    at = 0
    with suppress(MalformedError):  # what follows a field that does not end has no beginning that could be found
        for field in fields(encoded, 0, len(encoded)):
            try:
                message.MergeFrom(type(message).FromString(encoded[at : field.end]))
            except DecodeError:
                _descend(message, field, encoded[field.start : field.end], depth)
            at = field.end
    return message


def _descend(message: Any, field: WireField, content: bytes, depth: int) -> None:
    known = fields_by_number(message.DESCRIPTOR).get(field.number)
    if known is None or known.message is None or field.wire_type != LENGTH or depth == _MAX_DESCENT:
        return
    child = getattr(message, known.name)
    if known.repeated:
        child = child.add()
    else:
        child.SetInParent()
    salvage(child, content, depth + 1)


def _write_message(value: Any, _: JsonField) -> dict[str, Any]:
    return as_object(value)


def _write_string(value: str | bytes, _: JsonField) -> str:
    return schema.text(value)


def _write_bytes(value: bytes, field: JsonField) -> str:
    return value.hex() if field.hex else b64encode(value).decode()


def _write_double(value: float, _: JsonField) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _write_decimal(value: int, _: JsonField) -> str:
    return str(value)


def _write_as_is(value: Any, _: JsonField) -> Any:
    return value


_WRITERS: dict[int, Callable[[Any, JsonField], Any]] = {
    TYPES.TYPE_MESSAGE: _write_message,
    TYPES.TYPE_STRING: _write_string,
    TYPES.TYPE_BYTES: _write_bytes,
    TYPES.TYPE_DOUBLE: _write_double,
    TYPES.TYPE_INT64: _write_decimal,
    TYPES.TYPE_SINT64: _write_decimal,
    TYPES.TYPE_SFIXED64: _write_decimal,
    TYPES.TYPE_UINT64: _write_decimal,
    TYPES.TYPE_FIXED64: _write_decimal,
}
