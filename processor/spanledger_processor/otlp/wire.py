"""The protobuf wire format, field by field, for where exact offsets matter.

Slower than a schema, so it serves splicing, naming the place of an error and looking at unknown fields only.
The format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")

Steps: TypeAlias = Generator[Callable[[], Any] | None, Any, T]
"""Work in slices: yields None after each, or what is to be done on a thread, and is sent what that returned; `pause`
where others are to have their turn also if the request that it is done for is not large."""


def pause() -> None:
    """Do nothing: yielded after a slice of what the size of a request does not bound."""


class MalformedError(ValueError):
    """Bytes that are not OTLP. The message names the place and what is wrong there, never what was sent."""


VARINT, FIXED64, LENGTH, START_GROUP, END_GROUP, FIXED32 = range(6)

SHORT_VARINTS = (
    *(bytes((number,)) for number in range(0x80)),
    *(bytes((number & 0x7F | 0x80, number >> 7)) for number in range(0x80, 0x4000)),
)
"""The numbers below 16,384 as varints: nearly all lengths, and most counts."""
_FIXED = {FIXED64: 8, FIXED32: 4}
_GROUPS = (START_GROUP, END_GROUP)
_MAX_LENGTH = 2**31 - 1
_MAX_GROUPS = 100
"""Depth at which protobuf's own parsers stop."""
_GROUP_PIECE = 16
"""Tags inside a group that are read in one go."""


class WireField(NamedTuple):
    """Offsets of one field: its tag ends at `tag_end`, its content is [start, end).

    Of a group, which no OTLP has, the first tags are one field, up to its end tag where it is short; those behind them
    are fields of number 0, each with as many, so that to go over one long group takes steps as over many short fields.
    """

    number: int
    wire_type: int
    tag_end: int
    start: int
    end: int

    def is_message(self, number: int) -> bool:
        """Return whether it is field `number` and holds a message, or anything else of a length."""
        return self.number == number and self.wire_type == LENGTH


_new_field = tuple.__new__  # a named tuple's own is a function of Python


def finished(steps: Steps[T]) -> T:
    """Run work that is done in slices to its result, on this thread."""
    sent = None
    while True:
        try:
            step = steps.send(sent)
        except StopIteration as end:
            result: T = end.value
            return result
        sent = None if step is None else step()


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the unsigned number at `at` (longer than needed is fine) and the offset after it."""
    number = shift = 0
    for position in range(at, min(end, at + 10)):
        byte = data[position]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position + 1
        shift += 7
    raise MalformedError(f"byte {at}: a number that does not end")


def write_varint(number: int) -> bytes:
    """Return `number` (>= 0) in as few bytes as it takes; nearly all lengths and counts take three at most."""
    if number < 0x4000:
        return SHORT_VARINTS[number]
    if number < 0x20_0000:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def fields(data: bytes, start: int, end: int) -> Iterator[WireField]:
    """Yield the fields of the message at [start, end), in order.

    Raises:
        MalformedError: at the first field that cannot be read, with its offset.
    """
    at = start
    while at < end:
        tag = data[at]
        if 0x7 < tag < 0x80 and tag & 7 == LENGTH:  # nearly all; without a call where a length takes one byte
            content = at + 2
            if content <= end and data[at + 1] < 0x80:
                stop = content + data[at + 1]
            else:
                content, stop = _read_length(data, at + 1, end)
            if stop <= end:
                yield _new_field(WireField, (tag >> 3, LENGTH, at + 1, content, stop))
                at = stop
                continue
        field = _read_field(data, at, end)
        if field.wire_type == END_GROUP:
            raise MalformedError(f"byte {at}: the end of a group that never began")
        if field.wire_type != START_GROUP:
            yield field
            at = field.end
            continue
        for piece in _group_pieces(data, at, field, end):
            yield piece
            at = piece.end


def _read_field(data: bytes, at: int, end: int) -> WireField:
    """Return the field at `at`; of a group only its tag."""
    tag = data[at]
    tag_end = at + 1
    if tag > 0x7F:
        tag, tag_end = read_varint(data, at, end)
    number, wire_type = tag >> 3, tag & 7
    if not 0 < number < 2**29:
        raise MalformedError(f"byte {at}: no field has number {number}")
    start = stop = tag_end
    if wire_type == LENGTH:
        start, stop = _read_length(data, tag_end, end)
    elif wire_type == VARINT:
        stop = read_varint(data, tag_end, end)[1]
    elif wire_type in _FIXED:
        stop = tag_end + _FIXED[wire_type]
    elif wire_type not in _GROUPS:
        raise MalformedError(f"byte {at}: wire type {wire_type} does not exist")
    if stop > end:
        raise MalformedError(f"byte {at}: field {number} needs {stop - end} bytes more than there are")
    return WireField(number, wire_type, tag_end, start, stop)


def _read_length(data: bytes, at: int, end: int) -> tuple[int, int]:
    if at < end and data[at] < 0x80:
        return at + 1, at + 1 + data[at]
    length, start = read_varint(data, at, end)
    if length > _MAX_LENGTH:
        raise MalformedError(f"byte {at}: a length of {length} bytes")
    return start, start + length


def _group_pieces(data: bytes, began: int, tag: WireField, end: int) -> Iterator[WireField]:
    """Yield the group whose first tag is given in pieces that stand side by side, the last up to its end tag."""
    inside = [tag.number]
    number, at, start = tag.number, tag.end, tag.end
    while inside:
        for _ in range(_GROUP_PIECE):
            if at >= end:
                raise MalformedError(f"byte {began}: group {tag.number} does not end")
            field = _read_field(data, at, end)
            at = field.end
            if field.wire_type == START_GROUP:
                inside.append(field.number)
                if len(inside) > _MAX_GROUPS:
                    raise MalformedError(f"byte {began}: more than {_MAX_GROUPS} groups inside each other")
            elif field.wire_type == END_GROUP and inside.pop() != field.number:
                raise MalformedError(f"byte {began}: group {tag.number} does not end")
            if not inside:
                break
        yield WireField(number, START_GROUP, tag.tag_end if number else start, start, at)
        number, start = 0, at
