"""Batches and rulings as bytes, for the way between a stage worker and the ledger process: columns of plain values.

Content does not cross: of a tool call the arguments and the result, hashed before, are left out.

Of a usual call (`accounting.usual`) its own values cross, its hashes, and the number of its form; what calls of a form
have in common crosses beside them, packed once by the worker and read once by the ledger process: so it is one object
there, batch after batch. So it does with decisions on them, the other way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain, repeat
from operator import attrgetter
from struct import pack, unpack
from typing import Any

from spanledger_processor.accounting.call_hashes import HashesOfCalls
from spanledger_processor.accounting.column_batch import ColumnBatch
from spanledger_processor.accounting.columns import Columns, UsualColumns
from spanledger_processor.accounting.facts import Batch, Fact, LoopRule, RuledAlike, Ruling
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.usual import Prototype, UsualFact, UsualForm, decisions_on
from spanledger_processor.accounting.usual_traces import UsualTrace, UsualTraces
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.records import field_names
from spanledger_processor.model import Decision
from spanledger_processor.server.record_columns import (
    PrototypeReader,
    PrototypeWriter,
    numbers_of,
    packed,
    read_plain,
    read_repeated,
    reader_of,
    unpacked,
    write_plain,
    write_repeated,
    writer_of,
)


def encode_batch(batch: Batch) -> bytes:
    """Return a batch as bytes, with all that follows from it alone worked out."""
    batch = ColumnBatch.of(batch)
    loop, budgets = _values_of_loop(batch.loop), [*map(_values_of_budget, batch.budgets)]
    usual = [(place, fact) for place, fact in enumerate(batch.facts) if type(fact) is UsualFact]
    others = [fact for fact in batch.facts if type(fact) is not UsualFact] if usual else batch.facts
    of_usual = (
        [[place for place, _ in usual], _write_calls(UsualColumns.of([fact for _, fact in usual]))] if usual else None
    )
    by_columns = None
    if isinstance(batch, ColumnBatch):
        by_columns = [batch.indexes, batch.request_digest, _write_traces(batch.usual)]
    row = [batch.tenant, len(others), _WRITE_FACTS(others), batch.now_ns, loop, batch.aliases, budgets]
    return packed([*row, batch.tenant_name, batch.watched, batch.is_part, of_usual, by_columns])


def decode_batch(data: bytes) -> Batch:
    """Return the batch that `encode_batch` was given."""
    (tenant, count, columns, now_ns, loop, aliases, budgets, *more, of_usual, by_columns), wide = unpacked(data)
    facts = list(_READ_FACTS[wide](columns, count))
    if of_usual is not None:
        # in the order of their places, so that each place is there by then
        for place, fact in zip(of_usual[0], _read_calls(of_usual[1], wide=wide).facts(), strict=True):
            facts.insert(place, fact)
    own = (tenant, facts, now_ns, _loop(loop), tuple(aliases), tuple(map(_budget, budgets)), *more)
    if by_columns is None:
        return Batch(*own)
    indexes, digest, traces = by_columns
    usual = _read_traces(traces, dict(zip(indexes, facts, strict=True)), wide=wide)
    return ColumnBatch(*own, indexes=indexes, request_digest=digest, usual=usual)


_values_of_loop, _values_of_budget = (attrgetter(*field_names(kind)) for kind in (LoopRule, BudgetRule))


def _loop(row: list[Any]) -> LoopRule:
    consecutive, repeats, window_ns, cycles, calls, tools, gap_ns = row
    return LoopRule(consecutive, repeats, window_ns, cycles, calls, tuple(map(tuple, tools)), gap_ns)


def _budget(row: list[Any]) -> BudgetRule:
    name, amount, period, days, dimension, value, tenant, thresholds, forecast = row
    return BudgetRule(name, int(amount), period, days, dimension, value, tenant, tuple(thresholds), forecast)


def encode_ruling(ruling: Ruling) -> bytes:
    """Return a ruling as bytes, without its changes, which the ledger process has applied."""
    counts = (ruling.replays, ruling.conflicts, ruling.corrections, ruling.correction, ruling.cut_traces)
    alike = None if ruling.alike is None else _write_alike(ruling.alike)
    decisions = _WRITE_DECISIONS([*ruling.decisions.values()])
    return packed([[*ruling.decisions], decisions, ruling.fresh, *counts, alike])


def decode_ruling(data: bytes, facts: Sequence[Fact]) -> Ruling:
    """Return the ruling on a batch of `facts` that `encode_ruling` was given."""
    (indexes, columns, fresh, *counts, alike), wide = unpacked(data)
    ruling = Ruling(fresh=fresh)
    ruling.replays, ruling.conflicts, ruling.corrections, ruling.correction, ruling.cut_traces = map(int, counts)
    ruling.decisions = dict(zip(indexes, _READ_DECISIONS[wide](columns, len(indexes)), strict=True))
    if alike is not None:
        ruled = _read_alike(alike, wide=wide)
        ruling.decisions.update(decisions_on(ruled, facts))
        ruling.fresh = [*ruled.indexes, *fresh]
    return ruling


def _write_traces(usual: UsualTraces) -> list[Any]:
    """Return traces of usual calls, with the hashes of these, as they are packed."""
    traces, calls, hashes = usual
    assert hashes is not None
    of_plain = [trace.of_plain for trace in traces]
    sizes = [len(trace.indexes) for trace in traces]
    ids = [trace.trace_id for trace in traces]
    rest = _write_own(calls.forms, calls.own), _write_hashes(hashes)
    return [ids, sizes, [*usual.indexes()], of_plain if any(of_plain) else None, *rest]


def _read_traces(written: Sequence[Any], facts: Mapping[int, Fact], *, wide: bool) -> UsualTraces:
    """Return what `_write_traces` wrote; `facts` are the other spans of the batch, by index."""
    ids, sizes, indexes, of_plain, calls, hashes = written
    traces: list[UsualTrace] = []
    for trace_id, size, end, plain in zip(ids, sizes, accumulate(sizes), of_plain or repeat(()), strict=False):
        places = slice(end - size, end)
        traces.append(UsualTrace(trace_id, places, indexes[places], [facts[index] for index in plain], [*plain]))
    trace_ids = [*chain.from_iterable(map(repeat, ids, sizes))]
    return UsualTraces(traces, _read_own(calls, trace_ids, wide=wide), _read_hashes(hashes, len(trace_ids)))


def _write_calls(calls: UsualColumns) -> list[Any]:
    """Return usual calls of any traces as they are packed."""
    return [len(calls.forms), write_repeated(calls.trace_ids), _write_own(calls.forms, calls.own)]


def _read_calls(written: Sequence[Any], *, wide: bool) -> UsualColumns:
    """Return what `_write_calls` wrote."""
    count, trace_ids, calls = written
    return _read_own(calls, read_repeated(trace_ids, count), wide=wide)


def _write_alike(ruled: RuledAlike) -> list[Any]:
    """Return decisions on usual calls as they are packed."""
    indexes, prototypes, *columns, session_costs, run_costs = ruled
    distinct = {id(one): one for one in prototypes}
    which = write_plain(numbers_of(distinct, map(id, prototypes)))
    decisions = [*map(_PACK_DECISION, distinct.values())]
    runs = [write_repeated(column) for column in columns]
    return [indexes, decisions, which, *runs, write_plain(session_costs), write_plain(run_costs)]


def _read_alike(written: Sequence[Any], *, wide: bool) -> RuledAlike:
    """Return what `_write_alike` wrote."""
    indexes, decisions, which, (runs, of_run), session_costs, run_costs = written
    count = len(indexes)
    prototypes = read_repeated(([*map(_UNPACK_DECISION, decisions)], which), count)
    named = read_repeated(([Named(*run) for run in runs], of_run), count)
    costs = [read_plain(column, count) for column in (session_costs, run_costs)]
    if wide:
        costs = [[None if cost is None else int(cost) for cost in column] for column in costs]
    return RuledAlike(indexes, prototypes, named, *costs)


def _write_own(forms: Sequence[UsualForm], own: Columns) -> list[Any]:
    of_calls = dict.fromkeys(forms)
    prototypes = dict.fromkeys(form.prototype for form in of_calls)
    numbers = numbers_of(prototypes, (form.prototype for form in of_calls))
    which = [(number, *form.which) for number, form in zip(numbers, of_calls, strict=True)]
    plain = (own.span_ids, own.starts, own.ends, own.response_ids, own.days, own.first_tokens, *own.counts)
    return [
        [*map(_PACK_PROTOTYPE, prototypes)],
        which,
        write_plain(numbers_of(of_calls, forms)),
        [write_repeated(column) for column in (own.parent_ids, own.sessions)],
        [write_plain(column) for column in plain],
        [write_plain(column) for column in (own.amounts, *own.parts)],
    ]


def _read_own(written: Sequence[Any], trace_ids: Sequence[bytes], *, wide: bool) -> UsualColumns:
    packed_once, which, numbers, repeated, plain, money = written
    prototypes, count = [*map(_UNPACK_PROTOTYPE, packed_once)], len(trace_ids)
    of_calls = [prototypes[number].form(tuple(more)) for number, *more in which]
    parent_ids, sessions = (read_repeated(column, count) for column in repeated)
    span_ids, starts, ends, response_ids, days, first_tokens, *counts = (read_plain(column, count) for column in plain)
    amounts, *parts = (read_plain([*map(int, column)] if wide else column, count) for column in money)
    own = Columns(
        span_ids, parent_ids, starts, ends, response_ids, counts, amounts, parts, days, first_tokens, sessions
    )
    return UsualColumns(trace_ids, read_repeated((of_calls, numbers), count), own)


def _write_hashes(hashes: HashesOfCalls) -> list[Any]:
    *columns, remembered = hashes
    of_calls = [*chain.from_iterable(columns)]
    numbers = pack(f"<{len(of_calls)}Q", *of_calls)
    return [[*map(len, columns)], numbers, write_plain([*map(len, remembered)]), b"".join(remembered)]


def _read_hashes(written: Sequence[Any], count: int) -> HashesOfCalls:
    sizes, numbers, lengths, remembered = written
    of_calls = unpack(f"<{sum(sizes)}Q", numbers)
    ids, usages, beside, uncached = (
        of_calls[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)
    )
    ends = [*accumulate(read_plain(lengths, count))]
    packed_each = [*map(remembered.__getitem__, map(slice, [0, *ends], ends))]
    return HashesOfCalls(ids, usages, beside, uncached, packed_each)


_WRITE_FACTS, _WRITE_DECISIONS = writer_of(Fact), writer_of(Decision)
_READ_FACTS = {wide: reader_of(Fact, wide=wide) for wide in (False, True)}
_READ_DECISIONS = {wide: reader_of(Decision, wide=wide) for wide in (False, True)}
_PACK_PROTOTYPE = PrototypeWriter(lambda prototype: _WRITE_FACTS([prototype.fact]))
_UNPACK_PROTOTYPE = PrototypeReader(lambda columns, wide: Prototype(next(iter(_READ_FACTS[wide](columns, 1)))))
_PACK_DECISION = PrototypeWriter(lambda decision: _WRITE_DECISIONS([decision]))
_UNPACK_DECISION = PrototypeReader(lambda columns, wide: next(iter(_READ_DECISIONS[wide](columns, 1))))
