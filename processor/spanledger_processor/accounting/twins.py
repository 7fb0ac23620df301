"""Look for the calls of other traces that are one with those of a request, and let one of each count.

`shared_calls` says which calls are one. Here they are found: a span that reports a call is looked for in the index of
calls, and what is found there is looked for again, so that all calls come together of which each may be one with some
other. They are looked for where a span is new, and where one reports another call of its trace than before, or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spanledger_processor.accounting.cross_trace_index import CrossTraceIndex, Hashes
from spanledger_processor.accounting.one_call import NEAR_ONE_CALL, ONE_CALL, Reason, one_call, together
from spanledger_processor.accounting.shared_calls import (
    MOST_CALLS,
    SharedCall,
    SpanAt,
    apart,
    code_across,
    count_one,
    groups_of,
    may_join,
    unlink,
    why_one,
)
from spanledger_processor.accounting.trace import COUNTED, DUPLICATE, Span
from spanledger_processor.accounting.trace_record import SEGMENT_SPANS
from spanledger_processor.accounting.trace_set import TraceSet
from spanledger_processor.accounting.trace_state import TraceState


def find_twins(traces: TraceSet, index: CrossTraceIndex) -> None:
    """Let one report count of each call that spans of several traces report, as far as a request changes that."""
    _Twins(traces, index).find()


class _Twins:
    def __init__(self, traces: TraceSet, index: CrossTraceIndex) -> None:
        self._traces = traces
        self._index = index
        self._fixed: dict[SpanAt, SharedCall] = {}
        self._decided: set[SpanAt] = set()
        """Calls of which it was decided what they are one with, for all of their reports."""

    def find(self) -> None:
        for state in list(self._traces):
            moved = self._moved(state)
            if not moved and self._remember_unknown(state):
                continue
            for span in moved:
                self._look(state, span)
            for _, span in state.new:
                self._look(state, span)
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
        hashes, is_new = self._index.hashes(span), state.is_new_report(span)
        call = self._call(state, span)
        released = self._released(state, span) if call is None or call.span is not span else []
        found: dict[SpanAt, SharedCall] = {}
        near: Reason | None = None
        if hashes.ids or hashes.usages:
            found, near = self._matching(state, span, hashes)
            if span.forgotten_twin:
                return
        if call is not None and call.span is span and span.posting is None and near is not None and not found:
            state.across.setdefault(span.span_id, near)
        before = self._call_before(state, span)
        calls = [one for one in (*released, call, before) if one is not None]
        if calls == [call] and call is not None and call.span is not span and call.at in self._decided:
            pass  # a further report of it
        elif found or (calls and (span.posting is not None or any(one.is_linked for one in calls))):
            self._decide(calls, found)
            self._decided.update(one.at for one in calls)
        if is_new:
            self._index.remember(hashes, state.trace_id, span)

    def _call_before(self, state: TraceState, span: Span) -> SharedCall | None:
        """Return the call that a span reported and reports no more, if that is still one: less is known of it now."""
        before = state.call_before(span)
        is_other = before is not None and before is not span and before is not state.call_of(span)
        return self._call(state, before) if before is not None and is_other else None

    def _released(self, state: TraceState, span: Span) -> list[SharedCall]:
        """Let go of the calls that were one with that of a span which counts no more; return them."""
        calls: list[SharedCall] = []
        former = unlink(span)
        if former:
            state.revise()
            state.lend_session(span, "")
        for where in former:
            other = self._call_at(where)
            if other is None or other.is_fixed:
                continue
            if other.span.twin == span.span_id.hex():
                other.span.twin, other.span.twin_trace = "", b""
            other.span.twins = [at for at in other.span.twins if at != (state.trace_id, span.span_id)]
            self._traces.state(where[0]).revise()
            calls.append(other)
        return calls

    def _matching(
        self, state: TraceState, span: Span, hashes: Hashes
    ) -> tuple[dict[SpanAt, SharedCall], Reason | None]:
        """Return the calls of other traces of which some span reports the same as this one.

        Beside them, the reason for which a span that is close to it reports another call, or may.
        """
        entries, complete = self._index.candidates(hashes, span)
        reports: list[tuple[bool, int, SpanAt]] = []
        compared: Span | None = None
        near: Reason | None = None
        for where in entries:
            in_trace = where[0] == state.trace_id
            if in_trace and (span.posting is not None or where[1] in state.trace.spans):
                continue
            other = self._report_at(where)
            if other is None:
                continue
            compared = other
            code = one_call(span, other, one_trace=True) if in_trace else self._code(state, span, where, other)
            if code in ONE_CALL and in_trace:
                span.twin = other.span_id.hex()
                state.decide_anew()
                self._decided.clear()
                return {}, None
            if code in ONE_CALL:
                reports.append((code != "same id", apart(span, other), where))
            elif near is None and code in NEAR_ONE_CALL:
                near = Reason(code, other.span_id.hex())
        if near is None and not complete:  # whatever the times of those read: calls may arrive late, and in any order
            is_near = compared is not None and together(span, compared)
            near = Reason("many", compared.span_id.hex() if compared is not None and is_near else "")
        return self._calls_of(sorted(reports)), near

    def _calls_of(self, reports: Sequence[tuple[bool, int, SpanAt]]) -> dict[SpanAt, SharedCall]:
        """Return the calls of these reports, of no more than are looked at: the first ones."""
        found: dict[SpanAt, SharedCall] = {}
        for _, _, where in reports:
            if len(found) > MOST_CALLS:
                break
            call = self._call_at(where)
            if call is not None:
                found[call.at] = call
        return found

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

    def _code(self, state: TraceState, span: Span, where: SpanAt, other: Span) -> str:
        session, posting = state.own_session(span), other.posting
        if posting is not None and not self._traces.is_read(where[0]):
            code = code_across(span, session, other, posting.session)
            if code != "session" or posting.session == other.own_session:
                return code  # else its trace may have that session by a report in another one only
        its_state = self._traces.state(where[0])
        if other.span_id in its_state.trace.spans:
            return code_across(span, session, other, its_state.own_session(other))
        return code_across(span, session, other, posting.session if posting is not None else "")

    def _call_at(self, where: SpanAt) -> SharedCall | None:
        """Return the call that a span reports by all that its trace holds."""
        state = self._traces.state(where[0])
        span = state.trace.spans.get(where[1])
        if span is not None:
            return self._call(state, span)
        known = self._fixed.get(where)
        if known is None:
            forgotten = self._traces.span_at(where)
            if forgotten is None or forgotten.posting is None or not forgotten.counted:
                return None
            sessions = {forgotten.span_id: forgotten.posting.session}
            posting = forgotten.posting
            known = SharedCall(where[0], forgotten, [forgotten], sessions, posting.run, posting.agent, is_fixed=True)
            self._fixed[where] = known
            known.kept_sources = frozenset(forgotten.reported_by)
        return known

    def _call(self, state: TraceState, span: Span) -> SharedCall | None:
        """Return the call that a span of a trace reports."""
        counted = state.call_of(span)
        if counted is None or counted.forgotten_twin:
            return None
        reports = state.reports(counted)
        sessions = {report.span_id: state.own_session(report) for report in reports}
        run, agent = state.groups.run(counted).id, state.groups.agent(counted)
        return SharedCall(state.trace_id, counted, reports, sessions, run, agent)

    def _decide(self, calls: Sequence[SharedCall], found: dict[SpanAt, SharedCall]) -> None:
        """Decide which calls are one, of these and others that were found, and all that these may be one with."""
        together = self._all_beside({call.at: call for call in calls} | found)
        if together is not None:
            for group in groups_of(together):
                self._count(group)
            return
        for call in calls:  # too many to look at together: one after the other
            if not call.is_linked:
                self._join(call)

    def _all_beside(self, known: dict[SpanAt, SharedCall]) -> list[SharedCall] | None:
        """Return calls with all that these may be one with, and so on; None if that are more than are looked at."""
        waiting = [*known.values()]
        for call in waiting:
            if len(waiting) > MOST_CALLS:
                return None
            for other in self._beside(call):
                if other.at not in known:
                    known[other.at] = other
                    waiting.append(other)
        return waiting if len(waiting) <= MOST_CALLS else None

    def _beside(self, call: SharedCall) -> Iterator[SharedCall]:
        """Yield the calls of other traces that a call is one with, and those that it may be one with."""
        yield from self._linked(call)
        if call.is_fixed:
            return
        state = self._traces.state(call.trace_id)
        for report in call.compared:
            hashes = self._index.hashes(report)
            if hashes.ids or hashes.usages:
                yield from self._matching(state, report, hashes)[0].values()

    def _linked(self, call: SharedCall) -> Iterator[SharedCall]:
        span = call.span
        kept: list[SpanAt] = []
        for where in span.twins:
            other = self._call_at(where)
            if other is not None and other.at == where and other.span.twin == span.span_id.hex():
                yield other
            elif other is None:
                kept.append(where)
        if kept:
            call.kept, call.kept_sources = kept, frozenset(span.reported_by)
        if span.twin_trace:
            where = span.twin_trace, bytes.fromhex(span.twin)
            other = self._call_at(where)
            if other is not None and other.at == where:
                yield other

    def _join(self, call: SharedCall) -> None:
        """Let a call be one with the first known call that it may be one with."""
        for other in self._beside(call):
            counted = next((one for one in self._linked(other) if one.at == _twin_of(other)), other)
            group = [counted, *self._linked(counted)]
            if call.at not in {one.at for one in group} and may_join(call, group):
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

    @staticmethod
    def _explain(state: TraceState, call: SharedCall, group: Sequence[SharedCall]) -> None:
        """Note why a call counts in another trace."""
        if not call.span.twin:
            known = state.across.get(call.span.span_id)
            if known is not None and known.code in ONE_CALL:
                del state.across[call.span.span_id]
            return
        counted = next(one for one in group if not one.span.twin or one.is_fixed)
        state.across[call.span.span_id] = Reason(why_one(call, counted, group), call.span.twin)


def _twin_of(call: SharedCall) -> SpanAt:
    return call.span.twin_trace, bytes.fromhex(call.span.twin)
