"""One request's way through the ledger: known spans get what they got before, new ones find their place.

Pure: what is known comes from `read`, what changes is returned. Running it again on the same state gives the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgpack

from spanledger_processor.accounting.arrival import span_of
from spanledger_processor.accounting.decide import describe, enter_money
from spanledger_processor.accounting.facts import Batch, Fact, Ruling
from spanledger_processor.accounting.roles import COUNTED, REPEATS, roles, same_response
from spanledger_processor.accounting.subtree import subtrees
from spanledger_processor.accounting.tools import ToolCounts
from spanledger_processor.accounting.totals import CORRECTIONS, Totals
from spanledger_processor.accounting.trace import Place, Span, Trace
from spanledger_processor.calls import Pico
from spanledger_processor.decisions import Decision
from spanledger_processor.grouping.resolve import Groups
from spanledger_processor.state.records import pack_decision, unpack_decision
from spanledger_processor.state.store import Key, Table, key
from spanledger_processor.state.sums import Sums

Read: TypeAlias = Callable[[Key], bytes | None]


def account(batch: Batch, read: Read) -> Ruling:
    """Decide on every GenAI span of `batch`, and say what to store."""
    return _Account(batch, read).run()


class _Account:
    def __init__(self, batch: Batch, read: Read) -> None:
        self.batch = batch
        self.ruling = Ruling()
        self._stored = read
        self._totals = Totals(batch.tenant, self._read, self.ruling.changes, batch.now_ns)
        self._tools = ToolCounts(batch.tenant, self._read, self.ruling.changes, batch.now_ns)
        self._twice: list[tuple[int, int]] = []
        self._booked: list[tuple[int, Span]] = []

    def run(self) -> Ruling:
        for trace_id, places in self._by_trace().items():
            self._enter(trace_id, places)
        self._totals.settle()
        self._finish()
        for index, first in self._twice:
            self.ruling.decisions[index] = self.ruling.decisions[first]
        return self.ruling

    def _read(self, where: Key) -> bytes | None:
        changes = self.ruling.changes
        return changes.replace.get(where) or changes.claim.get(where) or self._stored(where)

    def _span_key(self, fact: Fact) -> Key:
        return key(Table.SPAN, self.batch.tenant, fact.trace_id, fact.span_id)

    def _by_trace(self) -> dict[bytes, list[int]]:
        """Where the spans stand that are not known yet, by trace. Known ones are answered from their records."""
        new: dict[bytes, list[int]] = {}
        seen: dict[tuple[bytes, bytes], int] = {}
        for index, fact in enumerate(self.batch.facts):
            if fact.call is not None and self._known(index, fact, seen):
                continue
            new.setdefault(fact.trace_id, []).append(index)
        return new

    def _known(self, index: int, fact: Fact, seen: dict[tuple[bytes, bytes], int]) -> bool:
        first = seen.setdefault((fact.trace_id, fact.span_id), index)
        if first != index:
            self._replay(fact, self.batch.facts[first].digest)
            if first in self.ruling.decisions:
                self.ruling.decisions[index] = self.ruling.decisions[first]
            else:
                self._twice.append((index, first))
            return True
        record = self._stored(self._span_key(fact))
        if record is None:
            return False
        self.ruling.decisions[index], digest = unpack_decision(record)
        self._replay(fact, digest)
        return True

    def _replay(self, fact: Fact, digest: bytes) -> None:
        self.ruling.replays += 1
        if fact.digest != digest:
            self.ruling.conflicts += 1

    def _enter(self, trace_id: bytes, indices: list[int]) -> None:
        """Let the new spans of one trace find their places, and move the old ones whose places changed."""
        where = key(Table.TRACE, self.batch.tenant, trace_id)
        record = self._read(where)
        trace = Trace() if record is None else Trace.unpack(record)
        new = self._add_spans(trace, indices)
        if not any(span.kind for span in trace.spans.values()):
            return
        groups = Groups(trace.spans)
        for _, span in new:
            self._find_twin(trace_id, span, groups)
        before = _excess(trace)
        places = _places(trace, groups)
        self._move(trace, places)
        credit = max(0, _excess(trace))
        for index, span in new:
            credit = self._place(index, span, places[span.span_id], credit)
        self._correct(_excess(trace) - before)
        self._decide(trace, groups, new)
        self._claim_responses(trace_id, new)
        trace.forget_oldest()
        self.ruling.changes.replace[where] = trace.pack(self.batch.now_ns)
        self.ruling.changes.expire.append(where)

    def _add_spans(self, trace: Trace, indices: list[int]) -> list[tuple[int, Span]]:
        new: list[tuple[int, Span]] = []
        for index in indices:
            fact = self.batch.facts[index]
            if fact.call is None and fact.span_id in trace.spans:
                continue
            trace.spans[fact.span_id] = span = span_of(fact)
            if span.kind:
                new.append((index, span))
        return new

    def _find_twin(self, trace_id: bytes, span: Span, groups: Groups) -> None:
        """Whether a span of another trace was counted for this very response (issue 4: within the session)."""
        if not span.response or span.claim is None:
            return
        record = self._read(self._response_key(span))
        if record is None:
            return
        _, other_trace, *row, session = msgpack.unpackb(record)
        other = Span(row[0], start_ns=row[1], end_ns=row[2], scope=row[3])
        mine = groups.session(span).id
        if other_trace != trace_id and same_response(span, other) and (not mine or not session or mine == session):
            span.twin = other.span_id.hex()

    def _claim_responses(self, trace_id: bytes, new: list[tuple[int, Span]]) -> None:
        for _, span in new:
            if span.response and span.claim is not None and span.place is not None and span.place.role == COUNTED:
                row = [1, trace_id, span.span_id, span.start_ns, span.end_ns, span.scope, span.place.session]
                where = self._response_key(span)
                self.ruling.changes.claim.setdefault(where, msgpack.packb(row))
                self.ruling.changes.expire.append(where)

    def _response_key(self, span: Span) -> Key:
        return key(Table.RESPONSE, self.batch.tenant, span.response.encode("utf-8", "surrogatepass"))

    def _move(self, trace: Trace, places: dict[bytes, Place]) -> None:
        for span in trace.spans.values():
            if span.place is not None and span.place != places[span.span_id]:
                self._totals.book(span, span.place, -1)
                span.place = places[span.span_id]
                self._totals.book(span, span.place)

    def _place(self, index: int, span: Span, place: Place, credit: Pico) -> Pico:
        """Book a new span; what was sent too much before it is taken off what it is sent on with."""
        span.place = place
        self._totals.book(span, place)
        self._booked.append((index, span))
        if place.role != COUNTED or span.claim is None or span.claim.amount is None:
            return credit
        span.sent = max(0, span.claim.amount - credit)
        return credit - (span.claim.amount - span.sent)

    def _correct(self, change: Pico) -> None:
        if change:
            self.ruling.corrections += int(change > 0)
            self.ruling.correction += change
            where = key(Table.TOTAL, self.batch.tenant, CORRECTIONS)
            sums = self.ruling.changes.add.setdefault(where, Sums())
            sums.cost += change
            sums.calls += int(change > 0)

    def _decide(self, trace: Trace, groups: Groups, new: list[tuple[int, Span]]) -> None:
        repeating = {span.span_id for _, span in new if span.place and span.place.role == REPEATS}
        below = subtrees(trace, repeating)
        for index, span in new:
            fact = self.batch.facts[index]
            if fact.call is None or span.place is None:
                continue
            decision = describe(fact, fact.call, groups.session(span), groups.run(span))
            carried = None if span.claim is None or span.claim.amount is None else span.sent
            enter_money(decision, fact, span.place.role, carried, below.get(span.span_id, 0), self.batch.aliases)
            self.ruling.decisions[index] = decision
        for index, span in sorted(new, key=lambda item: (item[1].start_ns, item[1].span_id)):
            self._count_tool(self.ruling.decisions[index], self.batch.facts[index], span)

    def _count_tool(self, decision: Decision, fact: Fact, span: Span) -> None:
        signature = fact.signature
        if signature is None or signature.scope == "name_only":
            return
        session = decision.session_id.encode("utf-8", "surrogatepass") or b"\0" + fact.trace_id
        times, row = self._tools.count(session, signature.value, span.call_id)
        rule = self.batch.loop
        decision.tool_repeats, decision.tool_consecutive = times, row
        decision.tool_loop = (0 < rule.consecutive <= row) or (0 < rule.repeats <= times)

    def _finish(self) -> None:
        """Write the runs that sessions decide, and running totals: from the last span back, less what came after it."""
        sessions: dict[str, Pico] = {}
        runs: dict[str, Pico] = {}
        for index, span in reversed(self._booked):
            decision = self.ruling.decisions[index]
            if not decision.run_id:
                run = self._totals.run_of(decision.session_id)
                decision.run_id, decision.run_source = run.id, run.source
            self._running(decision, span, sessions, runs)
            self._keep(index, decision)

    def _running(self, decision: Decision, span: Span, sessions: dict[str, Pico], runs: dict[str, Pico]) -> None:
        if span.place is None or span.place.role != COUNTED or span.claim is None:
            return
        amount = span.claim.amount or 0
        if decision.session_id:
            total = sessions.setdefault(decision.session_id, self._totals.session_cost(decision.session_id))
            decision.session_cost = total
            sessions[decision.session_id] = total - amount
        if decision.run_id:
            total = runs.setdefault(decision.run_id, self._totals.run_cost(decision.run_id))
            decision.run_cost = total
            runs[decision.run_id] = total - amount

    def _keep(self, index: int, decision: Decision) -> None:
        fact = self.batch.facts[index]
        where = self._span_key(fact)
        self.ruling.changes.claim[where] = pack_decision(decision, fact.digest)
        self.ruling.changes.expire.append(where)


def _excess(trace: Trace) -> Pico:
    """By how much what was sent of a trace exceeds what its spans add to the ledger."""
    excess = 0
    for span in trace.spans.values():
        excess += span.sent
        if span.place is not None and span.place.role == COUNTED and span.claim is not None:
            excess -= span.claim.amount or 0
    return excess


def _places(trace: Trace, groups: Groups) -> dict[bytes, Place]:
    found = roles(trace)
    return {
        span.span_id: Place(found.get(span.span_id, ""), groups.session(span).id, groups.run(span).id)
        for span in trace.spans.values()
        if span.kind
    }
