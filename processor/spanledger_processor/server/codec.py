"""Batches and rulings as bytes, for the way between a stage worker and the ledger process: columns of plain values.

The columns follow the fields of the records, so that a new field needs nothing here. A column whose values are all
equal is written as one value, which most are: what stays is a quarter of the values. Content does not cross: of a tool
call the arguments and the result, hashed before, are left out.

Of a usual call (`accounting.usual`) its own values cross, and its prototype; that one crosses beside them,
packed once by the worker and read once by the ledger process. So it does with decisions on them, the other way.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, is_dataclass
from itertools import repeat
from operator import attrgetter
from typing import Any, TypeAlias

from msgspec.msgpack import encode

from spanledger_processor.accounting.facts import Batch, Fact, LoopRule, Ruling
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.usual import Prototype, UsualDecision, UsualFact
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.records import field_names
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
    facts = batch.facts
    usual = [index for index, fact in enumerate(facts) if type(fact) is UsualFact]
    others = [fact for fact in facts if type(fact) is not UsualFact] if usual else facts
    row = [batch.tenant, len(others), _WRITE_FACTS(others), batch.now_ns, loop, batch.aliases, budgets]
    of_usual = _with_prototypes(
        usual, [facts[index] for index in usual], _PROTOTYPE_PACKED, _columns_of_facts, _SHARED_BY_FACTS
    )
    return _packed([*row, batch.tenant_name, batch.watched, batch.is_part, of_usual])


def decode_batch(data: bytes) -> Batch:
    """Return the batch that `encode_batch` was given."""
    (tenant, count, columns, now_ns, loop, aliases, budgets, name, watched, is_part, of_usual), wide = _unpacked(data)
    facts = list(_READ_FACTS[wide](columns, count))
    if of_usual is not None:
        # in the order of their places, so that each place is there by then
        for index, fact in zip(of_usual[0], _usual_facts(of_usual, wide=wide), strict=True):
            facts.insert(index, fact)
    rules = tuple(map(_budget, budgets))
    return Batch(tenant, facts, now_ns, _loop(loop), tuple(aliases), rules, name, watched, is_part)


def _loop(row: list[Any]) -> LoopRule:
    consecutive, repeats, window_ns, cycles, calls, tools, gap_ns = row
    return LoopRule(consecutive, repeats, window_ns, cycles, calls, tuple(map(tuple, tools)), gap_ns)


def _budget(row: list[Any]) -> BudgetRule:
    name, amount, period, days, dimension, value, tenant, thresholds, forecast = row
    return BudgetRule(name, int(amount), period, days, dimension, value, tenant, tuple(thresholds), forecast)


_NO_DECISIONS: dict[int, Decision] = {}


def encode_ruling(ruling: Ruling) -> bytes:
    """Return a ruling as bytes, without its changes, which the ledger process has applied."""
    usual, others = ruling.decisions, _NO_DECISIONS
    if set(map(type, usual.values())) != {UsualDecision}:
        usual = {index: one for index, one in ruling.decisions.items() if type(one) is UsualDecision}
        others = {index: one for index, one in ruling.decisions.items() if index not in usual}
    counts = (ruling.replays, ruling.conflicts, ruling.corrections, ruling.correction)
    of_usual = _with_prototypes(
        [*usual], [*usual.values()], _DECISION_PACKED, _columns_of_decisions, _SHARED_BY_DECISIONS
    )
    return _packed([[*others], _WRITE_DECISIONS([*others.values()]), ruling.fresh, *counts, of_usual])


def decode_ruling(data: bytes, facts: Sequence[Fact]) -> Ruling:
    """Return the ruling on a batch of `facts` that `encode_ruling` was given."""
    (indices, columns, fresh, replays, conflicts, corrections, correction, of_usual), wide = _unpacked(data)
    ruling = Ruling(fresh=fresh, replays=replays, conflicts=conflicts, corrections=corrections)
    ruling.correction = int(correction)
    ruling.decisions = dict(zip(indices, _READ_DECISIONS[wide](columns, len(indices)), strict=True))
    if of_usual is not None:
        ruling.decisions.update(zip(of_usual[0], _usual_decisions(of_usual, facts), strict=True))
    return ruling


_own_of_fact = attrgetter(
    *("trace_id", "parent_id", "day", "session", "price", "estimate", "is_unsure"),
    *("span_id", "start_ns", "end_ns", "first_token_ns", "response_id", "amount", "counts", "parts"),
)
_SHARED_BY_FACTS, _SESSION = 7, 3
"""The first of them are those that many calls of a batch share."""
_COUNTS, _PARTS = slice(13, 19), slice(19, 24)
"""Where each count and part of an amount stands among the columns."""
_own_of_decision = attrgetter("run_id", "run_source", "session_cost", "run_cost")
_SHARED_BY_DECISIONS = 2


def _columns_of_facts(facts: Values) -> list[Values]:
    *columns, counts, parts = zip(*map(_own_of_fact, facts), strict=True)
    return [*columns, *zip(*counts, strict=True), *zip(*parts, strict=True)]


def _columns_of_decisions(decisions: Values) -> list[Values]:
    return [*zip(*map(_own_of_decision, decisions), strict=True)]


def _usual_facts(written: list[Any], *, wide: bool) -> Iterable[UsualFact]:
    """Yield the facts of usual calls that `_with_prototypes` wrote."""
    sessions, numbers = written[3][_SESSION]
    written[3][_SESSION] = [Named(*session) for session in sessions], numbers
    prototypes, columns = _beside_prototypes(written, _PROTOTYPE_READ)
    if wide:
        for place in (_COUNTS.start - 1, *range(_PARTS.start, _PARTS.stop)):  # amounts
            columns[place] = map(int, columns[place])
    counts, parts = zip(*columns[_COUNTS], strict=True), zip(*columns[_PARTS], strict=True)
    for own in zip(prototypes, *columns[: _COUNTS.start], counts, parts, strict=True):
        fact = UsualFact.__new__(UsualFact)
        (
            fact.prototype,
            fact.trace_id,
            fact.parent_id,
            fact.day,
            fact.session,
            fact.price,
            fact.estimate,
            fact.is_unsure,
            fact.span_id,
            fact.start_ns,
            fact.end_ns,
            fact.first_token_ns,
            fact.response_id,
            fact.amount,
            fact.counts,
            fact.parts,
        ) = own
        yield fact


def _usual_decisions(written: list[Any], facts: Sequence[Fact]) -> Iterable[UsualDecision]:
    """Yield the decisions on usual calls, which are among `facts`, that `_with_prototypes` wrote."""
    prototypes, columns = _beside_prototypes(written, _DECISION_READ)
    of_facts = map(facts.__getitem__, written[0])
    rows = zip(of_facts, prototypes, *columns, strict=True)
    for fact, prototype, run_id, run_source, session_cost, run_cost in rows:
        assert type(fact) is UsualFact
        decision = UsualDecision.__new__(UsualDecision)
        decision.fact, decision.prototype, decision.run_id, decision.run_source = fact, prototype, run_id, run_source
        decision.session_cost, decision.run_cost = int(session_cost), None if run_cost is None else int(run_cost)
        yield decision


def _with_prototypes(
    indices: Sequence[int], values: Values, packed: _Packed, columns_of: Callable[[Values], list[Values]], shared: int
) -> list[Any] | None:
    """Return values that have prototypes in written form: indices, prototypes, the number of each one's, own values.

    The first `shared` of their own are shared by many: each is written once.
    """
    if not values:
        return None
    of_values = [*map(_prototype, values)]
    by_id = dict(zip(map(id, of_values), of_values, strict=True))
    written = [*map(packed, by_id.values())]
    columns = columns_of(values)
    repeated = [_write_repeated(column) for column in columns[:shared]]
    which = _numbers(by_id, map(id, of_values))
    return [indices, written, which, repeated, [_write_plain(column) for column in columns[shared:]]]


_prototype: Callable[[Any], Any] = attrgetter("prototype")


def _numbers(distinct: Iterable[Any], values: Iterable[Any]) -> list[int]:
    """Return the place of each value among the distinct ones."""
    numbers = {value: number for number, value in enumerate(distinct)}
    return [*map(numbers.__getitem__, values)]


def _write_repeated(values: Values) -> tuple[Values, Values]:
    """Return the distinct values, and the number of the one at each index."""
    if values.count(values[0]) == len(values):
        return values[:1], [0]
    distinct = dict.fromkeys(values)
    return [*distinct], _write_plain(_numbers(distinct, values))


def _beside_prototypes(written: list[Any], read: _Unpacked) -> tuple[Iterable[Any], list[Iterable[Any]]]:
    """Return the prototype of each of the values that `_with_prototypes` wrote, and the columns of their own."""
    indices, packed, which, repeated, plain = written
    prototypes, count = [read(prototype) for prototype in packed], len(indices)
    columns: list[Iterable[Any]] = [
        map(values.__getitem__, _read_plain(numbers, count)) for values, numbers in repeated
    ]
    columns += [_read_plain(column, count) for column in plain]
    return map(prototypes.__getitem__, which), columns


_MOST_LIKES = 4096
"""Kept of each kind in one process; all of them go when there are more."""


class _Packed:
    """Packs each prototype once: it stays the same, and comes in every batch."""

    def __init__(self, write: Callable[[Any], Any]) -> None:
        self._write = write
        self._known: dict[int, tuple[Any, bytes]] = {}

    def __call__(self, prototype: Any) -> bytes:
        known = self._known.get(id(prototype))
        if known is None:
            if len(self._known) >= _MOST_LIKES:
                self._known.clear()
            known = self._known[id(prototype)] = (
                prototype,
                _packed([self._write(prototype)]),
            )  # held, so that its id stays its own
        return known[1]


class _Unpacked:
    """Reads what `_Packed` wrote; the same bytes give the same object."""

    def __init__(self, read: Callable[[Any, bool], Any]) -> None:
        self._read = read
        self._known: dict[bytes, Any] = {}

    def __call__(self, packed: bytes) -> Any:
        prototype = self._known.get(packed)
        if prototype is None:
            if len(self._known) >= _MOST_LIKES:
                self._known.clear()
            (columns,), wide = _unpacked(packed)
            prototype = self._known[packed] = self._read(columns, wide)
        return prototype


def _packed(values: list[Any]) -> bytes:
    try:
        return _PLAIN + encode(values)
    except (OverflowError, UnicodeEncodeError):
        return _WIDE + pack(values)


def _unpacked(data: bytes) -> tuple[Any, bool]:
    return unpack(data[1:]), data[:1] == _WIDE


def _writer(kind: Any) -> Write:
    """Return a function that writes a column of values of a type, some of which may be None."""
    kind = _required(kind)
    if not _has_fields(kind):
        return _write_sets if typing.get_origin(kind) is frozenset else _write_plain
    hints, names = typing.get_type_hints(kind), field_names(kind)
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


def _read_plain(written: Values, count: int) -> Any:
    return repeat(written[0], count) if len(written) == 1 else written


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
    readers = [_reader(hints[name], wide=wide) for name in field_names(kind)]

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


_WRITE_FACTS, _WRITE_DECISIONS = _writer(Fact), _writer(Decision)
_READ_FACTS = {wide: _reader(Fact, wide=wide) for wide in (False, True)}
_READ_DECISIONS = {wide: _reader(Decision, wide=wide) for wide in (False, True)}
_PROTOTYPE_PACKED = _Packed(lambda prototype: _WRITE_FACTS([prototype.fact]))
_PROTOTYPE_READ = _Unpacked(lambda columns, wide: Prototype(next(iter(_READ_FACTS[wide](columns, 1)))))
_DECISION_PACKED = _Packed(lambda decision: _WRITE_DECISIONS([decision]))
_DECISION_READ = _Unpacked(lambda columns, wide: next(iter(_READ_DECISIONS[wide](columns, 1))))
