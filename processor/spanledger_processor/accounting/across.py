"""Calls counted in one trace, found again from another: by the provider's response id, else by equal usage.

Two libraries around one call often write into two traces, and a log event has a trace of its own or none (issue 4).
Each counted call leaves a row under its response id and one under its tokens, the latest few of each. Some sources
leave reasoning out of the output: a call that knows its reasoning stands under the output without it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.same import AGGREGATES, LOG_AFTER_NS, apart, same_call, same_response
from spanledger_processor.accounting.trace import Claim, Span
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import Changes, Key, Table, key

_ROWS = 16
"""Calls remembered under one id, or one usage and time."""
_PERIOD_NS = 600 * 10**9
"""Calls of equal usage are remembered apart by when they ended, so that those of a busy hour do not crowd out twins."""

_Row: TypeAlias = list[Any]
"""The packed call (`_packed`), then the sources that report it: most rows are passed over by source, unread."""


class Places(NamedTuple):
    """Where a call is remembered: under its response id (the first key, if it has one), and under its tokens and end.

    `beside` are the places of twins that ended just before or after, in another period.
    """

    by_id: Key | None
    keys: tuple[Key, ...] = ()
    beside: tuple[Key, ...] = ()


class Across:
    """Finds and remembers counted calls of a tenant, one to one for each source."""

    def __init__(self, tenant: bytes, read: Callable[[Key], bytes | None], changes: Changes, now_ns: int) -> None:
        self._tenant = tenant
        self._read = read
        self._changes = changes
        self._now_ms = now_ns // 1_000_000
        self._known: dict[Key, list[_Row]] = {}
        self._changed: set[Key] = set()

    def places(self, span: Span) -> Places:
        """Where `span` is remembered, and looked for."""
        if span.claim is None or span.kind in AGGREGATES:
            return Places(None)
        by_id = key(Table.RESPONSE, self._tenant, _encoded(span.response)) if span.response else None
        keys = () if by_id is None else (by_id,)
        tokens = span.claim.tokens
        if not tokens or not tokens[0]:
            return Places(by_id, keys)
        output, reasoning = tokens[1] or 0, tokens[5] or 0
        outputs = (output, output - reasoning) if 0 < reasoning < output else (output,)
        period = span.end_ns // _PERIOD_NS
        periods = {(span.end_ns - LOG_AFTER_NS) // _PERIOD_NS, (span.end_ns + LOG_AFTER_NS) // _PERIOD_NS} - {period}
        return Places(by_id, keys + self._match(tokens[0], outputs, {period}), self._match(tokens[0], outputs, periods))

    def _match(self, input_: int, outputs: Iterable[int], periods: Iterable[int]) -> tuple[Key, ...]:
        usages = [b"%d/%d/%d" % (input_, output, period) for period in periods for output in outputs]
        return tuple([key(Table.MATCH, self._tenant, usage) for usage in usages])

    def candidates(self, places: Places, trace_id: bytes, span: Span) -> list[tuple[bytes, Span]]:
        """Calls counted in other traces that `span` reports too: the trace and what is remembered of the call there.

        Those of the same response id come first. Without one, a call that a span of the same source reports is none.
        """
        source = _source(span)
        found: dict[tuple[bytes, bytes], Span] = {}
        for where in places.keys + places.beside:
            by_id = where is places.by_id
            for row in self._rows(where):
                if not by_id and source in row:
                    continue
                trace, other = _unpacked(row[0])
                if trace != trace_id and _one_call(span, other, by_id=by_id):
                    found.setdefault((trace, other.span_id), other)
        return [(trace, other) for (trace, _), other in found.items()]

    def take(self, places: Places, span: Span, trace_id: bytes, span_id: bytes) -> None:
        """Let `span` be the only one of its source that reports the call counted for another trace's span."""
        for where in places.keys + places.beside:
            for row in self._rows(where):
                trace, other = _unpacked(row[0])
                if (trace, other.span_id) == (trace_id, span_id):
                    row.append(_source(span))
                    self._changed.add(where)

    def remember(self, places: Places, trace_id: bytes, span: Span, session: str) -> None:
        """A call that is counted, for spans of other traces to find."""
        packed, source = _packed(trace_id, span, session), _source(span)
        for where in places.keys:
            rows = self._rows(where)
            del rows[: -_ROWS + 1]
            rows.append([packed, source])
            self._changed.add(where)

    def save(self) -> None:
        """Write what was remembered. Call once, after all spans."""
        for where in self._changed:
            self._changes.replace[where] = pack([1, self._now_ms, self._known[where]])
            self._changes.expire.append(where)

    def _rows(self, where: Key) -> list[_Row]:
        rows = self._known.get(where)
        if rows is None:
            record = self._read(where)
            rows = self._known[where] = [] if record is None else unpack(record)[2]
        return rows


def _one_call(one: Span, other: Span, *, by_id: bool) -> bool:
    if not by_id:
        return not apart(one, other.start_ns, other.end_ns) and same_call(one, other)
    in_one = not one.session.id or not other.session.id or one.session.id == other.session.id
    return (in_one or one.logged != other.logged) and same_response(one, other)


def _source(span: Span) -> str:
    return f"log {span.scope}" if span.logged else f"span {span.scope}"


def _packed(trace_id: bytes, span: Span, session: str) -> bytes:
    claim = span.claim or Claim()
    times, told = (span.start_ns, span.end_ns), (claim.tokens, claim.amount is not None, claim.model)
    return pack([trace_id, span.span_id, *times, span.scope, span.logged, span.response, session, *told])


def _unpacked(packed: bytes) -> tuple[bytes, Span]:
    trace_id, span_id, start_ns, end_ns, scope, logged, response, session, tokens, priced, model = unpack(packed)
    span = Span(span_id, start_ns=start_ns, end_ns=end_ns, scope=scope, logged=logged, response=response)
    span.session = Named(session)
    span.claim = Claim(tuple(tokens), 0 if priced else None, model=model)
    return trace_id, span


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
