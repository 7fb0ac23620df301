"""One trace while a request is entered, what is stored of it, and what of that is kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from spanledger_processor.accounting.count_once import Match, match
from spanledger_processor.accounting.cross_trace_index import CallFilter
from spanledger_processor.accounting.grouping import Groups, Named
from spanledger_processor.accounting.incremental import Incremental
from spanledger_processor.accounting.one_call import ONE_CALL, Reason
from spanledger_processor.accounting.tool_calls import AskedTools, ToolResults
from spanledger_processor.accounting.trace import COUNTED, DUPLICATE, Claim, Posting, Span, Trace
from spanledger_processor.accounting.trace_record import Head
from spanledger_processor.ledger.store import Key, Reader
from spanledger_processor.model import NO_SPEND, UsageVector

_LONG = 64
"""Spans from which on a trace is kept in memory; a shorter one is read quickly."""
_MOST_SPANS = 16_384
"""In all: about 25 MB."""
_MOST_STEPS = 8
"""From a report to the one that counts in its trace."""


@dataclass(slots=True)
class StoredTrace:
    """A trace as it is stored, with what is derived from its spans.

    `record` is its head's (empty for a new trace), `open` the spans in its head, and `excess` is by how much what was
    sent exceeds the ledger. `unsettled` are the segments of spans that the rules do not look at any more and that
    have no row of their own yet: versions before 0.1 read all segments of a trace for them.
    """

    trace: Trace
    excess: UsageVector = NO_SPEND
    incremental: Incremental | None = None
    record: bytes = b""
    head: Head = field(default_factory=Head)
    open: list[Span] = field(default_factory=list)
    unsettled: dict[bytes, int] = field(default_factory=dict)


class TraceCache:
    """The long traces that were written last, so that what adds to one need not read all of it again.

    Whoever takes one owns it: it is changed, and put back when it is written. It is only used where the store holds the
    very head that it was written with: after a commit that failed, or with another store, the record is read.
    """

    def __init__(self, most_spans: int = _MOST_SPANS, long: int = _LONG) -> None:
        self._most_spans = most_spans
        self._long = long
        self._spans = 0
        self._traces: OrderedDict[Key, StoredTrace] = OrderedDict()

    def take(self, key: Key, record: bytes) -> StoredTrace | None:
        """Return the trace whose head was written as `record` under `key`."""
        known = self._traces.pop(key, None)
        if known is None:
            return None
        self._spans -= _size(known)
        return known if known.record == record else None

    def peek(self, key: Key, record: bytes) -> StoredTrace | None:
        """Return the same trace for reading; it stays here."""
        known = self._traces.get(key)
        return known if known is not None and known.record == record else None

    def wants(self, known: StoredTrace) -> bool:
        """Return whether a trace is one to keep."""
        return self._long <= _size(known) <= self._most_spans

    def put(self, key: Key, known: StoredTrace) -> None:
        """Keep a trace as it is written; others may go for it."""
        self.take(key, b"")
        self._traces[key] = known
        self._spans += _size(known)
        while self._spans > self._most_spans:
            _, oldest = self._traces.popitem(last=False)
            self._spans -= _size(oldest)


def _size(known: StoredTrace) -> int:
    return len(known.trace.spans)


@dataclass(slots=True)
class Memory:
    """What accounting keeps of a store in memory between requests; what comes out does not depend on it."""

    calls: CallFilter
    traces: TraceCache = field(default_factory=TraceCache)

    @classmethod
    def of(cls, reader: Reader) -> Memory:
        """Return what a reader's store knows."""
        return cls(CallFilter.of(reader))


@dataclass(slots=True)
class TraceState:
    """One trace while a request is entered. `new` has the indexes in the request of its new GenAI spans.

    `excess` is by how much what was sent exceeds the ledger: `excess_before` the request, and when its spans are
    posted. `added` are all new spans. While it is `incremental`, nothing that was known of the others changes.
    `across` has the reasons that lie in other traces, `repriced` log events that have a price by a span above them now,
    and what they claimed before. `recounted` are known spans whose parts in tool calls are others now.
    """

    trace_id: bytes
    stored: StoredTrace
    trace: Trace
    groups: Groups
    match: Match
    excess_before: UsageVector
    excess: UsageVector = NO_SPEND
    new: list[tuple[int, Span]] = field(default_factory=list)
    added: list[Span] = field(default_factory=list)
    incremental: Incremental | None = None
    across: dict[bytes, Reason] = field(default_factory=dict)
    repriced: Sequence[tuple[Span, Claim]] = ()
    recounted: list[Span] = field(default_factory=list)
    is_changed: bool = False
    """The request adds spans to it, or calls of other traces change what counts here."""
    _lending: dict[bytes, str] = field(default_factory=dict)
    """Sessions that other traces name for calls now, by span; entered by `refresh`."""
    _known: Sequence[Span] | None = None
    _starts: Mapping[bytes, int] | None = None
    _own_groups: Groups | None = None
    _reports: dict[bytes, list[Span]] | None = None
    _touched: list[Span] | None = None
    _results: ToolResults | None = None
    _asked: AskedTools | None = None

    @classmethod
    def decided(cls, trace_id: bytes, stored: StoredTrace, repriced: Sequence[tuple[Span, Claim]] = ()) -> TraceState:
        """Return a trace decided on by the whole rules."""
        trace = stored.trace
        return cls(trace_id, stored, trace, _groups_of(trace), match(trace), stored.excess, repriced=repriced)

    @classmethod
    def plain(cls, trace_id: bytes, stored: StoredTrace, known: Incremental) -> TraceState:
        """Return a trace of which the roles are known."""
        trace, roles = stored.trace, Match(known.roles)
        return cls(trace_id, stored, trace, known.groups(trace), roles, stored.excess, incremental=known)

    @property
    def known(self) -> Sequence[Span]:
        """Return the spans that are posted already, none of a new trace; to be asked for before the new ones are."""
        if self._known is None:
            spans = self.trace.spans.values() if self.stored.record else ()
            self._known = [span for span in spans if span.posting is not None]
        return self._known

    @property
    def starts(self) -> Mapping[bytes, int]:
        """Return the starts of the new GenAI spans, by id."""
        if self._starts is None:
            self._starts = {span.span_id: span.start_ns for _, span in self.new}
        return self._starts

    def is_later(self, span: Span, other: str) -> bool:
        """Return whether a span is the later one of two, of which the other (by its id in hex) may be known already."""
        start_ns = self.starts.get(bytes.fromhex(other), -1)
        return (start_ns, other) < (span.start_ns, span.span_id.hex())

    def posting(self, span: Span) -> Posting:
        """Return the posting of a span of this trace, by all that is known now."""
        groups, detail, is_known = self.groups, span.detail, span.posting is not None
        posting = Posting(
            self._role(span), groups.session(span).id, groups.run(span).id, groups.agent(span), detail.agent_parent
        )
        if self._groups_of_its_own() is not groups:
            own_session = self.own_session(span)
            posting.own_session = None if own_session == posting.session else own_session
        posting.repeated = self.match.repeated.get(span.span_id, b"")
        posting.counts_elsewhere = bool(span.twin_trace)
        if span.kind == "agent":
            posting.agent_parent, posting.turn = groups.agent_parent(span), groups.is_turn(span)
        if span.posting is not None and self.stored.head.forgotten:
            posting.fed = span.posting.fed  # what it was fed by may be forgotten
        elif span.kind == "llm":
            posting.fed = self.results.fed(span)
        if detail.asked or detail.stuck or is_known:
            posting.asked, posting.stuck = self.asked.only(span)
        if span.posting is not None and self.stored.head.forgotten:  # what executed it may be forgotten, too
            posting.asked = min(span.posting.asked, posting.asked, key=len)
            posting.stuck = min(span.posting.stuck, posting.stuck, key=len)
        return posting

    @property
    def touched(self) -> list[Span]:
        """Return the known spans whose postings may change although it is incremental."""
        if self._touched is None:
            self._touched = self.asked.changed()
            if self.recounted:
                changed = {span.span_id: span for span in (*self._touched, *self.recounted)}
                self._touched = [*changed.values()]
        return self._touched

    @property
    def asked(self) -> AskedTools:
        """Return the tool calls that have no span of their own."""
        if self._asked is None:
            known = self.incremental
            self._asked = AskedTools.of(self.trace.spans.values()) if known is None else known.asked
        return self._asked

    @property
    def results(self) -> ToolResults:
        """Return the calls and tools of this trace, by all that is known now."""
        if self._results is None:
            known = self.incremental
            self._results = (
                ToolResults.of(self.trace.spans, self.groups, self._roles()) if known is None else known.results
            )
        return self._results

    def _role(self, span: Span) -> str:
        return DUPLICATE + span.twin if span.twin_trace else self.match.roles.get(span.span_id, "")

    def _roles(self) -> dict[bytes, str]:
        twins = {span.span_id: self._role(span) for span in self.trace.spans.values() if span.twin_trace}
        return self.match.roles | twins if twins else self.match.roles

    def counted(self, role: str) -> str:
        """Return the span id in hex of the span that counts for a duplicate; it may be of another trace."""
        other = role.removeprefix(DUPLICATE)
        span = self.trace.spans.get(bytes.fromhex(other))
        return span.twin if span is not None and span.twin_trace else other

    def sent_as(self, span: Span, carried: UsageVector) -> tuple[str, Reason | None]:
        """Return the role that a new span is sent with, and why it counts beside another one or not, if there is a
        reason: one that adds nothing to what a report of another trace was sent with is a duplicate of that.
        """
        role = "" if span.posting is None else span.posting.role
        reason = self.across.get(span.span_id) or self.match.reasons.get(span.span_id)
        if role.startswith(DUPLICATE):
            role = DUPLICATE + self.counted(role)
        elif role == COUNTED and reason is not None and reason.code in ONE_CALL:
            return (role, None) if carried else (DUPLICATE + reason.other, reason)
        return role, reason

    # Which call a span reports, by what its own trace knows.

    def call_of(self, span: Span) -> Span | None:
        """Return the span that counts in this trace for the call that a span reports; None where it reports none."""
        role = self.match.roles.get(span.span_id)
        if role == COUNTED:
            return span
        return self._follow(span, self._next) if role or span.span_id in self.match.repeated else None

    def _next(self, span: Span) -> tuple[str, bytes]:
        return self.match.roles.get(span.span_id, ""), self.match.repeated.get(span.span_id, b"")

    def call_before(self, span: Span) -> Span | None:
        """Return the same as it was when the trace was stored."""
        return self._follow(span, self._next_before)

    def _next_before(self, span: Span) -> tuple[str, bytes]:
        posting = span.posting
        if posting is None:
            return "", b""
        return (COUNTED if self._counted_before(span) else posting.role), posting.repeated

    def _counted_before(self, span: Span) -> bool:
        """Return whether a span counted in this trace when that was stored, also where one of another trace did."""
        posting = span.posting
        return posting is not None and (posting.role == COUNTED or posting.counts_elsewhere)

    def _follow(self, span: Span, next_of: Callable[[Span], tuple[str, bytes]]) -> Span | None:
        """Go from a report to the one that counts in its place, which a further one may be above."""
        one: Span | None = span
        for _ in range(_MOST_STEPS):
            if one is None:
                break
            role, other = next_of(one)
            if role == COUNTED:
                return one
            other = bytes.fromhex(role.removeprefix(DUPLICATE)) if role.startswith(DUPLICATE) else other
            one = self.trace.spans.get(other) if other else None
        return None

    def reports(self, counted: Span) -> list[Span]:
        """Return all spans of this trace that report a call, the one that counts here first."""
        if self._reports is None:
            self._reports = {}
            further = {span_id for span_id, role in self.match.roles.items() if role.startswith(DUPLICATE)}
            for span_id in sorted(further.union(self.match.repeated)):
                call = self.call_of(self.trace.spans[span_id])
                if call is not None:
                    self._reports.setdefault(call.span_id, []).append(self.trace.spans[span_id])
        return [counted, *self._reports.get(counted.span_id, ())]

    def moved(self) -> list[Span]:
        """Return the known spans that report another call than when they were stored, or one of another session; and
        those of calls that other traces report, too, of another run or agent.
        """
        if self.incremental is not None:
            return []
        return [
            span
            for span in self.known
            if span.claim is not None
            and (self._reports_another(span) or self._is_of_another_session(span) or self._is_named_otherwise(span))
        ]

    def _reports_another(self, span: Span) -> bool:
        return self.call_before(span) is not self.call_of(span)

    def _is_of_another_session(self, span: Span) -> bool:
        posting = span.posting
        if posting is None or self.call_of(span) is None:
            return False
        return self.own_session(span) != posting.named_session

    def _is_named_otherwise(self, span: Span) -> bool:
        posting = span.posting
        if posting is None or not (span.twin_trace or span.twins):
            return False
        return (posting.run, posting.agent) != (self.groups.run(span).id, self.groups.agent(span))

    def is_new_report(self, span: Span) -> bool:
        """Return whether a span is to be found by spans of other traces now, and was not before."""
        call = self.call_of(span)
        if call is None:
            return False
        return self.call_before(span) is None or (call is span and not self._counted_before(span))

    # What calls of other traces change.

    def own_session(self, span: Span) -> str:
        """Return the session of a span as this trace alone names it."""
        own = structs.replace(span, session=Named()) if span.lent_session else span
        return self._groups_of_its_own().session(own).id

    def _groups_of_its_own(self) -> Groups:
        """Return the sessions and runs as this trace alone names them; `groups` where no other lends any."""
        if self.incremental is not None and not self.incremental.has_lent:
            return self.groups
        if self._own_groups is None:
            spans = self.trace.spans
            lent = {key: structs.replace(one, session=Named()) for key, one in spans.items() if one.lent_session}
            self._own_groups = _groups_of(replace(self.trace, spans=spans | lent)) if lent else self.groups
        return self._own_groups

    def lend_session(self, span: Span, session: str) -> None:
        """Count a call in the session that other traces name for it; in that of its own trace if that is empty."""
        self.is_changed = self.is_changed or session != span.lent_session
        self._lending[span.span_id] = session

    def revise(self) -> None:
        """Let all postings of the trace be looked at; to be called after a span of it counts otherwise."""
        self.is_changed, self.incremental, self._results, self._asked = True, None, None, None

    def decide_anew(self) -> None:
        """Decide by the whole rules once more: a span turned out to report a call that the trace forgot."""
        self.revise()
        self.match, self._reports = match(self.trace), None

    def refresh(self) -> None:
        """Enter the sessions of calls, once all calls of other traces are known."""
        lent = [(span, session) for span_id, session in self._lending.items() if (span := self.trace.spans[span_id])]
        changed = [(span, session) for span, session in lent if span.lent_session != session]
        for span, session in changed:
            span.session, span.lent_session = Named(session, "trace") if session else Named(), session
        if changed:
            self.revise()
            self.groups, self._own_groups = _groups_of(self.trace), None

    def credit(self) -> UsageVector:
        """Return by how much what was sent exceeds the ledger, as long as the new spans are not posted."""
        return excess(self.trace) if self.incremental is None else self.excess_before


def _groups_of(trace: Trace) -> Groups:
    """Return the sessions and runs of a trace."""
    sessions, runs, names_agents = trace.names()
    return Groups(trace.spans, sessions, runs, names_agents=names_agents)


def excess(trace: Trace) -> UsageVector:
    """Return by how much what was sent of a trace exceeds what its spans add to the ledger."""
    total = trace.surplus
    for span in trace.spans.values():
        sent, posting, claim = span.sent, span.posting, span.claim
        if sent is not NO_SPEND and sent:
            total = total + sent
        if posting is not None and posting.role == COUNTED and claim is not None:
            total = total - claim.spend
    return total
