"""Columns of the values of records as bytes. They follow the fields of the records, so that a new field needs nothing
here. A column whose values are all equal is written as one value, which most are; a record that comes in every batch is
written and read once (`PrototypeWriter`, `PrototypeReader`).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import is_dataclass
from itertools import repeat
from operator import attrgetter
from typing import Any, TypeAlias

from msgspec.msgpack import encode

from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.records import field_names
from spanledger_processor.model import ToolCall

Values: TypeAlias = Sequence[Any]
Write: TypeAlias = Callable[[Values], Any]
"""From the values of a column to what is packed."""
ReadValues: TypeAlias = Callable[[Any, int], Iterable[Any]]
"""From what was unpacked to so many values."""
Convert: TypeAlias = Callable[[Any], Any]

_LEFT_OUT = {(ToolCall, "arguments"), (ToolCall, "result")}
_PLAIN, _WIDE = b"\x00", b"\x01"
"""What the first byte says of the integers: all within 64 bits, or wider ones written as text."""


def packed(values: list[Any]) -> bytes:
    """Return values as bytes, text and integers of any kind among them."""
    try:
        return _PLAIN + encode(values)
    except (OverflowError, UnicodeEncodeError):
        return _WIDE + pack(values)


def unpacked(data: bytes) -> tuple[Any, bool]:
    """Return what `packed` was given, and whether integers stand in it as text."""
    return unpack(data[1:]), data[:1] == _WIDE


def writer_of(kind: Any) -> Write:
    """Return a function that writes a column of values of a type, some of which may be None."""
    kind = _required(kind)
    if not _has_fields(kind):
        return _write_sets if typing.get_origin(kind) is frozenset else write_plain
    hints, names = typing.get_type_hints(kind), field_names(kind)
    row: Convert = attrgetter(*names)
    writers = [_write_nothing if (kind, name) in _LEFT_OUT else writer_of(hints[name]) for name in names]

    def write(values: Values) -> Any:
        present = [value for value in values if value is not None]
        if not present:
            return None
        mask = None if len(present) == len(values) else bytes(value is not None for value in values)
        columns = zip(*map(row, present), strict=True)
        return mask, [write(column) for write, column in zip(writers, columns, strict=True)]

    return write


def write_plain(values: Values) -> Values:
    """Return a column of plain values as it is packed."""
    return values[:1] if values and values.count(values[0]) == len(values) else values


def read_plain(written: Values, count: int) -> Values:
    """Return so many values that `write_plain` wrote."""
    return [*written] * count if len(written) == 1 else written


def write_repeated(values: Values) -> tuple[Values, Values]:
    """Return a column as it is packed, of values of which many are equal: each once, and which it is at each place."""
    distinct = dict.fromkeys(values)
    return [*distinct], write_plain(numbers_of(distinct, values))


def read_repeated(written: tuple[Values, Values], count: int) -> Values:
    """Return so many values that `write_repeated` wrote: those that are equal are one object."""
    values, numbers = written
    return [*values] * count if len(values) == 1 else [*map(values.__getitem__, numbers)]


def numbers_of(distinct: Iterable[Any], values: Iterable[Any]) -> list[int]:
    """Return the place of each value among the distinct ones."""
    numbers = {value: number for number, value in enumerate(distinct)}
    return [*map(numbers.__getitem__, values)]


def _write_sets(values: Values) -> Values:
    return write_plain([sorted(value) for value in values])


def _write_nothing(_: Values) -> Values:
    return (None,)


def reader_of(kind: Any, *, wide: bool) -> ReadValues:
    """Return a function that reads a column that `writer_of` of the same type wrote."""
    kind = _required(kind)
    if not _has_fields(kind):
        return _plain_reader(_converter(kind, wide=wide))
    hints = typing.get_type_hints(kind)
    readers = [reader_of(hints[name], wide=wide) for name in field_names(kind)]

    def read(written: Any, count: int) -> Iterable[Any]:
        if written is None:
            return repeat(None, count)
        mask, columns = written
        present = count if mask is None else sum(mask)
        values = map(kind, *(read(column, present) for read, column in zip(readers, columns, strict=True)))
        return values if mask is None else (next(values) if there else None for there in mask)

    return read


def _plain_reader(convert: Convert | None) -> ReadValues:
    def read(written: Any, count: int) -> Iterable[Any]:
        values = written if convert is None else [None if value is None else convert(value) for value in written]
        return repeat(values[0], count) if len(values) == 1 else values

    return read


def _converter(kind: Any, *, wide: bool) -> Convert | None:
    """Return the constructor of a type from what msgpack reads; None where that needs none."""
    if kind is int:
        return int if wide else None
    origin = typing.get_origin(kind)
    if origin not in (tuple, frozenset):
        return None
    item = _converter(typing.get_args(kind)[0], wide=wide)
    make: Convert = origin
    return make if item is None else (lambda values: make(map(item, values)))


def _required(kind: Any) -> Any:
    """Return the type of an optional one."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next(argument for argument in typing.get_args(kind) if argument is not type(None))
    return kind


def _has_fields(kind: Any) -> bool:
    return is_dataclass(kind) or hasattr(kind, "_fields") or hasattr(kind, "__struct_fields__")


_MOST_PROTOTYPES = 4096
"""Kept by one writer or reader; all of them go when there are more."""


class PrototypeWriter:
    """Packs each prototype once: it stays the same, and comes in every batch."""

    def __init__(self, write: Callable[[Any], Any]) -> None:
        self._write = write
        self._known: dict[int, tuple[Any, bytes]] = {}

    def __call__(self, prototype: Any) -> bytes:
        known = self._known.get(id(prototype))
        if known is None:
            if len(self._known) >= _MOST_PROTOTYPES:
                self._known.clear()
            # held, so that its id stays its own
            known = self._known[id(prototype)] = prototype, packed([self._write(prototype)])
        return known[1]


class PrototypeReader:
    """Reads what `PrototypeWriter` packed; the same bytes give the same object."""

    def __init__(self, read: Callable[[Any, bool], Any]) -> None:
        self._read = read
        self._known: dict[bytes, Any] = {}

    def __call__(self, written: bytes) -> Any:
        prototype = self._known.get(written)
        if prototype is None:
            if len(self._known) >= _MOST_PROTOTYPES:
                self._known.clear()
            (columns,), wide = unpacked(written)
            prototype = self._known[written] = self._read(columns, wide)
        return prototype
