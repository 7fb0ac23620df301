"""Records as bytes: msgpack, also for values that the library refuses.

It refuses text with lone surrogates, which is no UTF-8, and integers beyond 64 bits. A record that holds one is written
value by value, and one with such text is read so, in the form that earlier releases gave it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import Raw, Struct
from msgspec.msgpack import decode, encode


def pack(row: Any) -> bytes:
    """Return `row` in msgpack. Text may hold lone surrogates; an integer beyond 64 bits is written as decimal text."""
    try:
        return encode(row)
    except (OverflowError, UnicodeEncodeError):
        return _pack_each(row)


def unpack(record: bytes) -> Any:
    """Return the value that `pack` wrote, with sequences as lists and wide integers as text.

    Raises:
        ValueError: it is no msgpack, or one of too many levels.
    """
    try:
        try:
            return decode(record)
        except ValueError:  # of text before msgspec 0.23 a UnicodeDecodeError
            return _unpack_each(record)
    except RecursionError as error:
        raise ValueError("a record of too many levels") from error


class _Beginning(Struct, array_like=True):
    """The elements of a record that `second` reads."""

    first: Raw
    second: Any


def second(record: bytes) -> Any:
    """Return the second element of a record, without values of the others; None where there is none."""
    try:
        return decode(record, type=_Beginning).second
    except ValueError:
        return None


class _Form(NamedTuple):
    """How a text, array or map begins (https://github.com/msgpack/msgpack/blob/master/spec.md).

    Fewer than `most_fixed` bytes or elements are added to the byte `fixed`; of more, `wide` has first bytes, and
    how many bytes of their number follow.
    """

    fixed: int
    most_fixed: int
    wide: Mapping[int, int]

    def header(self, count: int) -> bytes:
        """Return what stands before so many bytes or elements."""
        if count < self.most_fixed:
            return bytes((self.fixed + count,))
        first, width = next((first, width) for first, width in self.wide.items() if count < 1 << 8 * width)
        return bytes((first, *count.to_bytes(width)))

    def split(self, record: bytes) -> tuple[int, bytes] | None:
        """Return how many bytes or elements a record has, and them; None where it is of another form."""
        first = record[0]
        if self.fixed <= first < self.fixed + self.most_fixed:
            return first - self.fixed, record[1:]
        width = self.wide.get(first)
        return None if width is None else (int.from_bytes(record[1 : 1 + width]), record[1 + width :])


_MAP = _Form(0x80, 16, {0xDE: 2, 0xDF: 4})
_ARRAY = _Form(0x90, 16, {0xDC: 2, 0xDD: 4})
_TEXT = _Form(0xA0, 32, {0xD9: 1, 0xDA: 2, 0xDB: 4})


def _pack_each(value: Any) -> bytes:
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return _TEXT.header(len(text)) + text
    if isinstance(value, dict):
        return _MAP.header(len(value)) + b"".join([_pack_each(one) for entry in value.items() for one in entry])
    if isinstance(value, (list, tuple)):
        return _ARRAY.header(len(value)) + b"".join(map(_pack_each, value))
    try:
        return encode(value)
    except OverflowError:
        return encode(str(value))


def _unpack_each(record: bytes) -> Any:
    decode(record, type=Raw)  # raises where it is not one whole value
    if text := _TEXT.split(record):
        return text[1].decode("utf-8", "surrogatepass")
    if entries := _MAP.split(record):
        count, rest = entries
        parts = _unpack_each(_ARRAY.header(2 * count) + rest)
        return dict(zip(parts[::2], parts[1::2], strict=True))
    return [unpack(bytes(part)) for part in decode(record, type=list[Raw])]
