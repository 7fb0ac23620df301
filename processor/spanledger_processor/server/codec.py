"""Batches and rulings as bytes, for the way between a stage worker and the ledger process: rows of plain values.

The rows follow the fields of the dataclasses, so that a new field needs nothing here; a field that holds other values
and has its default is None in a row. Content does not cross: of a tool call the arguments, signed before, are left out.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from operator import attrgetter
from typing import Any, TypeAlias

import msgpack

from spanledger_processor.accounting.facts import Batch, Fact, LoopRule, Ruling
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.model import Decision, ToolCall

Convert: TypeAlias = Callable[[Any], Any]

_LEFT_OUT = {(ToolCall, "arguments")}
_PLAIN, _WIDE = b"\x00", b"\x01"
"""What the first byte says of the integers: all within 64 bits, or wider ones written as text."""


def encode_batch(batch: Batch) -> bytes:
    """Return a batch as bytes."""
    loop = (batch.loop.consecutive, batch.loop.repeats)
    return _packed([batch.tenant, list(map(_FACT_ROW, batch.facts)), batch.now_ns, loop, batch.aliases])


def decode_batch(data: bytes) -> Batch:
    """Return the batch that `encode_batch` was given."""
    (tenant, rows, now_ns, loop, aliases), wide = _unpacked(data)
    fact = _FACT_WIDE if wide else _FACT
    return Batch(tenant, list(map(fact, rows)), now_ns, LoopRule(*loop), tuple(aliases))


def encode_ruling(ruling: Ruling) -> bytes:
    """Return a ruling as bytes, without its changes, which the ledger process has applied."""
    decisions = [(index, _DECISION_ROW(decision)) for index, decision in ruling.decisions.items()]
    counts = (ruling.replays, ruling.conflicts, ruling.corrections, ruling.correction)
    return _packed([decisions, ruling.fresh, *counts])


def decode_ruling(data: bytes) -> Ruling:
    """Return the ruling that `encode_ruling` was given."""
    (rows, fresh, replays, conflicts, corrections, correction), wide = _unpacked(data)
    decision = _DECISION_WIDE if wide else _DECISION
    ruling = Ruling(fresh=fresh, replays=replays, conflicts=conflicts, corrections=corrections)
    ruling.correction = int(correction)
    ruling.decisions = {index: decision(row) for index, row in rows}
    return ruling


def _packed(rows: list[Any]) -> bytes:
    try:
        return _PLAIN + typing.cast(bytes, msgpack.packb(rows))
    except (OverflowError, UnicodeEncodeError):
        return _WIDE + pack(rows)


def _unpacked(data: bytes) -> tuple[Any, bool]:
    return unpack(data[1:]), data[:1] == _WIDE


def _writer(kind: Any) -> Convert | None:
    """Return a function that writes values of a type; None where they go as they are."""
    kind = _required(kind)
    if not _has_fields(kind):
        return (
            _sorted if typing.get_origin(kind) is frozenset else _as_it_is if typing.get_origin(kind) is tuple else None
        )
    hints, defaults = typing.get_type_hints(kind), _defaults(kind)
    names = _names(kind)
    row: Convert = attrgetter(*names)
    nested = [(place, defaults.get(name), _writer(hints[name])) for place, name in enumerate(names)]
    steps = [(place, default, write) for place, default, write in nested if write is not None]
    left_out = [place for place, name in enumerate(names) if (kind, name) in _LEFT_OUT]
    if not steps and not left_out:
        return row

    def write(value: Any) -> list[Any]:
        values = list(row(value))
        for place, default, step in steps:
            inner = values[place]
            values[place] = None if inner is default else step(inner)
        for place in left_out:
            values[place] = None
        return values

    return write


def _reader(kind: Any, *, wide: bool) -> Convert | None:
    """Return a function that reads values of a type; None where they come as they are."""
    kind = _required(kind)
    if kind is int:
        return int if wide else None
    if not _has_fields(kind):
        return _sequence_reader(kind, wide=wide)
    hints, defaults = typing.get_type_hints(kind), _defaults(kind)
    nested = [(place, defaults.get(name), _reader(hints[name], wide=wide)) for place, name in enumerate(_names(kind))]
    steps = [(place, default, read) for place, default, read in nested if read is not None]
    if not steps:
        return lambda values: kind(*values)

    def read(values: Any) -> Any:
        for place, default, step in steps:
            inner = values[place]
            values[place] = default if inner is None else step(inner)
        return kind(*values)

    return read


def _defaults(kind: Any) -> dict[str, Any]:
    """Return the default of each field that has one: it is written as None."""
    if hasattr(kind, "_field_defaults"):
        return dict(kind._field_defaults)
    return {one.name: one.default for one in fields(kind) if one.default is not MISSING}


def _sequence_reader(kind: Any, *, wide: bool) -> Convert | None:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin not in (tuple, frozenset):
        return None
    item = _reader(arguments[0], wide=wide)
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


def _as_it_is(values: Any) -> Any:
    return values


def _sorted(values: frozenset[Any]) -> list[Any]:
    return sorted(values)


_SEQUENCES: Mapping[Any, Convert] = {frozenset: _sorted, tuple: _as_it_is}


def _known(convert: Convert | None) -> Convert:
    assert convert is not None
    return convert


_FACT_ROW, _DECISION_ROW = _known(_writer(Fact)), _known(_writer(Decision))
_FACT, _FACT_WIDE = _known(_reader(Fact, wide=False)), _known(_reader(Fact, wide=True))
_DECISION, _DECISION_WIDE = _known(_reader(Decision, wide=False)), _known(_reader(Decision, wide=True))
