"""The traces that one request touches: their stored spans, the new ones, and the roles of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

from spanledger_processor.accounting.cross_trace_index import CrossTraceIndex, Entry
from spanledger_processor.accounting.incremental import Incremental
from spanledger_processor.accounting.trace import Span, Trace, price_events
from spanledger_processor.accounting.trace_record import (
    SEGMENT_SPANS,
    SpanRow,
    decision_in,
    fix,
    forgotten,
    id_of,
    pack_head,
    pack_segment,
    pack_settled,
    row_of,
    segment_of,
    span_in,
    spans_of,
    state_of,
    unpack_head,
    unpack_segment,
)
from spanledger_processor.accounting.trace_state import StoredTrace, TraceCache, TraceState, excess
from spanledger_processor.ledger.keys import settled_key, trace_key
from spanledger_processor.ledger.store import Changes, Key, Reader

_SEGMENTS_READ = 256
"""Segments that are kept while a request is entered."""
_MOST_OF_OTHERS = 16_384
"""Spans of traces that are loaded for a request which adds none to them: about 0.6 s, and 25 MB."""


class TraceSet:
    """All traces that a request touches, and those of other traces' spans that report the same calls."""

    def __init__(
        self, tenant: bytes, reader: Reader, changes: Changes, now_ns: int, cache: TraceCache, index: CrossTraceIndex
    ) -> None:
        self._cache = cache
        self._tenant = tenant
        self._read = reader.get
        self._changes = changes
        self._now_ms = now_ns // 1_000_000
        self._index = index
        self._stored: dict[bytes, StoredTrace] = {}
        self._states: dict[bytes, TraceState] = {}
        self._compared: dict[Entry, Span | None] = {}
        """Spans of traces that are not loaded, as they are stored."""
        self._segments_read: dict[Key, list[SpanRow]] = {}
        self._of_others = 0

    def __iter__(self) -> Iterator[TraceState]:
        """Return the traces that the request adds spans to, or changes."""
        return iter([state for state in self._states.values() if state.is_changed])

    def is_stored(self, trace_id: bytes) -> bool:
        """Return whether anything of a trace is stored."""
        return bool(self._load(trace_id).record)

    def decision(self, trace_id: bytes, span_id: bytes) -> bytes:
        """Return the packed decision of a span that is known; empty for one that is not."""
        stored = self._load(trace_id)
        span = stored.trace.spans.get(span_id)
        if span is not None:
            return decision_in(span.fixed) if span.kind else b""
        row = self._forgotten_row(trace_id, stored, span_id)
        return b"" if row is None else decision_in(row[0])

    def _forgotten_row(self, trace_id: bytes, stored: StoredTrace, span_id: bytes) -> SpanRow | None:
        segment = self._settled(trace_id, stored, span_id)
        return _row_in(self._rows(trace_id, segment), span_id) if segment else None

    def _settled(self, trace_id: bytes, stored: StoredTrace, span_id: bytes) -> int:
        """Return the segment that holds a span which the rules do not look at any more, 0 for any other."""
        if not stored.head.forgotten:
            return 0
        unsettled = stored.unsettled.get(span_id, 0)
        return unsettled or segment_of(self._read(settled_key(self._tenant, trace_id, span_id)))

    def enter(self, trace_id: bytes, spans: list[tuple[int, Span]]) -> None:
        """Add the spans of a request to their trace; one that holds no GenAI span by then is not stored."""
        stored = self._load(trace_id)
        trace, length = stored.trace, len(stored.trace.spans)
        new: list[tuple[int, Span]] = []
        added: list[Span] = []
        for index, span in spans:
            if span.kind:
                new.append((index, span))
            elif span.span_id in trace.spans or self._settled(trace_id, stored, span.span_id):
                continue
            trace.add(span)
            added.append(span)
        if not added:
            return
        known = stored.incremental
        if known is not None and len(trace.spans) == length + len(added) and known.add(trace, added):
            state = TraceState.plain(trace_id, stored, known)
        elif new or stored.record:
            state = TraceState.decided(trace_id, stored, price_events(trace))
        else:
            del self._stored[trace_id]
            return
        state.new, state.added, state.is_changed = new, added, True
        self._states[trace_id] = state

    def state(self, trace_id: bytes) -> TraceState:
        """Return a trace, also one that the request adds nothing to."""
        state = self._states.get(trace_id)
        if state is None:
            stored = self._load(trace_id)
            known = stored.incremental
            state = TraceState.decided(trace_id, stored) if known is None else TraceState.plain(trace_id, stored, known)
            self._states[trace_id] = state
        return state

    def is_read(self, trace_id: bytes) -> bool:
        """Return whether a trace has a state here."""
        return trace_id in self._states

    def span_at(self, where: Entry) -> Span | None:
        """Return a span as far as is known now, also one that its trace does not hold any more; it is not loaded."""
        trace_id, span_id = where
        stored = self._stored.get(trace_id)
        if stored is not None and trace_id in self._states and (span := stored.trace.spans.get(span_id)) is not None:
            return span
        if where not in self._compared:
            self._compared[where] = self._stored_span(where)
        return self._compared[where]

    def _stored_span(self, entry: Entry) -> Span | None:
        """Return a span as it is stored, also one that the rules do not look at any more."""
        trace_id, span_id = entry
        key = trace_key(self._tenant, trace_id)
        record = self._read(key)
        if record is None:
            return None
        known = self._stored.get(trace_id) or self._cache.peek(key, record)
        if known is not None:
            if (span := known.trace.spans.get(span_id)) is not None:
                return span
            row = self._forgotten_row(trace_id, known, span_id)
            return None if row is None else span_in(row)
        head, rows = unpack_head(record)
        if (row := _row_in(rows, span_id)) is not None:
            return span_in(row)
        settled = segment_of(self._read(settled_key(self._tenant, trace_id, span_id))) if head.forgotten else 0
        for number in (settled,) if settled else reversed([*head.segments()]):
            closed = self._read(trace_key(self._tenant, trace_id, number))
            if closed is not None and span_id in closed and (row := _row_in(self._rows(trace_id, number), span_id)):
                return span_in(row)
        return None

    def _rows(self, trace_id: bytes, number: int) -> list[SpanRow]:
        """Return the rows of a segment of which several spans may be asked for in turn."""
        key = trace_key(self._tenant, trace_id, number)
        rows = self._segments_read.get(key)
        if rows is None:
            if len(self._segments_read) >= _SEGMENTS_READ:
                self._segments_read.clear()
            rows = self._segments_read[key] = self._segment(trace_id, number)
        return rows

    def keep(self, decisions: dict[int, bytes]) -> int:
        """Enter all changes, and return the number of traces that had to be cut for the first time.

        `decisions` are packed, by their index in the request.
        """
        for trace_id, state in self._states.items():
            if state.new:
                self._index.remember_trace(trace_id)
        self._index.save()
        changed = [*self]
        whole = [state.trace for state in changed if not state.trace.cut]
        for state in changed:
            for index, span in state.new:
                fix(span, decisions[index])
                span.closes = False  # as when it is read again
            for span in state.added:
                if not span.kind:
                    fix(span)
            self._write(state.trace_id, state)
        for trace_id, stored in self._stored.items():
            if self._cache.wants(stored):
                self._cache.put(trace_key(self._tenant, trace_id), stored)
        return sum(trace.cut for trace in whole)

    def _write(self, trace_id: bytes, state: TraceState) -> None:
        stored = state.stored
        spans = stored.trace.spans
        stored.open = [span for span in [*stored.open, *state.added] if spans.get(span.span_id) is span]
        closing = _close_segments(stored)
        gone, by_that = stored.trace.forget()
        are_as_written = state.incremental is not None or not stored.record  # known spans, or there are none
        changed = _changed([*state.touched, *by_that] if are_as_written else stored.trace.spans.values())
        if not state.added and not changed:
            return
        stored.head.forgotten += len(gone)
        for number, rows in self._segments(trace_id, closing, changed, gone):
            record = pack_segment(rows, self._now_ms)
            self._changes.replace[trace_key(self._tenant, trace_id, number)] = record
            stored.head.revision = blake2b(stored.head.revision + record, digest_size=8).digest()
        if gone or stored.unsettled:
            self._store_settled(trace_id, stored, gone)
        key = trace_key(self._tenant, trace_id)
        stored.head.state = stored.trace.state()
        stored.record = pack_head(stored.head, list(map(row_of, stored.open)), self._now_ms)
        stored.excess, stored.incremental = state.excess, None
        if self._cache.wants(stored):
            known = state.incremental
            is_kept = known is not None and (not gone or (not by_that and known.forget(stored.trace, gone)))
            stored.incremental = known if is_kept else Incremental.of(stored.trace, state.match.roles)
        self._changes.replace[key] = stored.record
        self._changes.expire.append(key)

    def _store_settled(self, trace_id: bytes, stored: StoredTrace, gone: list[Span]) -> None:
        """Store rows of the spans that the rules do not look at any more; segments that hold no others expire."""
        settled = {**stored.unsettled, **{span.span_id: span.segment for span in gone}}
        rows = {settled_key(self._tenant, trace_id, span_id): pack_settled(at) for span_id, at in settled.items()}
        stored.unsettled = {}
        live = {span.segment for span in stored.trace.spans.values()}
        useless = [trace_key(self._tenant, trace_id, number) for number in stored.head.segments() if number not in live]
        stored.head.live = [number for number in stored.head.segments() if number in live]
        self._changes.replace.update(rows)
        self._changes.expire += [*rows, *(segment for segment in useless if segment in self._changes.replace)]

    def _segments(
        self, trace_id: bytes, closing: dict[int, list[Span]], changed: list[Span], gone: list[Span]
    ) -> Iterator[tuple[int, list[SpanRow]]]:
        """Yield the closed segments that have to be written, with their rows."""
        after = {(span.segment, span.span_id): row_of(span) for span in changed if span.segment}
        after.update({(span.segment, span.span_id): forgotten(row_of(span)) for span in gone})
        for number in sorted({segment for segment, _ in after} | set(closing)):
            rows = [row_of(span) for span in closing[number]] if number in closing else self._segment(trace_id, number)
            yield number, [after.get((number, id_of(row)), row) for row in rows] if after else rows

    def other(self, trace_id: bytes) -> TraceState | None:
        """Return a trace that holds spans whose parts in tool calls a span of the request changes; None for one of
        which nothing is stored, or once many were loaded for the request: its spans then keep what they have.
        """
        known = self._states.get(trace_id)
        if known is None and (self._of_others >= _MOST_OF_OTHERS or not self.is_stored(trace_id)):
            return None
        state = known or self.state(trace_id)
        if known is None:
            self._of_others += len(state.trace.spans)
        state.is_changed = True
        return state

    def _load(self, trace_id: bytes) -> StoredTrace:
        stored = self._stored.get(trace_id)
        if stored is not None:
            return stored
        key = trace_key(self._tenant, trace_id)
        record = self._read(key)
        if record is None:
            stored = StoredTrace(Trace())
        else:
            stored = self._cache.take(key, record) or self._unpacked(trace_id, record)
        self._stored[trace_id] = stored
        return stored

    def _unpacked(self, trace_id: bytes, record: bytes) -> StoredTrace:
        head, rows = unpack_head(record)
        stored = StoredTrace(Trace(), record=record, head=head, open=spans_of(rows, 0))
        spans: list[Span] = []
        for number in head.segments():
            segment = self._segment(trace_id, number)
            of_segment = spans_of(segment, number)
            if head.live is None and len(of_segment) < len(segment):
                known = {span.span_id for span in of_segment}
                stored.unsettled.update((id_of(row), number) for row in segment if id_of(row) not in known)
            spans += of_segment
        for span in [*spans, *stored.open]:
            stored.trace.spans.pop(span.span_id, None)
            stored.trace.spans[span.span_id] = span
        stored.trace.restore(head.state)
        stored.excess = excess(stored.trace)
        return stored

    def _segment(self, trace_id: bytes, number: int) -> list[SpanRow]:
        record = self._read(trace_key(self._tenant, trace_id, number)) if number else None
        return [] if record is None else unpack_segment(record)


def _row_in(rows: Sequence[SpanRow], span_id: bytes) -> SpanRow | None:
    """Return the row of a span, the last one of those that have its id."""
    return next((row for row in reversed(rows) if span_id in row[0] and id_of(row) == span_id), None)


def _close_segments(stored: StoredTrace) -> dict[int, list[Span]]:
    """Move the oldest spans that a head has no room for into new segments."""
    closing: dict[int, list[Span]] = {}
    while len(stored.open) > SEGMENT_SPANS:
        number = stored.head.close()
        closing[number] = stored.open[:SEGMENT_SPANS]
        del stored.open[:SEGMENT_SPANS]
        for span in closing[number]:
            span.segment = number
    return closing


def _changed(spans: Iterable[Span]) -> list[Span]:
    """Return those of a stored trace's spans whose state is not what is stored of it; their rows are made anew."""
    changed: list[Span] = []
    for span in spans:
        state = state_of(span)
        if state != span.stored:
            span.stored = state
            changed.append(span)
    return changed
