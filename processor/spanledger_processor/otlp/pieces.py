"""Attributes as encoded fields, byte for byte as protobuf writes them, without building messages.

Everything of an attribute but its value is known beforehand, so a piece is a prefix made once and the value behind it.
A piece is one `repeated KeyValue` field of a span (Span.attributes).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.fields import LENGTH, fields, write_varint
from spanledger_processor.otlp.values import Attributes

INT64 = range(-(2**63), 2**63)

_SPAN_ATTRIBUTES = 9
_STRING, _BOOL, _INT, _DOUBLE = b"\x0a", b"\x10", b"\x18", b"\x21"
"""Tags of AnyValue's fields."""
_LENGTHS_CACHED = 4096
_SMALL = 128
"""Numbers of one byte, nearly every second one, are kept whole."""


def delimited(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return write_varint(number << 3 | LENGTH) + write_varint(len(content)) + content


def text(key: str) -> Callable[[str], bytes]:
    """Writes string attributes named `key`; characters that UTF-8 cannot express become `?`."""

    def piece(value: str) -> bytes:
        content = value.encode("utf-8", "replace")
        return _text_prefix(key, len(content)) + content

    return piece


def integer(key: str) -> Callable[[int], bytes]:
    """Writes int attributes named `key`, in the range of int64."""
    prefixes = [_prefix(key, _INT, size) for size in range(11)]
    small = [prefixes[1] + write_varint(value) for value in range(_SMALL)]

    def piece(value: int) -> bytes:
        if 0 <= value < _SMALL:
            return small[value]
        content = write_varint(value & 0xFFFF_FFFF_FFFF_FFFF)
        return prefixes[len(content)] + content

    return piece


def double(key: str) -> Callable[[float], bytes]:
    """Writes double attributes named `key`."""
    prefix, pack = _prefix(key, _DOUBLE, 8), struct.Struct("<d").pack

    def piece(value: float) -> bytes:
        return prefix + pack(value)

    return piece


def doubles(*keys: str) -> Callable[..., bytes]:
    """Writes double attributes named `keys`, one value each, in one go."""
    prefixes: list[bytes | float] = [_prefix(key, _DOUBLE, 8) for key in keys]
    pack = struct.Struct("<" + "".join(f"{len(_prefix(key, _DOUBLE, 8))}sd" for key in keys)).pack

    def piece(*values: float) -> bytes:
        arguments: list[bytes | float] = prefixes + prefixes  # a place for each prefix and the value behind it
        arguments[::2], arguments[1::2] = prefixes, values
        return pack(*arguments)

    return piece


def flag(key: str, *, value: bool) -> bytes:
    """A bool attribute named `key`."""
    return _prefix(key, _BOOL, 1) + bytes((value,))


def beside(present: Attributes, pieces: bytes) -> bytes:
    """`pieces` without those that `present` holds with the very same value."""
    kept, at = [], 0
    for field in fields(pieces, 0, len(pieces)):
        entry = schema.Entry.FromString(pieces[field.start : field.end])
        if not present.holds(entry.key, entry.value):
            kept.append(pieces[at : field.end])
        at = field.end
    return b"".join(kept)


def _prefix(key: str, tag: bytes, size: int) -> bytes:
    """What stands before a value that is written as `tag` and `size` bytes."""
    value = write_varint(2 << 3 | LENGTH) + write_varint(len(tag) + size) + tag
    entry = delimited(1, key.encode()) + value
    return write_varint(_SPAN_ATTRIBUTES << 3 | LENGTH) + write_varint(len(entry) + size) + entry


@lru_cache(_LENGTHS_CACHED)
def _text_prefix(key: str, size: int) -> bytes:
    return _prefix(key, _STRING + write_varint(size), size)
