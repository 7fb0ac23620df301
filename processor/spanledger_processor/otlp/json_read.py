"""From OTLP's JSON form to messages, with the path of what is wrong.

The rules are protobuf's JSON mapping with OTLP's own: ids in hex, enums as numbers (names are taken too), unknown
members ignored, null as absent. Errors name a path and a kind of value, never a value.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable
from typing import Any

from spanledger_processor.otlp.envelope import MAX_ITEMS
from spanledger_processor.otlp.errors import MalformedError
from spanledger_processor.otlp.json_schema import TYPES, JsonField, fields_by_name

MAX_DEPTH = 100
"""Messages inside each other at which protobuf's own parsers stop."""

_DECIMAL = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class _WrongError(Exception):
    """What is wrong; the path grows at its front while it rises."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.path = ""


def fill(message: Any, content: Any) -> None:
    """Set the fields of `message` that the JSON object `content` has.

    Raises:
        MalformedError: a value does not fit its field.
    """
    try:
        _fill(message, content, 1)
    except _WrongError as wrong:
        raise MalformedError(f"{wrong.path.lstrip('.') or '(root)'}: {wrong}") from None


def _fill(message: Any, content: Any, depth: int) -> None:
    if not isinstance(content, dict):
        raise _WrongError(f"must be an object, not {_kind(content)}")
    if depth > MAX_DEPTH:
        raise _WrongError(f"more than {MAX_DEPTH} messages inside each other")
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
        raise _WrongError(f"more than {MAX_ITEMS} elements; send them in smaller requests")
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
    """`value` as UTF-8 can express it: a lone surrogate, which JSON can hold, becomes U+FFFD."""
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
