"""Records as bytes: msgpack, for values that msgpack alone refuses."""

from __future__ import annotations

from threading import local
from typing import Any, cast

import msgpack


class _Packer(local):
    """A thread's own packer: `packb` makes one for every record, which takes longer than to pack a short one."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer().pack


_PACKER = _Packer()


def pack(row: Any) -> bytes:
    """Return `row` in msgpack. Text may hold lone surrogates; an integer beyond 64 bits is written as decimal text."""
    try:
        return _PACKER.pack(row)  # type: ignore[no-any-return]
    except (OverflowError, UnicodeEncodeError):
        return cast(bytes, msgpack.packb(_narrow(row), unicode_errors="surrogatepass"))


def unpack(record: bytes) -> Any:
    """Return the value that `pack` wrote, with sequences as lists and wide integers as text."""
    return msgpack.unpackb(record, strict_map_key=False, unicode_errors="surrogatepass")


def second(record: bytes) -> Any:
    """Return the second element of a record, without reading the rest; None where there is none."""
    unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors="surrogatepass")
    unpacker.feed(record)
    try:
        if unpacker.read_array_header() > 1:
            unpacker.skip()
            return unpacker.unpack()
    except (ValueError, msgpack.UnpackException):
        return None
    return None


def _narrow(value: Any) -> Any:
    if type(value) is int:
        return value if -(1 << 63) <= value < 1 << 64 else str(value)
    if isinstance(value, dict):
        return {_narrow(key): _narrow(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_narrow(inner) for inner in value]
    return value
