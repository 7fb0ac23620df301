"""The stored form of usual calls (`accounting.usual`): what those of one pattern have in common stands once in the
record of their trace, and a row of each holds its own values alone.

Read, a row is the very row that the full rules write for such a call (`trace_record`), so nobody else needs to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.records import DECISION_VALUES, pack_values, values_in
from spanledger_processor.model import CLASS_NAMES

VERSION = 3
"""Of the record of a trace that holds such rows."""

OwnValues: TypeAlias = tuple[Any, ...]
"""Number of the pattern in the record, ids of the span and its parent, start, end, session, response id, digest, counts
of the first six classes, amount, its parts, day, first token, id and source of the run, running totals of session and
run."""

_SESSION, _RUN, _RUN_SOURCE, _USAGE, _COST, _SESSION_COST, _RUN_COST = map(
    DECISION_VALUES.index, ("session_id", "run_id", "run_source", "usage", "cost", "session_cost", "run_cost")
)
_OWN_VALUES = (_SESSION, _RUN, _RUN_SOURCE, _USAGE, _COST, _SESSION_COST, _RUN_COST)
_NAMED = 5
"""A span's own values with which its row begins: ids of the span and its parent, start, end, and the session."""
_RESPONSE, _CLAIM = 11, 15
_TOKENS, _AMOUNT, _DAY, _FIRST_TOKEN, _FRESH = 0, 1, 5, 13, 14
"""Within the claim."""
_REST = (None,) * (len(CLASS_NAMES) - 6)


def pattern_of_row(row: Sequence[Any], price: str, *, estimate: bool) -> bytes | None:
    """Return what a row of `trace_record` has in common with those of calls like it; None if it is of another form."""
    fixed, (_, *state) = unpack(row[0]), row
    if len(fixed) <= _CLAIM + 1 or not isinstance(fixed[_CLAIM], list):
        return None
    values = values_in(fixed[-1])
    for index in _OWN_VALUES:
        values[index] = None
    claim = fixed[_CLAIM]
    for index in (_TOKENS, _AMOUNT, _DAY, _FIRST_TOKEN, _FRESH):
        if index < len(claim):
            claim[index] = None
    fixed[:_NAMED] = [None] * _NAMED
    fixed[_RESPONSE] = fixed[-1] = None
    return pack([fixed, values, state, price, estimate])


def pack_usual(patterns: Sequence[bytes], rows: Sequence[OwnValues], arrival_ms: int) -> bytes:
    """Return the record of a trace of usual calls."""
    return pack([VERSION, arrival_ms, patterns, rows])


def whole_rows(patterns: Sequence[bytes], rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return the rows of a record that `pack_usual` packed, in the form of `trace_record`."""
    return [_whole(unpack(patterns[number]), own) for number, *own in rows]


def _whole(pattern: list[Any], own: list[Any]) -> list[Any]:
    row, values, state, price, estimate = pattern
    span_id, parent_id, start_ns, end_ns, session, response, digest, counts, amount, parts, *more = own
    day, first_token_ns, run_id, run_source, session_cost, run_cost = more
    tokens = (*counts, *_REST)
    values[_SESSION], values[_RUN], values[_RUN_SOURCE], values[_USAGE] = session, run_id, run_source, tokens
    values[_COST] = (amount, "computed", amount, *parts, None, price, estimate, None, "")
    values[_SESSION_COST], values[_RUN_COST] = session_cost, run_cost
    claim = row[_CLAIM]
    claim[_TOKENS], claim[_AMOUNT], claim[_DAY] = tokens, amount, day
    if len(claim) > _FIRST_TOKEN:
        claim[_FIRST_TOKEN] = first_token_ns
    if len(claim) > _FRESH:
        claim[_FRESH] = int(parts[0]) + int(parts[2])
    row[:_NAMED] = span_id, parent_id, start_ns, end_ns, session
    row[_RESPONSE], row[-1] = response, pack_values(values, digest)
    return [pack(row), *state]
