"""Other encodings of the same message: protobuf lets a sender write one message in many ways.

A message is read into a tree of its fields, whose tags, lengths, order and pieces can then be changed without changing
what it says. This reader shares no code with the one under test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from captures import FOLDER
from spanledger_processor.otlp.views import Attributes

Schema: TypeAlias = Mapping[int, Any]
"""Which fields of a message are opened, and the schema of each."""

LEAF: Schema = {}
SPAN: Schema = {9: LEAF, 11: {3: LEAF}, 13: LEAF, 15: LEAF}
ENVELOPE: Schema = {1: {1: {1: LEAF}, 2: {1: LEAF, 2: SPAN}}}
"""ExportTraceServiceRequest; resource and scope stand once in a message, and may be written in pieces."""


@dataclass
class Node:
    """One field. `content` is its bytes, or its fields where it was opened; `padding` lengthens tag and length."""

    number: int
    wire_type: int
    content: bytes | list[Node]
    padding: tuple[int, int] = (0, 0)

    def encode(self) -> bytes:
        content = self.content if isinstance(self.content, bytes) else encode(self.content)
        length = varint(len(content), self.padding[1]) if self.wire_type == 2 else b""
        return varint(self.number << 3 | self.wire_type, self.padding[0]) + length + content


def encode(nodes: list[Node]) -> bytes:
    return b"".join(node.encode() for node in nodes)


def varint(number: int, padding: int = 0) -> bytes:
    """`number`, with `padding` bytes more than it needs."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F)
    groups += [0] * padding
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])


def message(number: int, *content: bytes) -> bytes:
    """A length-delimited field of the pieces `content`."""
    return Node(number, 2, b"".join(content)).encode()


def span(*fields: bytes) -> bytes:
    """A request with one span that holds `fields`."""
    return message(1, message(2, message(2, *fields)))


def attribute(key: bytes, value: bytes, number: int = 9) -> bytes:
    """An attribute whose encoded AnyValue is `value`."""
    return message(number, message(1, key), message(2, value))


def read(data: bytes, schema: Schema) -> list[Node]:
    """The fields of a message without groups."""
    nodes, at = [], 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        start = at
        if wire_type == 0:
            at = _varint(data, at)[1]
        elif wire_type == 2:
            length, start = _varint(data, at)
            at = start + length
        else:
            at += {1: 8, 5: 4}[wire_type]
        content = data[start:at]
        opened = wire_type == 2 and number in schema
        nodes.append(Node(number, wire_type, read(content, schema[number]) if opened else content))
    return nodes


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return number, at


def value_of(value: AnyValue) -> Any:
    """An AnyValue of the published messages as a plain Python value."""
    which = value.WhichOneof("value")
    if which == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return {item.key: value_of(item.value) for item in value.kvlist_value.values}
    return which and getattr(value, which)


def values_of(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes of the published messages as plain Python values; of equal keys the last."""
    return {attribute.key: value_of(attribute.value) for attribute in attributes}


def values(attributes: Attributes) -> dict[str, Any]:
    """Everything that attributes give when asked."""
    return {key: attributes.get(key) for key in attributes.keys()}  # noqa: SIM118 - no dict


UNKNOWN = st.sampled_from(
    [
        Node(1000, 0, b"\xff\x01"),
        Node(1001, 1, b"12345678"),
        Node(1002, 2, b"\xff\xfe\x00"),
        Node(1003, 5, b"1234"),
        Node(1004, 3, b"\x08\x01" + varint(1004 << 3 | 4)),
        Node(18, 2, b""),
    ]
)


@dataclass(frozen=True)
class Rewriting:
    """Writes a message anew, as `draw` decides. `split` are the paths of fields that may be written in pieces."""

    draw: Any
    split: frozenset[tuple[int, ...]] = field(default_factory=lambda: frozenset({(1, 1), (1, 2, 1)}))

    def message(self, nodes: list[Node], path: tuple[int, ...] = ()) -> list[Node]:
        written = [part for node in nodes for part in self._field(node, (*path, node.number))]
        written += self.draw(st.lists(UNKNOWN, max_size=2))
        return list(self.draw(st.permutations(written))) if self.draw(st.booleans()) else written

    def _field(self, node: Node, path: tuple[int, ...]) -> Iterator[Node]:
        padding = self.draw(st.sampled_from([(0, 0), (0, 0), (1, 0), (0, 1), (2, 2)]))
        if isinstance(node.content, bytes):
            yield replace(node, padding=padding)
            return
        content = self.message(node.content, path)
        if path not in self.split:
            yield replace(node, content=content, padding=padding)
            return
        middle = self.draw(st.integers(0, len(content)))
        yield replace(node, content=content[:middle], padding=padding)
        yield replace(node, content=content[middle:])


def files(signal: str) -> list[Path]:
    """Every recorded protobuf request of `signal`."""
    found = sorted(FOLDER.glob(f"*/*/*.{signal}.binpb"))
    assert found, FOLDER
    return found


def name_of(path: Path) -> str:
    """A recorded request's name in test output."""
    return str(path.relative_to(FOLDER))


SMALL = [path.read_bytes() for path in files("traces") if path.stat().st_size < 6000]
"""Requests that hypothesis can change within its time."""


@st.composite
def rewritten_requests(draw: st.DrawFn) -> list[Node]:
    """Recorded trace requests in another encoding."""
    return Rewriting(draw).message(read(draw(st.sampled_from(SMALL)), ENVELOPE))
