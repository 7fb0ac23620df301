"""Appending to items by bytes: lengths around what was appended are rewritten, every other byte is copied.

Encoded messages concatenate: the bytes of a span followed by encoded attribute fields are that span with those
attributes after its own. Nothing is parsed into messages and written anew, so order, unknown fields, duplicates and
encodings that are longer than needed come through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import TypeAlias

from spanledger_processor.wire.fields import LENGTH, fields, write_varint

_Pieces: TypeAlias = list[bytes]
_Replace: TypeAlias = Callable[[int, int], _Pieces | None]


def splice(body: bytes, extras: Mapping[tuple[int, int], bytes]) -> bytes:
    """`body`, an envelope that was read, with extras[group, item] appended to those items.

    Groups are counted over the whole request, items inside their group.
    """
    touched = {group for group, _ in extras}
    groups = count()

    def scoped(start: int, end: int) -> _Pieces | None:
        group = next(groups)
        if group not in touched:
            return None
        items = count()

        def item(start: int, end: int) -> _Pieces | None:
            extra = extras.get((group, next(items)))
            return None if extra is None else [body[start:end], extra]

        return _rewrite(body, start, end, 2, item)

    pieces = _rewrite(body, 0, len(body), 1, lambda start, end: _rewrite(body, start, end, 2, scoped))
    return body if pieces is None else b"".join(pieces)


def _rewrite(body: bytes, start: int, end: int, number: int, replace: _Replace) -> _Pieces | None:
    """The message at [start, end) with its fields `number` replaced; None if `replace` changed none."""
    pieces: _Pieces = []
    copied = start
    for field in fields(body, start, end):
        if field.number != number or field.wire_type != LENGTH:
            continue
        new = replace(field.start, field.end)
        if new is not None:
            pieces += (body[copied : field.tag_end], write_varint(sum(map(len, new))), *new)
            copied = field.end
    if not pieces:
        return None
    pieces.append(body[copied:end])
    return pieces
