"""Count the tool calls of a request, and change the parts that known spans have in calls, in whichever trace they are.

A report that comes, or moves to another session, may take a call from another one, leave it to that, or say alone that
it failed (`tool_reports`). What a known span takes out of the ledger's totals then is kept until it is posted anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from spanledger_processor.accounting.execution_counts import Counted, ToolRepeats
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.accounting.tool_reports import (
    ExecutedElsewhere,
    FailedCall,
    MisplacedReport,
    PassedCall,
)
from spanledger_processor.accounting.tools import ToolCounts
from spanledger_processor.accounting.totals import Totals
from spanledger_processor.accounting.trace import Posting, Span
from spanledger_processor.accounting.trace_set import TraceSet
from spanledger_processor.accounting.trace_state import TraceState
from spanledger_processor.ledger.tool_repeats import place_of
from spanledger_processor.units import Pico


class ToolParts:
    """The parts of a request's spans in tool calls, and those of known spans that it changes.

    `repeats` has how often the calls of new spans were made, by their index in the request, `fees` the own costs of
    tools that known spans were sent with and that the ledger has no more.
    """

    def __init__(self, facts: Sequence[Fact], traces: TraceSet, tools: ToolCounts, totals: Totals) -> None:
        self.repeats: dict[int, ToolRepeats] = {}
        self.fees: Pico = 0
        self._facts = facts
        self._traces = traces
        self._tools = tools
        self._totals = totals
        self._out: dict[int, Counted] = {}
        """What known spans take out of the sums whose parts in tool calls are others now, by `id` of the span."""
        self._sent_before: set[int] = set()
        """New spans that have a call now which a known one was sent with, by `id` of the span."""

    def is_changed(self, span: Span) -> bool:
        """Return whether a known span has another part in a tool call than it was posted with."""
        return bool(self._out) and id(span) in self._out

    def is_sent_before(self, span: Span) -> bool:
        """Return whether a known span was sent with the call that a new one has now."""
        return id(span) in self._sent_before

    def begin_repost(self, span: Span) -> Counted:
        """Let a known span be as it was posted; return what it is now, for after it was taken out of its totals."""
        now, fee = Counted.of(span), span.fee
        self._out.pop(id(span), now).give(span)
        self.fees += span.fee - fee
        return now

    def count(self, state: TraceState) -> None:
        """Count the tool calls of a trace's new spans, and note what they ask for."""
        tells = [item for item in state.new if item[1].signature or item[1].detail.asked or item[1].detail.stuck]
        for index, span in sorted(tells, key=lambda item: (item[1].start_ns, item[1].span_id)):
            session = _session_of(state, span)
            if not span.signature:
                self._tools.ask(session, span, state.trace_id, self._facts[index])
                continue
            self.repeats[index] = self._tools.count(session, span, state.trace_id, self._facts[index])
            if self._tools.reports.changes:
                self._enter_changes()

    def move(self, state: TraceState) -> None:
        """Move known tool calls, and what asks for some, to the counts of the session that they are of now."""
        still_asked: dict[bytes, set[str]] | None = None
        for span in state.known:
            posting = span.posting
            if posting is None or not (span.signature or span.detail.asked or span.detail.asked_again):
                continue
            session = state.groups.session(span).id
            if posting.session != session:
                if still_asked is None:
                    still_asked = _asked_by_session(state)
                before = place_of(posting.session, state.trace_id)
                asked = still_asked.get(before, ())
                was = Counted.of(span)
                out = self._tools.move(before, place_of(session, state.trace_id), span, state.trace_id, asked)
                self._take_out(state, span, posting, was, out)
                self._enter_changes()

    def _take_out(self, state: TraceState, span: Span, posting: Posting, was: Counted, out: Counted) -> None:
        """Note that a span, which `was` one part of a tool call, takes `out` another one, and is a new one now."""
        state.recounted.append(span)
        state.asked.look_again()
        if span.posting is not None and id(span) not in self._out:
            self._out[id(span)] = out
        elif out != was:  # what is taken out of its totals in the end, or enters them, leads to what it was
            now = Counted.of(span)
            for counted, sign in ((was, 1), (out, -1)):
                counted.give(span)
                self.fees -= sign * span.fee
                self._totals.post(span, posting, sign, trace_id=state.trace_id)
            now.give(span)

    def _enter_changes(self) -> None:
        """Change the parts of other spans, also of other traces, in a tool call that was just counted or moved."""
        misplaced: dict[MisplacedReport, bool] = {}
        """Whether each was put in its place: its part has to be the present one then."""
        while True:
            for change in self._tools.reports.take_changes():
                if isinstance(change, PassedCall):
                    self._pass(change)
                elif isinstance(change, FailedCall):
                    self._tell_failure(change)
                elif isinstance(change, MisplacedReport):
                    misplaced.setdefault(change, False)
                else:
                    self._change_elsewhere(change)
            waiting = next((change for change, is_done in misplaced.items() if not is_done), None)
            if waiting is None:
                return
            misplaced[waiting] = True
            self._place_anew(waiting)

    def _place_anew(self, change: MisplacedReport) -> None:
        """Let a report of a tool call be one of another execution; one that is forgotten stays where it is."""
        trace_id, span_id = change.report.trace_id, change.report.span_id
        state = self._traces.other(trace_id)
        span = None if state is None else state.trace.spans.get(span_id)
        if state is None or span is None:
            return
        was = Counted.of(span)
        out = self._tools.place_anew(change.session, span, trace_id)
        if out is not None:
            is_there = span.posting is not None and place_of(span.posting.session, trace_id) == change.session
            posting = span.posting if span.posting is not None and is_there else state.posting(span)
            self._take_out(state, span, posting, was, out)

    def _pass(self, change: PassedCall) -> None:
        state = self._traces.other(change.report.trace_id)
        span = None if state is None else state.trace.spans.get(change.report.span_id)
        if state is None or span is None:  # it is forgotten, and keeps what it has
            by = self._out.get(id(change.by))
            if change.again:
                change.by.again = True
            elif by is not None:
                keeps = by._replace(again=True)
                self._out[id(change.by)] = (
                    keeps._replace(failed_before=True, failed_elsewhere=False) if change.failed else keeps
                )
            return
        if span.again == change.again:
            return
        if span.posting is not None:
            self._out.setdefault(id(span), Counted.of(span))
            state.recounted.append(span)
            if change.again and span.fee and change.by.posting is None:
                self._sent_before.add(id(change.by))
        if change.again and span.fails:
            change.by.failed_before, change.by.failed_elsewhere = False, not change.by.detail.failed
            span.failed_before, span.failed_elsewhere = span.detail.failed, False
        elif change.failed:
            span.failed_before, span.failed_elsewhere = False, not span.detail.failed
        span.again = change.again
        state.asked.look_again()

    def _tell_failure(self, change: FailedCall) -> None:
        """Count the report that has a call for a failure that another one tells, or no more."""
        state = self._traces.other(change.report.trace_id)
        span = None if state is None else state.trace.spans.get(change.report.span_id)
        if state is None or span is None or span.failed_elsewhere == change.failed:
            return
        if span.posting is not None:
            self._out.setdefault(id(span), Counted.of(span))
            state.recounted.append(span)
        span.failed_elsewhere = change.failed
        if change.failed:
            change.by.failed_before = True
        state.asked.look_again()

    def _change_elsewhere(self, change: ExecutedElsewhere) -> None:
        state = self._traces.other(change.trace_id)
        if state is None:
            return
        for span in state.asked.asking(change.call_id):
            if _session_of(state, span) == change.session:
                ids = {change.call_id}
                span.elsewhere = span.elsewhere | ids if change.is_elsewhere else span.elsewhere - ids
                state.recounted.append(span)
        state.asked.look_again()


def _session_of(state: TraceState, span: Span) -> bytes:
    """Return what stands for a span's session in the counts of tool calls: of a span without one, its trace."""
    return place_of(state.groups.session(span).id, state.trace_id)


def _asked_by_session(state: TraceState) -> dict[bytes, set[str]]:
    """Return the ids of the calls that a trace asks for, by session."""
    asked: dict[bytes, set[str]] = {}
    for span in state.trace.spans.values():
        if span.detail.asked or span.detail.stuck:
            ids = asked.setdefault(_session_of(state, span), set())
            ids.update(span.detail.asked[::2], span.detail.stuck[::2])
    return asked
