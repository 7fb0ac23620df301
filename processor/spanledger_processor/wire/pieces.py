"""Attributes as encoded fields, byte for byte as protobuf writes them, without building messages.

Everything of an attribute but its value is known beforehand, so a piece is a prefix made once and the value behind it.
A piece is one `repeated KeyValue` field of the message it is appended to, by default Span.attributes (field 9).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from spanledger_processor.wire.fields import LENGTH, write_varint

SPAN_ATTRIBUTES = 9
INT64 = range(-(2**63), 2**63)

_DOUBLE = struct.Struct("<d")


def delimited(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return write_varint(number << 3 | LENGTH) + write_varint(len(content)) + content


def _prefix(key: str, tag: bytes, size: int, number: int) -> bytes:
    """What stands before a value that is written as `tag` and `size` bytes."""
    value = write_varint(2 << 3 | LENGTH) + write_varint(len(tag) + size) + tag
    entry = delimited(1, key.encode()) + value
    return write_varint(number << 3 | LENGTH) + write_varint(len(entry) + size) + entry


def text(key: str, number: int = SPAN_ATTRIBUTES) -> Callable[[str], bytes]:
    """Writes string attributes named `key`; characters that UTF-8 cannot express become `?`."""

    def piece(value: str) -> bytes:
        content = value.encode("utf-8", "replace")
        return _prefix(key, b"\x0a" + write_varint(len(content)), len(content), number) + content

    return piece


def integer(key: str, number: int = SPAN_ATTRIBUTES) -> Callable[[int], bytes]:
    """Writes int attributes named `key`, in the range of int64."""
    prefixes = [_prefix(key, b"\x18", size, number) for size in range(11)]

    def piece(value: int) -> bytes:
        content = write_varint(value & 0xFFFF_FFFF_FFFF_FFFF)
        return prefixes[len(content)] + content

    return piece


def double(key: str, number: int = SPAN_ATTRIBUTES) -> Callable[[float], bytes]:
    """Writes double attributes named `key`."""
    prefix = _prefix(key, b"\x21", _DOUBLE.size, number)

    def piece(value: float) -> bytes:
        return prefix + _DOUBLE.pack(value)

    return piece


def flag(key: str, *, value: bool, number: int = SPAN_ATTRIBUTES) -> bytes:
    """A bool attribute named `key`."""
    return _prefix(key, b"\x10", 1, number) + bytes((value,))
