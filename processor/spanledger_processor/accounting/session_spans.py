"""The spans of one session that are remembered, found by their arrival: no index of them is stored.

A session's spans stand in the records of their traces, and which traces gained spans by a request stands in the
cross-trace index, by arrival. So they are looked for from the session's latest arrival back to its first activity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spanledger_processor.accounting.cross_trace_index import traces_in
from spanledger_processor.accounting.trace import COUNTED, Span
from spanledger_processor.accounting.trace_record import SpanRow, span_in, unpack_head, unpack_segment
from spanledger_processor.ledger.keys import EVERY_TENANT, bounded_id, id_bytes, index_key, trace_key
from spanledger_processor.ledger.store import Reader, Table
from spanledger_processor.ledger.sums import Sums

_MOST_REQUESTS, _MOST_TRACES = 2000, 2000
"""Looked at: a few hundredths of a second."""
_CLOCKS_MS = 3_600_000
"""By how much the clocks of senders may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class Found:
    """Spans with the ids of their traces, by start, and whether all that is remembered was searched."""

    spans: list[tuple[bytes, Span]]
    complete: bool


def spans_of_session(reader: Reader, tenant: bytes, session_id: str, session: Sums, most: int) -> Found:
    """Return the latest GenAI spans of a session, `most` or fewer."""
    session_id = bounded_id(session_id)
    name, spans = id_bytes(session_id), list[tuple[bytes, Span]]()
    traces: set[bytes] = set()
    complete = True
    for number, trace_id in enumerate(_traces_from(reader, session)):
        if trace_id is None or number >= _MOST_TRACES or len(spans) >= most:
            complete = False
            break
        if trace_id not in traces:
            traces.add(trace_id)
            spans += ((trace_id, span) for span in _spans(reader, tenant, trace_id, session_id, name))
    spans.sort(key=lambda item: (item[1].start_ns, item[1].span_id))
    return Found(spans[-most:], complete and len(spans) <= most)


def _traces_from(reader: Reader, session: Sums) -> Iterator[bytes | None]:
    """Yield traces by their latest arrival, the last first; None where more requests follow than are searched."""
    before = index_key(session.arrival_ms + 1, b"")
    earliest = index_key(max(0, session.first_ns // 1_000_000 - _CLOCKS_MS), b"")
    rows = reader.scan(Table.INDEX, EVERY_TENANT, newest_first=True, before=before)
    for number, (key, record) in enumerate(rows):
        if key < earliest:
            return
        if number >= _MOST_REQUESTS:
            yield None
            return
        yield from traces_in(record)


def _spans(reader: Reader, tenant: bytes, trace_id: bytes, session_id: str, name: bytes) -> Iterator[Span]:
    head = reader.get(trace_key(tenant, trace_id))
    if head is None:
        return
    for number in (0, *unpack_head(head)[0].segments()):
        record = reader.get(trace_key(tenant, trace_id, number)) if number else head
        if record is not None and name in record:
            for row in unpack_segment(record) if number else unpack_head(record)[1]:
                if (span := _of_session(row, session_id)) is not None:
                    yield span


def _of_session(row: SpanRow, session_id: str) -> Span | None:
    span = span_in(row)
    if not span.kind:
        return None
    session = span.place.session if span.place is not None else span.session.id
    return span if bounded_id(session) == session_id else None


def adds_cost(span: Span) -> bool:
    """Return whether a span's own claim is in the ledger's sums now."""
    return span.place is not None and span.place.role == COUNTED and span.claim is not None
