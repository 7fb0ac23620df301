"""Calls counted in one trace, found again from another: by the provider's response id, else by equal usage.

Two libraries around one call often write into two traces, and a log event has a trace of its own or none (issue 4).
Each counted call leaves a row under its response id and one under its tokens, the latest few of each. Some sources
leave reasoning out of the output: a call that knows its reasoning stands under the output without it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from spanledger_processor.accounting.same import AGGREGATES, apart, same_call, same_response
from spanledger_processor.accounting.trace import Claim, Span
from spanledger_processor.grouping.resolve import Named
from spanledger_processor.state.packing import pack, unpack
from spanledger_processor.state.store import Changes, Key, Table, key

_ROWS = 8
"""Calls remembered under one id or one usage; twins arrive within seconds of each other."""


class Across:
    """Finds and remembers counted calls of a tenant, one to one for each source."""

    def __init__(self, tenant: bytes, read: Callable[[Key], bytes | None], changes: Changes, now_ns: int) -> None:
        self._tenant = tenant
        self._read = read
        self._changes = changes
        self._now_ms = now_ns // 1_000_000
        self._known: dict[Key, list[list[Any]]] = {}
        self._changed: set[Key] = set()

    def candidates(self, trace_id: bytes, span: Span) -> list[tuple[bytes, Span]]:
        """Calls counted in other traces that `span` reports too: the trace and what is remembered of the call there.

        Those of the same response id come first. Without one, a call that a span of the same source reports is none.
        """
        source = [span.scope, span.logged]
        found: dict[tuple[bytes, bytes], Span] = {}
        for where in self._keys(span):
            for row in self._rows(where):
                by_id = bool(span.response) and row[6] == span.response
                if row[0] == trace_id or (not by_id and (source in row[-1] or apart(span, row[2], row[3]))):
                    continue
                other = _call(row)
                if _one_call(span, other):
                    found.setdefault((row[0], row[1]), other)
        return [(trace, other) for (trace, _), other in found.items()]

    def take(self, span: Span, trace_id: bytes, span_id: bytes) -> None:
        """Let `span` be the only one of its source that reports the call counted for another trace's span."""
        for where in self._keys(span):
            for row in self._rows(where):
                if (row[0], row[1]) == (trace_id, span_id):
                    row[-1].append([span.scope, span.logged])
                    self._changed.add(where)

    def remember(self, trace_id: bytes, span: Span, session: str) -> None:
        """A call that is counted, for spans of other traces to find."""
        row = _row(trace_id, span, session)
        for where in self._keys(span):
            rows = self._rows(where)
            del rows[: -_ROWS + 1]
            rows.append(row)
            self._changed.add(where)

    def save(self) -> None:
        """Write what was remembered. Call once, after all spans."""
        for where in self._changed:
            self._changes.replace[where] = pack([1, self._now_ms, self._known[where]])
            self._changes.expire.append(where)

    def _keys(self, span: Span) -> Iterator[Key]:
        if span.claim is None or span.kind in AGGREGATES:
            return
        if span.response:
            yield key(Table.RESPONSE, self._tenant, span.response.encode("utf-8", "surrogatepass"))
        if span.claim.tokens and span.claim.tokens[0]:
            input_, output, reasoning = span.claim.tokens[0], span.claim.tokens[1] or 0, span.claim.tokens[5] or 0
            yield key(Table.MATCH, self._tenant, b"%d/%d" % (input_, output))
            if 0 < reasoning < output:
                yield key(Table.MATCH, self._tenant, b"%d/%d" % (input_, output - reasoning))

    def _rows(self, where: Key) -> list[list[Any]]:
        rows = self._known.get(where)
        if rows is None:
            record = self._read(where)
            rows = self._known[where] = [] if record is None else unpack(record)[2]
        return rows


def _one_call(one: Span, other: Span) -> bool:
    if one.response and one.response == other.response:
        in_one = not one.session.id or not other.session.id or one.session.id == other.session.id
        return (in_one or one.logged != other.logged) and same_response(one, other)
    return same_call(one, other)


def _row(trace_id: bytes, span: Span, session: str) -> list[Any]:
    tokens = span.claim.tokens if span.claim else ()
    source = [span.scope, span.logged]
    return [trace_id, span.span_id, span.start_ns, span.end_ns, *source, span.response, session, tokens, [source]]


def _call(row: list[Any]) -> Span:
    _, span_id, start_ns, end_ns, scope, logged, response, session, tokens, _ = row
    span = Span(span_id, start_ns=start_ns, end_ns=end_ns, scope=scope, logged=logged, response=response)
    span.session = Named(session)
    span.claim = Claim(tuple(tokens))
    return span
