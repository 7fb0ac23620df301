"""Account for one request: known spans get their stored decisions, new ones are matched, totalled and decided on.

Pure: what is known comes from `read`, what changes is returned. Running it again on the same state gives the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import accumulate
from operator import attrgetter, itemgetter

from msgspec import structs

from spanledger_processor.accounting.account_usual import account_usual
from spanledger_processor.accounting.budgets import Budgets
from spanledger_processor.accounting.column_batch import ColumnBatch
from spanledger_processor.accounting.count_once import calls_again
from spanledger_processor.accounting.cross_trace_index import CrossTraceIndex
from spanledger_processor.accounting.decide import (
    LATE_ROUND,
    NO_MARKS,
    ToolMarks,
    decide,
    in_doubt,
    money_of,
    span_of,
    with_fee,
)
from spanledger_processor.accounting.execution_counts import ToolRepeats
from spanledger_processor.accounting.facts import Batch, Fact, Ruling
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.links_and_times import Forest
from spanledger_processor.accounting.tool_parts import ToolParts
from spanledger_processor.accounting.tools import ToolCounts
from spanledger_processor.accounting.totals import Totals
from spanledger_processor.accounting.trace import COUNTED, REPEATS, Posting, Span, Trace, event_cost
from spanledger_processor.accounting.trace_set import TraceSet
from spanledger_processor.accounting.trace_state import Memory, TraceState
from spanledger_processor.accounting.twins import find_twins
from spanledger_processor.accounting.usual import UsualFact
from spanledger_processor.ledger.keys import EVERY_TENANT, corrections_key
from spanledger_processor.ledger.records import pack_decision, unpack_decision
from spanledger_processor.ledger.store import Changes, Reader, Unit
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import NO_SPEND, Decision, UsageVector
from spanledger_processor.units import Pico

_MEMORY = "accounting"
_FULL_RULES = 4
"""Usual calls for which a span counts that takes the full rules: 200 us of CPU and more, where these take 50."""


_alike = attrgetter(*sorted({field.name for field in fields(Batch)} - {"facts", "now_ns"}))
"""All that batches which are accounted for as one have in common."""


def weights_of(batch: Batch) -> Callable[[Fact], int]:
    """Return what tells for how many usual calls a span of a batch counts while it is accounted for: with budgets all
    take the full rules.
    """
    return (lambda _: _FULL_RULES) if batch.budgets else _weight_of


def weight_of(batch: Batch) -> int:
    """Return for how many usual calls the spans of a batch count together."""
    by_columns = batch.count - len(batch.facts)  # of a `ColumnBatch` usual calls, else none
    usual = 0 if batch.budgets else by_columns + [*map(type, batch.facts)].count(UsualFact)
    return _FULL_RULES * batch.count - (_FULL_RULES - 1) * usual


def _weight_of(fact: Fact) -> int:
    return 1 if type(fact) is UsualFact else _FULL_RULES


def account(batch: Batch, reader: Reader, memory: Memory | None = None) -> Ruling:
    """Decide on every GenAI span of `batch`, and return what to store.

    `memory` belongs to the reader's store and saves reading; what comes out does not depend on it.
    """
    return _Account(batch, reader, Memory.of(reader) if memory is None else memory).run()


def enter(batch: Batch, unit: Unit) -> Ruling:
    """Account for a batch in a unit of work, which takes the changes: the ruling that is returned has none."""
    memory = unit.cache.get(_MEMORY)
    if memory is None:
        memory = unit.cache[_MEMORY] = Memory.of(unit)
    if batch.budgets:  # what they say depends on more than a usual call's session and run
        ruling, rest = Ruling(), list(range(batch.count))
    else:
        ruling, rest = account_usual(batch, unit, memory.calls, account)
    if len(rest) == batch.count:
        ruling = account(batch.only(rest), unit, memory)
        unit.apply(ruling.changes, batch.now_ns)
    else:
        unit.apply(ruling.changes, batch.now_ns)
        if rest:  # as in a request of their own, which comes behind
            others = account(batch.only(rest), unit, memory)
            unit.apply(others.changes, batch.now_ns)
            ruling.add(others, rest)
    ruling.changes = Changes()
    return ruling


def are_alike(one: Batch, other: Batch) -> bool:
    """Return whether two batches can be accounted for as one: they differ in their spans and times alone."""
    return _alike(one) == _alike(other)


def enter_together(batches: Sequence[Batch], unit: Unit) -> list[Ruling]:
    """Account for batches that are alike as for one request with all of their spans; return the ruling on each.

    What is counted of all of them (replays, corrections and the like) stands in the first.
    """
    ruling = enter(_joined(batches), unit)
    ends = [*accumulate(batch.count for batch in batches)]
    rulings, fresh, decision_on = [Ruling() for _ in batches], sorted(ruling.fresh), ruling.decisions.get
    row = 0
    for of_batch, first, end in zip(rulings, [0, *ends], ends, strict=False):
        decided = enumerate(map(decision_on, range(first, end)))
        of_batch.decisions = {index: decision for index, decision in decided if decision is not None}
        of_batch.fresh = [index - first for index in fresh[bisect_left(fresh, first) : bisect_left(fresh, end)]]
        if ruling.alike is not None:
            begin, row = row, ruling.alike.end_below(end, row)
            of_batch.alike = ruling.alike.part(slice(begin, row), first)
    of_first = rulings[0]
    rulings[0] = replace(ruling, decisions=of_first.decisions, fresh=of_first.fresh, alike=of_first.alike)
    return rulings


def _joined(batches: Sequence[Batch]) -> Batch:
    """Return one batch with all spans of several that are alike."""
    by_columns = [batch for batch in batches if isinstance(batch, ColumnBatch)]
    if len(by_columns) == len(batches) and (joined := ColumnBatch.joined(by_columns)) is not None:
        return joined
    each = [batch.only(range(batch.count)) for batch in batches]
    facts = [fact for batch in each for fact in batch.facts]
    return replace(each[0], facts=facts, now_ns=max(batch.now_ns for batch in batches))


class _Account:
    def __init__(self, batch: Batch, reader: Reader, memory: Memory) -> None:
        self.batch = batch
        self.ruling = Ruling()
        changes = self.ruling.changes
        self._totals = Totals(batch, reader, changes)
        self._budgets = Budgets(batch.budgets, batch.tenant, reader, changes, self._totals, batch.now_ns)
        self._tools = ToolCounts(batch.tenant, reader.get, changes, batch.now_ns, batch.loop)
        self._index = CrossTraceIndex(batch.tenant, reader, changes, batch.now_ns, batch.digest(), memory.calls)
        self._traces = TraceSet(batch.tenant, reader, changes, batch.now_ns, memory.traces, self._index)
        self._twice: list[tuple[int, int]] = []
        self._posted: list[tuple[int, Span]] = []
        self._carried: dict[int, UsageVector] = {}
        self._tool_parts = ToolParts(batch.facts, self._traces, self._tools, self._totals)
        self._packed: dict[int, bytes] = {}
        """The decisions of new spans."""

    def run(self) -> Ruling:
        by_trace: dict[bytes, list[int]] = {}
        for index, fact in enumerate(self.batch.facts):
            by_trace.setdefault(fact.trace_id, []).append(index)
        new = [(trace_id, [*self._new_spans(trace_id, indexes)]) for trace_id, indexes in by_trace.items()]
        for trace_id, spans in sorted(filter(itemgetter(1), new), key=_first_index):  # known spans change no order
            self._traces.enter(trace_id, spans)
        find_twins(self._traces, self._index)
        entered = [*self._traces]  # more are loaded where calls pass from one span to another
        for state in entered:
            if state.incremental is None:
                self._tool_parts.move(state)
        for state in entered:
            self._tool_parts.count(state)
        for state in self._traces:
            self._post(state)
        self._correct(
            sum(state.excess.cost - state.excess_before.cost for state in self._traces) + self._tool_parts.fees
        )
        self._totals.enter()
        for state in self._traces:
            self._decide(state)
        self._tools.save()
        self._finish()
        self.ruling.cut_traces = self._traces.keep(self._packed)
        for index, first in self._twice:
            self.ruling.decisions[index] = self.ruling.decisions[first]
        return self.ruling

    def _new_spans(self, trace_id: bytes, indexes: Iterable[int]) -> Iterator[tuple[int, Span]]:
        """Yield the spans of a trace that are not known yet; the others are answered from their records."""
        seen: dict[bytes, int] = {}
        is_stored = self._traces.is_stored(trace_id)
        for index in indexes:
            fact = self.batch.facts[index]
            if fact.call is not None:
                first = seen.setdefault(fact.span_id, index)
                if first != index:
                    self._repeat(index, fact, first)
                    continue
                if is_stored and self._is_known(index, fact):
                    continue
            yield index, span_of(fact)

    def _repeat(self, index: int, fact: Fact, first: int) -> None:
        """Answer a span as the same one before it in the request."""
        self._replay(fact, self.batch.facts[first].digest)
        if first in self.ruling.decisions:
            self.ruling.decisions[index] = self.ruling.decisions[first]
        else:
            self._twice.append((index, first))

    def _is_known(self, index: int, fact: Fact) -> bool:
        """Answer a span from its trace's record; return whether it stands there."""
        record = self._traces.decision(fact.trace_id, fact.span_id)
        if not record:
            return False
        self.ruling.decisions[index], digest = unpack_decision(record)
        self._replay(fact, digest)
        return True

    def _replay(self, fact: Fact, digest: bytes) -> None:
        self.ruling.replays += 1
        if fact.digest != digest:
            self.ruling.conflicts += 1

    def _post(self, state: TraceState) -> None:
        """Post known spans whose postings or prices changed anew, and post the new ones."""
        for span, before in state.repriced:
            if span.posting is not None:
                claim, span.claim = span.claim, before
                self._totals.post(span, span.posting, -1, trace_id=state.trace_id)
                span.claim = claim
                self._totals.post(span, span.posting, trace_id=state.trace_id)
        for span in state.known if state.incremental is None else state.touched:
            if span.posting is not None:
                posting = state.posting(span)
                if span.posting != posting or self._tool_parts.is_changed(span):
                    self._repost(state, span, span.posting, posting)
        credit = state.credit()
        for index, span in state.new:
            credit = self._post_new(index, state, span, credit)
        state.excess = credit

    def _repost(self, state: TraceState, span: Span, before: Posting, posting: Posting) -> None:
        """Take a known span out of its totals, and post it anew."""
        now = self._tool_parts.begin_repost(span)
        self._totals.post(span, before, -1, trace_id=state.trace_id)
        now.give(span)
        self._totals.post(span, posting, trace_id=state.trace_id)
        span.posting = posting

    def _post_new(self, index: int, state: TraceState, span: Span, credit: UsageVector) -> UsageVector:
        """Post a new span; what earlier spans were sent with beyond the ledger is taken off what it is sent with."""
        span.posting = posting = state.posting(span)
        self._totals.post(span, posting, trace_id=state.trace_id)
        self._posted.append((index, span))
        if span.detail.fee and self._tool_parts.is_sent_before(span):
            self._tool_parts.fees -= span.fee
        if posting.role != COUNTED or span.claim is None:
            return credit
        spend = span.claim.spend
        self._carried[index] = added = spend if credit is NO_SPEND else spend.uncovered(credit)
        span.sent = added if span.sent is NO_SPEND else span.sent + added
        return credit - spend + added if credit else NO_SPEND

    def _correct(self, change: Pico) -> None:
        if change:
            self.ruling.corrections += int(change > 0)
            self.ruling.correction += change
            for tenant in (self.batch.tenant, EVERY_TENANT):
                sums = self.ruling.changes.add.setdefault(corrections_key(tenant), Sums())
                sums.cost += change
                sums.calls += int(change > 0)

    def _decide(self, state: TraceState) -> None:
        repeating = {span.span_id for _, span in state.new if span.posting and span.posting.role == REPEATS}
        below = _counted_below(state.trace) if repeating else {}
        for index, span in state.new:
            fact = self.batch.facts[index]
            call = fact.call
            if call is None or span.posting is None:
                continue
            if span.lent_price is not None:
                fact = replace(fact, cost=event_cost(state.trace, span, call))
            carried = self._carried.get(index, NO_SPEND)
            role, reason = state.sent_as(span, carried)
            money = money_of(fact, call, role, carried, below.get(span.span_id, 0), self.batch.aliases)
            if span.fee and not self._tool_parts.is_sent_before(span):
                money = with_fee(money, fact, call, self.batch.aliases)
            if reason is not None and state.is_later(span, reason.other):
                money = in_doubt(money, reason)
            caller = state.trace.spans.get(span.parent_id) if span.kind == "tool" else None
            if caller is not None and calls_again(caller) and caller.span_id not in state.starts:
                money = structs.replace(money, note=money.note or LATE_ROUND.format(caller.span_id.hex()))
            session, run = state.groups.session(span), state.groups.run(span)
            marks = self._tool_marks(fact, self._tool_parts.repeats.get(index), stuck=bool(span.posting.stuck))
            self.ruling.decisions[index] = decide(fact, call, session, run, money, marks, reason)

    def _tool_marks(self, fact: Fact, repeats: ToolRepeats | None, *, stuck: bool) -> ToolMarks:
        if repeats is None or fact.signature is None or fact.signature.scope == "name_only":
            return ToolMarks(is_loop=True) if stuck else NO_MARKS
        is_loop = self._is_loop(fact, repeats) or repeats.shift > 0
        return ToolMarks(repeats.times, repeats.in_a_row, is_loop)

    def _is_loop(self, fact: Fact, repeats: ToolRepeats) -> bool:
        if fact.signature is None or fact.signature.scope == "name_only":
            return False
        rule, tool = self.batch.loop, fact.call.tool if fact.call is not None else None
        return repeats.is_loop(rule.of(tool.name or "") if rule.tools and tool is not None else rule)

    def _finish(self) -> None:
        """Write the runs that sessions decide, and running totals: from the last span back, less what came after it."""
        sessions: dict[str, Pico] = {}
        runs: dict[str, Pico | None] = {}
        run_of: dict[str, Named] = {}
        for index, span in reversed(self._posted):
            decision = self.ruling.decisions[index]
            if not decision.run_id:
                session = decision.session_id
                run = run_of.get(session) or run_of.setdefault(session, self._totals.run_of(session))
                decision.run_id, decision.run_source = run
            self._running(decision, span, sessions, runs)
            if self.batch.budgets and not decision.duplicate_of:
                self._budgets.enter(span, decision)
            self.ruling.fresh.append(index)
            self._packed[index] = pack_decision(decision, self.batch.facts[index].digest)
        if self.batch.budgets:
            self._budgets.store_passed()

    def _running(self, decision: Decision, span: Span, sessions: dict[str, Pico], runs: dict[str, Pico | None]) -> None:
        fee, claim, posting = span.fee if span.detail.fee else 0, span.claim, span.posting
        if not fee and (claim is None or posting is None or posting.role != COUNTED or decision.duplicate_of):
            return
        amount = fee or (claim.amount if claim is not None else 0) or 0
        session, run = decision.session_id, decision.run_id
        if session:
            total = sessions[session] if session in sessions else self._totals.session_cost(session)
            decision.session_cost = total
            sessions[session] = total - amount
        if run:
            of_run = runs[run] if run in runs else self._totals.run_cost(run)
            decision.run_cost = of_run
            runs[run] = None if of_run is None else of_run - amount


def _first_index(new: tuple[bytes, list[tuple[int, Span]]]) -> int:
    """Return the index in the batch of the first of the new spans of a trace."""
    return new[1][0][0]


def _counted_below(trace: Trace) -> dict[bytes, Pico]:
    """Return the counted cost below each span, as far as links are known; spans above none are left out."""
    counted = {span.span_id: span.claim.amount or 0 for span in trace.spans.values() if span.counted and span.claim}
    counted.update((span.span_id, span.fee) for span in trace.spans.values() if span.fee)
    return Forest.above(trace.spans, counted).sums_below(counted)
