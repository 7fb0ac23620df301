"""One trace while a request is entered, what is stored of it, and what of that is kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from spanledger_processor.accounting.count_once import Match, match
from spanledger_processor.accounting.cross_trace_index import CallFilter
from spanledger_processor.accounting.grouping import Groups, Named
from spanledger_processor.accounting.incremental import Incremental
from spanledger_processor.accounting.one_call import ONE_CALL, Reason
from spanledger_processor.accounting.tool_calls import AskedTools, ToolResults
from spanledger_processor.accounting.trace import COUNTED, REPEATS, Claim, Posting, Span, Trace
from spanledger_processor.accounting.trace_record import Head
from spanledger_processor.ledger.store import Key, Reader
from spanledger_processor.model import NO_SPEND, UsageVector

_LONG = 64
"""Spans from which on a trace is kept in memory; a shorter one is read quickly."""
_MOST_SPANS = 16_384
"""In all: about 25 MB."""


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
    is_stale: bool = False
    _touched: list[Span] | None = None
    _results: ToolResults | None = None
    _asked: AskedTools | None = None

    @classmethod
    def decided(cls, trace_id: bytes, stored: StoredTrace, repriced: Sequence[tuple[Span, Claim]] = ()) -> TraceState:
        """Return a trace decided on by the whole rules."""
        trace = stored.trace
        return cls(trace_id, stored, _groups_of(trace), match(trace), stored.excess, repriced=repriced)

    @property
    def trace(self) -> Trace:
        """Return the spans."""
        return self.stored.trace

    def posting(self, span: Span) -> Posting:
        """Return the posting of a span of this trace, by all that is known now."""
        groups, detail, is_known = self.groups, span.detail, span.posting is not None
        role = self.match.roles.get(span.span_id, "")
        posting = Posting(role, groups.session(span).id, groups.run(span).id, groups.agent(span), detail.agent_parent)
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
                ToolResults.of(self.trace.spans, self.groups, self.match.roles) if known is None else known.results
            )
        return self._results

    def reason(self, span: Span) -> Reason | None:
        """Return why a span counts beside another one or not, if there is one."""
        return self.across.get(span.span_id) or self.match.reasons.get(span.span_id)

    def is_counted(self, span: Span) -> bool:
        """Return whether a span of this trace counts, by all that is known now."""
        return not span.twin and self.match.roles.get(span.span_id) == COUNTED

    def gives_way(self, span: Span) -> bool:
        """Return whether another report of a call has a twin in another trace: this span may be richer than both."""
        reason = self.match.reasons.get(span.span_id)
        if reason is None or span.twin or reason.code not in ONE_CALL:
            return False
        return bytes.fromhex(reason.other) not in self.trace.spans

    def given_up(self) -> list[Span]:
        """Return the spans beside which reports of other traces gave way, and which count no more: others below them
        do, or tell usage of their own.
        """
        spans, roles = self.trace.spans.values() if self.incremental is None else (), self.match.roles
        return [one for one in spans if one.twins and not one.twin and roles.get(one.span_id, "") in {"", REPEATS}]

    def refresh(self) -> None:
        """Decide anew, once all twins are found."""
        if self.is_stale:
            self.match, self.groups, self.is_stale = match(self.trace), _groups_of(self.trace), False

    def revise(self) -> None:
        """Let the trace be decided on anew; to be called after a twin was found."""
        self.incremental, self.is_stale, self._results, self._asked = None, True, None, None

    def share_session(self, span: Span, named: Named) -> None:
        """Count a call of this trace in its twin's session, where its own trace names none."""
        if named.id and not self.groups.session(span).id:
            span.session, span.lent_session = Named(named.id, "trace"), named.id
            self.revise()

    def take_back_session(self, span: Span) -> None:
        """Count a call no more in the session of one that it is not told by any more."""
        if span.lent_session:
            span.session, span.lent_session = Named(), ""
            self.revise()

    def credit(self) -> UsageVector:
        """Return by how much what was sent exceeds the ledger, as long as the new spans are not posted."""
        return excess(self.trace) if self.incremental is None else self.excess_before


def _groups_of(trace: Trace) -> Groups:
    """Return the sessions and runs of a trace."""
    return Groups(trace.spans, *trace.named(), names_agents=trace.names_agents())


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
