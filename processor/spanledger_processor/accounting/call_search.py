"""Find the calls of other traces that a call of a request is one with, or may be.

A span that reports a call is looked for in the index of calls, by its ids and its usage, and compared with what stands
there. What was found is kept while the request is entered: it stays true until another trace remembers a call of the
same id or usage, and comparisons until a trace is decided on anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from spanledger_processor.accounting.call_hashes import Hashes
from spanledger_processor.accounting.cross_trace_index import CrossTraceIndex, Entry
from spanledger_processor.accounting.one_call import NEAR_ONE_CALL, ONE_CALL, Reason, one_call, together
from spanledger_processor.accounting.shared_calls import (
    MOST_CALLS,
    CallReport,
    Comparisons,
    SharedCall,
    SpanAt,
    apart,
    counted_at,
)
from spanledger_processor.accounting.trace import COUNTED, DUPLICATE, Span
from spanledger_processor.accounting.trace_set import TraceSet
from spanledger_processor.accounting.trace_state import TraceState


class CallsFound:
    """Reports of other traces that report the same call as a span, as far as they were compared: it goes on when asked.

    `near` is the reason for which a span that is close to it reports another call, or may; known once all are compared.
    """

    def __init__(self, hashes: Hashes, number: int) -> None:
        self.hashes = hashes
        self.number = number
        """How many traces had remembered their calls before."""
        self.near: Reason | None = None
        self.rest: Iterator[tuple[bool, int, SpanAt]] = iter(())
        self._reports: list[tuple[bool, int, SpanAt]] = []

    @property
    def any(self) -> SpanAt | None:
        """Return the first one that was found; None if there is none."""
        if not self._reports:
            self._reports += islice(self.rest, 1)
        return self._reports[0][2] if self._reports else None

    @property
    def all(self) -> list[SpanAt]:
        """Return all of them: those of a common id first, and the nearest first."""
        self.compare()
        return [where for _, _, where in self._reports]

    def compare(self) -> None:
        """Compare those that were not compared yet."""
        self._reports += self.rest
        self._reports.sort()


class CallSearch:
    """Finds calls of other traces while one request is entered."""

    def __init__(self, traces: TraceSet, index: CrossTraceIndex) -> None:
        self.compared = Comparisons()
        self.decided: set[SpanAt] = set()
        """Calls of which it was decided what they are one with, for all of their reports."""
        self._traces = traces
        self._index = index
        self._calls: dict[SpanAt, SharedCall] = {}
        """By where they count in their own trace."""
        self._found: dict[SpanAt, CallsFound] = {}
        self._number = 0
        self._remembered: dict[int, tuple[int, bytes]] = {}
        """Which trace was the last to remember a call of a hash, and how many had done so before."""

    def remember(self, trace_id: bytes, spans: Sequence[Span]) -> None:
        """Let spans of other traces find these reports."""
        for span in spans:
            hashes = self._index.hashes(span)
            self._index.remember(hashes, trace_id, span)
            last = self._number, trace_id
            self._remembered.update((hash_, last) for of_kind in hashes for hash_ in of_kind)
        self._number += 1

    def find(self, state: TraceState, span: Span) -> CallsFound:
        """Return what spans of other traces report the same call as this one."""
        at = state.trace_id, span.span_id
        known = self._found.get(at)
        if known is None or not self._is_current(known, state.trace_id):
            known = self._found[at] = CallsFound(self._index.hashes(span), self._number)
            if known.hashes.ids or known.hashes.usages:
                entries, complete = self._index.candidates(known.hashes, span)
                if entries or not complete:
                    known.rest = self._comparing(known, state, span, entries, complete=complete)
        return known

    def _is_current(self, found: CallsFound, trace_id: bytes) -> bool:
        """Return whether no other trace remembered a call since then that a span of this one may report."""
        hashes = found.hashes
        latest = (self._remembered.get(hash_) for hash_ in (*hashes.ids, *hashes.usages, *hashes.beside))
        number = found.number
        return all(last is None or last[0] < number or (last[0] == number and last[1] == trace_id) for last in latest)

    def _comparing(
        self, found: CallsFound, state: TraceState, span: Span, entries: Sequence[Entry], *, complete: bool
    ) -> Iterator[tuple[bool, int, SpanAt]]:
        """Yield those of the calls in the index that a span reports, with whether they share no id, and how far they
        are apart.

        Of a call that it reports others are known to be one with, too: these are not compared, but found by the first.
        """
        this = CallReport((state.trace_id, span.span_id), span, state.own_session(span))
        counted: dict[SpanAt, bool] = {}
        last: Span | None = None
        near: Reason | None = None
        for where in entries:
            in_trace = where[0] == state.trace_id
            if in_trace and (span.posting is not None or where[1] in state.trace.spans):
                continue
            other = self._report_at(where)
            if other is None:
                continue
            calls = self._counted_for(where, other)
            known = next((counted[call] for call in calls if call in counted), None)
            if known is not None and not in_trace:
                yield known, apart(span, other), where
                continue
            last = other
            code = one_call(span, other, one_trace=True) if in_trace else self._code(this, where, other)
            if code in ONE_CALL and in_trace:
                span.twin = other.span_id.hex()
                self._decide_anew(state)
                return
            if code in ONE_CALL:
                counted.update(dict.fromkeys(calls, code != "same id"))
                yield code != "same id", apart(span, other), where
            elif near is None and code in NEAR_ONE_CALL:
                near = Reason(code, other.span_id.hex())
        if near is None and not complete:  # whatever the times of those read: calls may arrive late, and in any order
            is_near = last is not None and together(span, last)
            near = Reason("many", last.span_id.hex() if last is not None and is_near else "")
        found.near = near

    def _decide_anew(self, state: TraceState) -> None:
        state.decide_anew()
        self.compared.clear()
        for kept in (self.decided, self._calls, self._found):
            kept.clear()

    def _report_at(self, where: SpanAt) -> Span | None:
        """Return a span that reports a call, as far as is known without its trace; None for any other."""
        span = self._traces.span_at(where)
        if span is None or span.claim is None:
            return None
        if self._traces.is_read(where[0]) and span.span_id in (state := self._traces.state(where[0])).trace.spans:
            return span if state.call_of(span) is not None else None
        posting = span.posting
        if posting is None or (span.twin and not span.twin_trace):
            return None
        reports = posting.role == COUNTED or posting.role.startswith(DUPLICATE) or posting.repeated
        return span if reports else None

    def _counted_for(self, where: SpanAt, report: Span) -> tuple[SpanAt, ...]:
        """Return where the report is that counts for one in its own trace, and where that of another trace is."""
        trace_id, counted = where[0], report
        if self._traces.is_read(trace_id) and report.span_id in (state := self._traces.state(trace_id)).trace.spans:
            counted = state.call_of(report) or report
        elif report.posting is not None and not report.twin_trace and report.posting.role.startswith(DUPLICATE):
            return ((trace_id, bytes.fromhex(report.posting.role.removeprefix(DUPLICATE))),)
        own = trace_id, counted.span_id
        return (own, counted_at(counted)) if counted.twin_trace else (own,)

    def _code(self, this: CallReport, where: SpanAt, other: Span) -> str:
        posting = other.posting
        if posting is not None and not self._traces.is_read(where[0]):
            return self.compared.of_spans(this, CallReport(where, other, posting.named_session))
        its_state = self._traces.state(where[0])
        if other.span_id in its_state.trace.spans:
            session = its_state.own_session(other)
        else:
            session = posting.named_session if posting is not None else ""
        return self.compared.of_spans(this, CallReport(where, other, session))

    # Calls.

    def call(self, state: TraceState, span: Span) -> SharedCall | None:
        """Return the call that a span of a trace reports."""
        counted = state.call_of(span)
        if counted is None or counted.forgotten_twin:
            return None
        at = state.trace_id, counted.span_id
        known = self._calls.get(at)
        if known is None:
            spans = state.reports(counted)
            reports = [CallReport((state.trace_id, one.span_id), one, state.own_session(one)) for one in spans]
            run, agent = state.groups.run(counted).id, state.groups.agent(counted)
            known = self._calls[at] = SharedCall(reports, run, agent)
        return known

    def call_at(self, where: SpanAt) -> SharedCall | None:
        """Return the call that a span reports by all that its trace holds."""
        state = self._traces.state(where[0])
        span = state.trace.spans.get(where[1])
        if span is not None:
            return self.call(state, span)
        known = self._calls.get(where)
        if known is None:
            forgotten = self._traces.span_at(where)
            if forgotten is None or forgotten.posting is None or not forgotten.counted:
                return None
            posting = forgotten.posting
            report = CallReport(where, forgotten, posting.named_session)
            known = self._calls[where] = SharedCall([report], posting.run, posting.agent, is_fixed=True)
            known.kept_sources = frozenset(forgotten.reported_by)
        return known

    def first_call(self, found: CallsFound) -> SharedCall | None:
        """Return the call of any of the reports that were found."""
        first = found.any
        call = None if first is None else self.call_at(first)
        return call if call is not None or first is None else next(self.calls_of(found.all, MOST_CALLS), None)

    def reports_beside(self, call: SharedCall) -> Iterator[SpanAt]:
        """Yield reports of other traces that report the same as any report of a call."""
        if not call.is_fixed:
            state = self._traces.state(call.trace_id)
            for report in call.compared:
                yield from self.find(state, report.span).all

    def calls_of(self, reports: Iterable[SpanAt], most: int) -> Iterator[SharedCall]:
        """Yield the calls of these reports, no more than so many: the first ones."""
        found: set[SpanAt] = set()
        for where in reports:
            if len(found) > most:
                break
            call = self.call_at(where)
            if call is not None and call.at not in found:
                found.add(call.at)
                yield call

    def linked(self, call: SharedCall) -> list[SharedCall]:
        """Return the calls of other traces that are known to be one with a call."""
        span = call.span
        found: list[SharedCall] = []
        kept: list[SpanAt] = []
        for where in span.twins:
            other = self.call_at(where)
            if other is not None and other.at == where and counted_at(other.span) == call.at:
                found.append(other)
            elif other is None:
                kept.append(where)
        if not call.is_fixed:
            call.kept, call.kept_sources = kept, frozenset(span.reported_by if kept else ())
        if span.twin_trace:
            where = counted_at(call.span)
            other = self.call_at(where)
            if other is not None and other.at == where:
                found.append(other)
        return found

    def group_of(self, call: SharedCall) -> list[SharedCall]:
        """Return all calls that are known to be one with a call and with the one that counts for it, which is first."""
        counted = next((one for one in self.linked(call) if one.at == counted_at(call.span)), call)
        return [counted, *self.linked(counted)]

    def is_one_of(self, where: SpanAt, group: Sequence[SharedCall]) -> bool:
        """Return whether a report is known to be of a call of a group, whose counted call is first."""
        counted = group[0].at
        span = self._traces.span_at(where)
        if span is not None and span.twin_trace and counted_at(span) == counted:
            return True
        if any(where == call.at for call in group):
            return True
        call = self.call_at(where)
        return call is None or any(call is one for one in group) or counted_at(call.span) == counted
