"""From messages to OTLP's JSON form: ids in hex, enums as numbers, 64-bit numbers as text."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from google.protobuf.message import DecodeError

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.errors import MalformedError
from spanledger_processor.otlp.fields import LENGTH, Field, fields
from spanledger_processor.otlp.json_schema import TYPES, JsonField, fields_by_number

_MAX_DESCENT = 50
"""How far `salvage` follows what cannot be read; with what protobuf reads below, still less than JSON writers take."""


def as_object(message: Any) -> dict[str, Any]:
    """The fields that are set, as JSON has them."""
    known = fields_by_number(message.DESCRIPTOR)
    content = {}
    for descriptor, value in message.ListFields():
        field = known[descriptor.number]
        write = _WRITERS.get(field.type, _as_is)
        content[field.json_name] = [write(item, field) for item in value] if field.repeated else write(value, field)
    return content


def salvage(message: Any, encoded: bytes, depth: int = 0) -> Any:
    """`message` with all of `encoded` that can be read; a field that cannot is left out."""
    at = 0
    with suppress(MalformedError):  # what follows a field that does not end has no beginning that could be found
        for field in fields(encoded, 0, len(encoded)):
            try:
                message.MergeFrom(type(message).FromString(encoded[at : field.end]))
            except DecodeError:
                _descend(message, field, encoded[field.start : field.end], depth)
            at = field.end
    return message


def _descend(message: Any, field: Field, content: bytes, depth: int) -> None:
    known = fields_by_number(message.DESCRIPTOR).get(field.number)
    if known is None or known.message is None or field.wire_type != LENGTH or depth == _MAX_DESCENT:
        return
    child = getattr(message, known.name)
    if known.repeated:
        child = child.add()
    else:
        child.SetInParent()
    salvage(child, content, depth + 1)


def _message(value: Any, _: JsonField) -> dict[str, Any]:
    return as_object(value)


def _string(value: str | bytes, _: JsonField) -> str:
    return schema.text(value)


def _bytes(value: bytes, field: JsonField) -> str:
    return value.hex() if field.hex else b64encode(value).decode()


def _double(value: float, _: JsonField) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _decimal(value: int, _: JsonField) -> str:
    return str(value)


def _as_is(value: Any, _: JsonField) -> Any:
    return value


_WRITERS: dict[int, Callable[[Any, JsonField], Any]] = {
    TYPES.TYPE_MESSAGE: _message,
    TYPES.TYPE_STRING: _string,
    TYPES.TYPE_BYTES: _bytes,
    TYPES.TYPE_DOUBLE: _double,
    TYPES.TYPE_INT64: _decimal,
    TYPES.TYPE_SINT64: _decimal,
    TYPES.TYPE_SFIXED64: _decimal,
    TYPES.TYPE_UINT64: _decimal,
    TYPES.TYPE_FIXED64: _decimal,
}
