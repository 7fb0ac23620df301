"""Values as bytes for the cursor."""

from __future__ import annotations

from typing import Any

import msgpack


def pack(value: Any) -> bytes:
    """The stored form of a plain value."""
    packed: bytes | None = msgpack.packb(value)
    assert packed is not None, "only a stream packs to nothing"
    return packed


def unpack(packed: bytes) -> Any:
    """The value back."""
    return msgpack.unpackb(packed, strict_map_key=False)
