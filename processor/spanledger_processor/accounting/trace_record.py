"""The stored form of a trace: rows of plain values, short for plain spans, longer for GenAI spans."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.trace import Claim, Place, Span, Trace
from spanledger_processor.ledger import packing
from spanledger_processor.model import USAGE_CLASSES, UsageVector

_VERSION = 1


def pack(trace: Trace, arrival_ns: int) -> bytes:
    """The stored form; its second element is the arrival in ms, by which the retention goes."""
    return packing.pack([_VERSION, arrival_ns // 1_000_000, [_row(span) for span in trace.spans.values()]])


def pack_span(span: Span) -> bytes:
    """One span's row in the stored form of its trace."""
    return packing.pack(_row(span))


def pack_spans(rows: Collection[bytes], arrival_ns: int) -> bytes:
    """The stored form of a trace whose rows are packed: what `pack` gives."""
    head = packing.array_header(3), packing.pack(_VERSION), packing.pack(arrival_ns // 1_000_000)
    return b"".join((*head, packing.array_header(len(rows)), *rows))


def unpack(record: bytes) -> Trace:
    """Read a stored record."""
    _, _, rows = packing.unpack(record)
    return Trace({row[0]: _span(row) for row in rows})


def _row(span: Span) -> list[Any]:
    """Four elements of links; eight with names; all of them for a GenAI span, and its claim last."""
    row: list[Any] = [span.span_id, span.parent_id, span.start_ns, span.end_ns]
    session, run = span.session, span.run
    if not span.kind:
        return [*row, session.id, session.source, run.id, run.source] if session.id or run.id else row
    place, claim = span.place, span.claim
    row += [
        session.id,
        session.source,
        run.id,
        run.source,
        span.kind,
        span.scope,
        span.parent_session,
        span.response,
        span.call_id,
        span.signature,
        span.logged,
        span.again,
        span.twin,
        None if place is None else [place.role, place.session, place.run],
        [span.sent.cost, *span.sent.counts] if span.sent else None,
        span.carries_below,
    ]
    if claim is not None:
        row.append(_claim_row(claim))
    return row


def _claim_row(claim: Claim) -> list[Any]:
    names = (claim.unpriced, claim.provider, claim.model, claim.day, claim.task_id, claim.task_kind)
    return [claim.tokens, claim.amount, *names, claim.fallback]


def _span(row: list[Any]) -> Span:
    span = Span(row[0], row[1], row[2], row[3])
    if len(row) == 4:
        return span
    if row[4]:
        span.session = Named(row[4], row[5])
    if row[6]:
        span.run = Named(row[6], row[7])
    if len(row) == 8:
        return span
    span.kind, span.scope, span.parent_session, span.response, span.call_id = row[8:13]
    span.signature, span.logged, span.again, span.twin = row[13:17]
    span.place = None if row[17] is None else Place(*row[17])
    if row[18] is not None:
        span.sent = UsageVector.read(row[18][0], row[18][1:])
    span.carries_below = row[19]
    if len(row) > 20:
        tokens, amount, *rest = row[20]
        span.claim = Claim(_all_classes(tokens), None if amount is None else int(amount), *rest)
    return span


def _all_classes(tokens: list[int | None]) -> tuple[int | None, ...]:
    """The counts of a claim; one of a version that had fewer classes knows nothing of the others."""
    if not tokens:
        return ()
    return (*tokens, *[None] * (len(USAGE_CLASSES) - len(tokens)))[: len(USAGE_CLASSES)]
