"""Let one of each call count that spans of several traces report, as far as a request changes that.

`shared_calls` says which calls are one, `call_search` finds those that may be. What a search finds is searched for
again, so that all calls come together of which each may be one with some other. They are looked for where a span is
new, and where one reports another call of its trace than before, or none.
"""

from __future__ import annotations

from collections.abc import Sequence

from spanledger_processor.accounting.call_search import CallSearch, CallsFound
from spanledger_processor.accounting.cross_trace_index import MOST_COMPARED, CrossTraceIndex
from spanledger_processor.accounting.one_call import ONE_CALL, Reason
from spanledger_processor.accounting.shared_calls import (
    MOST_CALLS,
    SharedCall,
    SpanAt,
    count_one,
    counted_at,
    counted_before,
    groups_of,
    may_join,
    unlink,
    why_one,
)
from spanledger_processor.accounting.trace import Span
from spanledger_processor.accounting.trace_record import SEGMENT_SPANS
from spanledger_processor.accounting.trace_set import TraceSet
from spanledger_processor.accounting.trace_state import TraceState

_MOST_COMPARED_TOGETHER = 1 << 13
"""Comparisons of spans for one request, beside those that each span of it is looked for with: some 0.1 s. Calls that
would take more are not looked at together.
"""


def find_twins(traces: TraceSet, index: CrossTraceIndex) -> None:
    """Let one report count of each call that spans of several traces report, as far as a request changes that."""
    _Twins(traces, index).find()


class _Twins:
    def __init__(self, traces: TraceSet, index: CrossTraceIndex) -> None:
        self._traces = traces
        self._index = index
        self._search = CallSearch(traces, index)
        self._compared = self._search.compared
        self._most_compared = _MOST_COMPARED_TOGETHER

    def find(self) -> None:
        states = [*self._traces]
        self._index.hash_once([span for state in states for _, span in state.new])
        for state in states:
            moved = self._moved(state)
            if not moved and self._remember_unknown(state):
                continue
            spans = [*moved, *(span for _, span in state.new)]
            for span in spans:
                self._look(state, span)
            new = [span for span in spans if not span.forgotten_twin and state.is_new_report(span)]
            self._search.remember(state.trace_id, new)
        for state in self._traces:
            state.refresh()

    @staticmethod
    def _moved(state: TraceState) -> list[Span]:
        """Return the known spans of which it has to be found out anew which calls they report."""
        moved = state.moved()
        known = {span.span_id for span in moved}
        return [*moved, *(span for span, _ in state.repriced if span.posting is not None and span.span_id not in known)]

    def _remember_unknown(self, state: TraceState) -> bool:
        """Remember the calls that new spans of a trace report, if no other reports any of them: all at once."""
        if len(state.new) > SEGMENT_SPANS:
            return False
        reports: list[Span] = []
        for _, span in state.new:
            call = state.call_of(span)
            if call is not None:
                if call.posting is not None and (call.twin or call.twins):
                    return False
                reports.append(span)
        return self._index.remember_unknown_spans(state.trace_id, reports)

    def _look(self, state: TraceState, span: Span) -> None:
        """Decide anew which call a span reports, and on all calls that this may change something of."""
        self._most_compared += MOST_COMPARED
        call = self._search.call(state, span)
        is_counted = call is not None and call.span is span
        released = [] if is_counted else self._released(state, span)
        calls = [one for one in (*released, call, self._call_before(state, span)) if one is not None]
        is_decided = calls == [call] and call is not None and not is_counted and call.at in self._search.decided
        if is_decided and not state.stored.head.forgotten:
            return
        found = self._search.find(state, span)
        if state.stored.head.forgotten:
            found.compare()  # also with what its own trace has forgotten
        if span.forgotten_twin or is_decided:
            return
        first = self._search.first_call(found)
        if is_counted and span.posting is None and first is None and found.near is not None:
            state.across.setdefault(span.span_id, found.near)
        if first is not None or (calls and (span.posting is not None or any(one.is_linked for one in calls))):
            self._decide(calls, found)
            self._search.decided.update(one.at for one in calls)

    def _call_before(self, state: TraceState, span: Span) -> SharedCall | None:
        """Return the call that a span reported and reports no more, if that is still one: less is known of it now."""
        before = state.call_before(span)
        is_other = before is not None and before is not span and before is not state.call_of(span)
        return self._search.call(state, before) if before is not None and is_other else None

    def _released(self, state: TraceState, span: Span) -> list[SharedCall]:
        """Let go of the calls that were one with that of a span which counts no more; return them."""
        calls: list[SharedCall] = []
        former = unlink(span)
        if former:
            state.revise()
            state.lend_session(span, "")
        for where in former:
            other = self._search.call_at(where)
            if other is None or other.is_fixed:
                continue
            if counted_at(other.span) == (state.trace_id, span.span_id):
                other.span.twin, other.span.twin_trace = "", b""
            other.span.twins = [at for at in other.span.twins if at != (state.trace_id, span.span_id)]
            self._traces.state(where[0]).revise()
            calls.append(other)
        return calls

    def _decide(self, calls: Sequence[SharedCall], found: CallsFound) -> None:
        """Decide which calls are one, of these and others that were found, and all that these may be one with."""
        if len(calls) == 1 and not calls[0].is_linked and self._joins_all(calls[0], found):
            return
        known = {call.at: call for call in (*calls, *self._search.calls_of(found.all, MOST_CALLS))}
        together = self._all_beside(known)
        if together is not None:
            for group in groups_of(together, self._compared):
                self._count(group)
            return
        for call in calls:  # too many to look at together: one after the other
            if not call.is_linked:
                self._join(call)

    def _joins_all(self, call: SharedCall, found: CallsFound) -> bool:
        """Let a call that was one with no other be one with all that it may be one with, if these are one call already
        and none of them speaks against it; return whether that is so. To look at what they may be one with, besides,
        comes to the same: what kept that apart from them does so still.
        """
        first = self._search.first_call(found)
        group = [] if first is None else self._search.group_of(first)
        if len(group) <= MOST_CALLS:
            reports = [*self._search.reports_beside(call)]
            first = first or next(self._search.calls_of(reports, MOST_CALLS), None)
            group = group or ([] if first is None else self._search.group_of(first))
            if group and not all(self._search.is_one_of(where, group) for where in reports):
                return False
        if group and not may_join(call, group, self._compared):
            return False
        self._count([*group, call])
        return True

    def _all_beside(self, known: dict[SpanAt, SharedCall]) -> list[SharedCall] | None:
        """Return calls with all that these may be one with, and so on; None if that are more than are looked at."""
        waiting, linked = [*known.values()], 0
        for call in waiting:
            for one in waiting[linked:]:
                linked += 1
                _add(self._search.linked(one), known, waiting)
            if len(waiting) > MOST_CALLS or self._compared.made > self._most_compared:
                return None
            reports = [*self._search.reports_beside(call)]
            _add([*self._search.calls_of(reports, MOST_CALLS)], known, waiting)
        return waiting if len(waiting) <= MOST_CALLS else None

    def _join(self, call: SharedCall) -> None:
        """Let a call be one with the first known call that it may be one with."""
        tried: set[SpanAt] = set()
        for other in self._search.calls_of([*self._search.reports_beside(call)], MOST_CALLS):
            group = self._search.group_of(other)
            if group[0].at in tried or call.at in {one.at for one in group}:
                continue
            tried.add(group[0].at)
            if may_join(call, group, self._compared):
                self._count([*group, call])
                return
        self._count([call])

    def _count(self, group: Sequence[SharedCall]) -> None:
        """Let one call of a group count, in the session that its own trace names for it, else another."""
        for call in count_one(group):
            state = self._traces.state(call.trace_id)
            state.revise()
        ordered = sorted(group, key=lambda call: call.at)
        for call in group:
            if call.is_fixed:
                continue
            state, counted = self._traces.state(call.trace_id), not call.span.twin
            named = "" if call.session or not counted else next((one.session for one in ordered if one.session), "")
            state.lend_session(call.span, named)
            self._explain(state, call, group)

    def _explain(self, state: TraceState, call: SharedCall, group: Sequence[SharedCall]) -> None:
        """Note why a call counts in another trace, or did before, for a span that is decided on now."""
        if call.span.posting is not None:
            return
        if call.span.twin:
            other = next((one for one in group if not one.span.twin or one.is_fixed), None)
        else:
            other = counted_before(group, call)
        known = state.across.get(call.span.span_id)
        if other is not None:
            code = why_one(call, other, group, self._compared)
            state.across[call.span.span_id] = Reason(code, other.span.span_id.hex())
        elif known is not None and known.code in ONE_CALL:
            del state.across[call.span.span_id]


def _add(calls: Sequence[SharedCall], known: dict[SpanAt, SharedCall], waiting: list[SharedCall]) -> None:
    """Put calls that are not known yet to those that wait."""
    for call in calls:
        if call.at not in known:
            known[call.at] = call
            waiting.append(call)
