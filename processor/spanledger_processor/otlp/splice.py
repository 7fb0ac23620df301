"""Appending to items by bytes: lengths around what was appended are rewritten, every other byte is copied.

Encoded messages concatenate: the bytes of a span followed by encoded attribute fields are that span with those
attributes after its own. Nothing is parsed into messages and written anew, so order, unknown fields, duplicates and
encodings that are longer than needed come through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import TypeAlias

from spanledger_processor.otlp.fields import LENGTH, fields, read_varint, write_varint

_Pieces: TypeAlias = list[bytes]

_GROUPS, _SCOPED, _ITEMS = 1, 2, 2
"""Field numbers: groups of a request, scopes of a group, items of a scope."""
_ITEM_TAG = _ITEMS << 3 | LENGTH


def splice(body: bytes, extras: Mapping[int, Mapping[int, bytes]]) -> bytes:
    """`body`, an envelope that was read, with extras[scope][item] appended to those items.

    Scopes are counted over the whole request, items inside their scope.
    """
    scopes = count()

    def scoped(start: int, end: int) -> _Pieces | None:
        appended = extras.get(next(scopes))
        return None if appended is None else _append(body, start, end, appended)

    def group(start: int, end: int) -> _Pieces | None:
        return _replace(body, start, end, _SCOPED, scoped)

    pieces = _replace(body, 0, len(body), _GROUPS, group)
    return body if pieces is None else b"".join(pieces)


def _replace(
    body: bytes, start: int, end: int, number: int, new: Callable[[int, int], _Pieces | None]
) -> _Pieces | None:
    """The message at [start, end) with its fields `number` replaced; None if `new` has nothing for any of them."""
    pieces: _Pieces = []
    copied = start
    for field in fields(body, start, end):
        if field.number != number or field.wire_type != LENGTH:
            continue
        content = new(field.start, field.end)
        if content:
            pieces += (body[copied : field.tag_end], write_varint(sum(map(len, content))), *content)
            copied = field.end
    return [*pieces, body[copied:end]] if pieces else None


def _append(body: bytes, start: int, end: int, extras: Mapping[int, bytes]) -> _Pieces:
    """The scope at [start, end) with `extras` appended to its items.

    Goes over every item of a request, so what is common is read in place: a tag of one byte, a length of one or two.
    """
    pieces: _Pieces = []
    copied = at = start
    place = -1
    while at < end:
        if body[at] == _ITEM_TAG:
            tag_end = at + 1
            size, content = body[tag_end], at + 2
            if size > 0x7F:
                size, content = size & 0x7F | body[content] << 7, at + 3
                if size > 0x3FFF:
                    size, content = read_varint(body, tag_end, end)
            at = content + size
        else:
            number, wire_type, tag_end, content, at = next(fields(body, at, end))
            if number != _ITEMS or wire_type != LENGTH:
                continue
        place += 1
        if place in extras:
            extra = extras[place]
            pieces += (body[copied:tag_end], write_varint(at - content + len(extra)), body[content:at], extra)
            copied = at
    pieces.append(body[copied:end])
    return pieces
