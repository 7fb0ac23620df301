"""Batches and rulings as bytes, for the way between a stage worker and the ledger process: columns of plain values.

The columns follow the fields of the dataclasses, so that a new field needs nothing here. A column whose values are all
equal is written as one value, which most are: what stays is a quarter of the values. Content does not cross: of a tool
call the arguments and the result, hashed before, are left out.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, fields, is_dataclass
from itertools import repeat
from operator import attrgetter
from typing import Any, TypeAlias, cast

import msgpack

from spanledger_processor.accounting.facts import Batch, Fact, LoopRule, Ruling
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.model import Decision, ToolCall

Values: TypeAlias = Sequence[Any]
Write: TypeAlias = Callable[[Values], Any]
"""From the values of a column to what is packed."""
ReadValues: TypeAlias = Callable[[Any, int], Iterable[Any]]
"""From what was unpacked to so many values."""
Convert: TypeAlias = Callable[[Any], Any]

_LEFT_OUT = {(ToolCall, "arguments"), (ToolCall, "result")}
_PLAIN, _WIDE = b"\x00", b"\x01"
"""What the first byte says of the integers: all within 64 bits, or wider ones written as text."""


def encode_batch(batch: Batch) -> bytes:
    """Return a batch as bytes."""
    loop = astuple(batch.loop)
    budgets = [astuple(rule) for rule in batch.budgets]
    row = [batch.tenant, len(batch.facts), _WRITE_FACTS(batch.facts), batch.now_ns, loop, batch.aliases, budgets]
    return _packed([*row, batch.tenant_name, batch.watched])


def decode_batch(data: bytes) -> Batch:
    """Return the batch that `encode_batch` was given."""
    (tenant, count, columns, now_ns, loop, aliases, budgets, name, watched), wide = _unpacked(data)
    facts = list(_READ_FACTS[wide](columns, count))
    return Batch(tenant, facts, now_ns, _loop(loop), tuple(aliases), tuple(map(_budget, budgets)), name, watched)


def _loop(row: list[Any]) -> LoopRule:
    consecutive, repeats, window_ns, cycles, calls, tools = row
    return LoopRule(consecutive, repeats, window_ns, cycles, calls, tuple(map(tuple, tools)))


def _budget(row: list[Any]) -> BudgetRule:
    name, amount, period, days, dimension, value, tenant, thresholds, forecast = row
    return BudgetRule(name, int(amount), period, days, dimension, value, tenant, tuple(thresholds), forecast)


def encode_ruling(ruling: Ruling) -> bytes:
    """Return a ruling as bytes, without its changes, which the ledger process has applied."""
    columns = _WRITE_DECISIONS([*ruling.decisions.values()])
    counts = (ruling.replays, ruling.conflicts, ruling.corrections, ruling.correction)
    return _packed([[*ruling.decisions], columns, ruling.fresh, *counts])


def decode_ruling(data: bytes) -> Ruling:
    """Return the ruling that `encode_ruling` was given."""
    (places, columns, fresh, replays, conflicts, corrections, correction), wide = _unpacked(data)
    ruling = Ruling(fresh=fresh, replays=replays, conflicts=conflicts, corrections=corrections)
    ruling.correction = int(correction)
    ruling.decisions = dict(zip(places, _READ_DECISIONS[wide](columns, len(places)), strict=True))
    return ruling


def _packed(values: list[Any]) -> bytes:
    try:
        return _PLAIN + cast(bytes, msgpack.packb(values))
    except (OverflowError, UnicodeEncodeError):
        return _WIDE + pack(values)


def _unpacked(data: bytes) -> tuple[Any, bool]:
    return unpack(data[1:]), data[:1] == _WIDE


def _writer(kind: Any) -> Write:
    """Return a function that writes a column of values of a type, some of which may be None."""
    kind = _required(kind)
    if not _has_fields(kind):
        return _write_sets if typing.get_origin(kind) is frozenset else _write_plain
    hints, names = typing.get_type_hints(kind), _names(kind)
    row: Convert = attrgetter(*names)
    writers = [_write_nothing if (kind, name) in _LEFT_OUT else _writer(hints[name]) for name in names]

    def write(values: Values) -> Any:
        present = [value for value in values if value is not None]
        if not present:
            return None
        mask = None if len(present) == len(values) else bytes(value is not None for value in values)
        columns = zip(*map(row, present), strict=True)
        return mask, [write(column) for write, column in zip(writers, columns, strict=True)]

    return write


def _write_plain(values: Values) -> Values:
    first = values[0]
    return values[:1] if values.count(first) == len(values) else values


def _write_sets(values: Values) -> Values:
    return _write_plain([sorted(value) for value in values])


def _write_nothing(_: Values) -> Values:
    return (None,)


def _reader(kind: Any, *, wide: bool) -> ReadValues:
    """Return a function that reads a column that `_writer` of the same type wrote."""
    kind = _required(kind)
    if not _has_fields(kind):
        return _plain_reader(_converter(kind, wide=wide))
    hints = typing.get_type_hints(kind)
    readers = [_reader(hints[name], wide=wide) for name in _names(kind)]

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
    """Return what makes a value of a type of what msgpack read; None where that is one already."""
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
    return is_dataclass(kind) or hasattr(kind, "_fields")


def _names(kind: Any) -> tuple[str, ...]:
    return tuple(kind._fields) if hasattr(kind, "_fields") else tuple(one.name for one in fields(kind))


_WRITE_FACTS, _WRITE_DECISIONS = _writer(Fact), _writer(Decision)
_READ_FACTS = {wide: _reader(Fact, wide=wide) for wide in (False, True)}
_READ_DECISIONS = {wide: _reader(Decision, wide=wide) for wide in (False, True)}
