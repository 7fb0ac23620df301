"""Build the span that a trace remembers from a fact, and the decision on its attributes from the span's place.

While the state is not available, decisions are made of the request itself: nothing is counted, and nothing is lost.
"""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.grouping import Groups, Named
from spanledger_processor.accounting.reasons import DOUBTS, Reason
from spanledger_processor.accounting.trace import COUNTED, DUPLICATE, NO_DETAIL, REPEATS, Claim, Detail, Span, Trace
from spanledger_processor.ledger.keys import bounded_id
from spanledger_processor.ledger.runs import run_of_session
from spanledger_processor.model import CLASS_NAMES, Call, Cost, Decision, Usage, UsageVector, counts_of
from spanledger_processor.units import Pico


def span_of(fact: Fact) -> Span:
    """Return what a trace remembers of a span; a plain span leaves only its links and names."""
    span = Span(fact.span_id, fact.parent_id, fact.start_ns, fact.end_ns)
    span.session, span.run = fact.session, fact.run
    call = fact.call
    if call is None:
        return span
    span.kind = call.kind
    span.scope = bounded_id(fact.scope)
    span.parent_session = fact.session_parent_id
    span.session_labels = call.session_name, call.session_project
    span.instance = fact.instance
    span.response = bounded_id(call.response_id)
    span.call_id = bounded_id(call.tool.call_id or "") if call.tool else ""
    span.signature = fact.signature.value if fact.signature and not (call.tool and call.tool.denied) else ""
    span.tool_result = fact.result
    span.logged = call.source.startswith("log:")
    span.closes = call.session_closed
    span.claim = _claim_of(fact)
    span.detail = _detail_of(fact, call)
    return span


def _detail_of(fact: Fact, call: Call) -> Detail:
    tool = bounded_id(call.tool.name or "") if call.tool is not None and call.kind == "tool" else ""
    agent = bounded_id(fact.agent or call.agent_id)
    parent = "" if fact.agent else bounded_id(call.agent_parent_id)  # an id among names is nobody's
    denied = call.tool is not None and call.tool.denied
    fee = fact.fee.amount or 0 if fact.fee is not None else 0
    day = fact.day if fee or tool else 0
    asked, stuck = tuple(map(bounded_id, fact.asked)), tuple(map(bounded_id, fact.stuck))
    detail = Detail(agent, parent, tool, fact.failed, fact.dimensions, denied, fee, day, asked, stuck)
    return NO_DETAIL if detail == NO_DETAIL else detail


def _claim_of(fact: Fact) -> Claim | None:
    call, cost = fact.call, fact.cost
    if call is None or cost is None:
        return None
    usage = call.usage or call.fallback
    claim = Claim(_tokens(usage), cost.amount, cost.unpriced or "", day=fact.day)
    claim.fallback = call.usage is None and call.fallback is not None
    claim.granularity = "" if call.granularity == "per-message" else call.granularity
    claim.cached = cost.source == "response_cache"
    claim.provider, claim.model = bounded_id(call.provider), bounded_id(call.model)
    claim.task_id, claim.task_kind = call.task_id, call.task_kind
    claim.card, claim.first_token_ns = fact.card, fact.first_token_ns
    claim.fresh = _fresh(cost) if call.kind == "llm" else None
    claim.terms = len(call.price_context) if claim.fresh is not None else 0
    asked = bounded_id(call.request_model)
    claim.evidence = fact.evidence if asked == claim.model else fact.evidence._replace(asked=asked)
    return claim


def _fresh(cost: Cost) -> Pico | None:
    """Return the part of an amount that is for input not read from the cache, by the computed parts."""
    if cost.amount is None or cost.computed is None:
        return None
    fresh = cost.input + cost.cache_write
    if cost.amount == cost.computed:
        return fresh
    return cost.amount * fresh // cost.computed if cost.computed else None


def _tokens(usage: Usage | None) -> tuple[int | None, ...]:
    if usage is None:
        return ()
    return tuple([None if count is None or not 0 <= count < 1 << 63 else count for count in counts_of(usage)])


CARRIED = "part of this cost was on a span already sent that turned out to repeat it"

LATE_ROUND = (
    "span {} was sent before this one showed that it is several calls: its usage may be of the last answer only"
)
"""The note of a tool below a call that cannot be marked any more."""


def describe(fact: Fact, call: Call, session: Named, run: Named) -> Decision:
    """Return a decision with everything but the money: from the span itself and its place among others."""
    decision = Decision(call.kind, call.dialect, call.granularity)
    decision.session_id, decision.session_source = session.id, session.source
    decision.run_id, decision.run_source = run.id, run.source
    decision.session_parent_id = fact.session_parent_id
    decision.session_closed = call.session_closed
    decision.agent_id, decision.agent_parent_id = call.agent_id, call.agent_parent_id
    decision.task_id, decision.task_kind = call.task_id, call.task_kind
    decision.signature = fact.signature
    decision.source, decision.note = call.source, call.note
    return decision


def enter_money(
    decision: Decision, fact: Fact, role: str, carried: UsageVector, subtree: Pico, aliases: tuple[str, ...]
) -> None:
    """Enter usage, cost and marks by the span's role. `carried` is what it adds to what was sent before it."""
    if role == COUNTED and fact.call is not None and fact.cost is not None:
        cached = fact.cost.source == "response_cache"
        decision.usage = None if cached else _carried_usage(fact.call.usage or fact.call.fallback, carried)
        decision.cost = _carried_cost(fact.cost, carried, decision)
        decision.note = decision.note or fact.cost.note
        if fact.cost.amount is not None:
            decision.aliases = tuple(alias for alias in aliases if alias not in fact.call.present)
    elif role == REPEATS:
        decision.repeats_children = True
        decision.subtree = subtree
    elif role.startswith(DUPLICATE):
        decision.duplicate_of = role.removeprefix(DUPLICATE)


def enter_reason(decision: Decision, reason: Reason, *, is_later: bool) -> None:
    """Keep why a span counts or not; where that is in doubt the later of two is an estimate, with a note."""
    decision.reason = tuple(reason)
    if reason.code in DOUBTS and is_later and decision.cost is not None:
        decision.cost = replace(decision.cost, estimate=True)
        decision.note = decision.note or DOUBTS[reason.code].format(reason.other)


def _carried_cost(cost: Cost, carried: UsageVector, decision: Decision) -> Cost:
    if cost.amount is None or carried.cost == cost.amount:
        return cost
    decision.note = decision.note or CARRIED
    return replace(cost, amount=carried.cost)


def _carried_usage(usage: Usage | None, carried: UsageVector) -> Usage | None:
    """Return the usage that no earlier span has carried; a class that is unknown stays unknown."""
    if usage is None:
        return None
    counts = counts_of(usage)
    parts = {
        name: rest
        for name, count, rest in zip(CLASS_NAMES, counts, carried.counts, strict=True)
        if count is not None and count != rest
    }
    return replace(usage, **parts) if parts else usage


def unaccounted(batch: Batch) -> dict[int, Decision]:
    """Return a decision for each GenAI span, with usage and computed cost but no cost that counts."""
    traces: dict[bytes, Trace] = {}
    for fact in batch.facts:
        traces.setdefault(fact.trace_id, Trace()).spans[fact.span_id] = span_of(fact)
    groups = {trace_id: Groups(trace.spans) for trace_id, trace in traces.items()}
    decisions: dict[int, Decision] = {}
    for index, fact in enumerate(batch.facts):
        if fact.call is not None:
            decisions[index] = _decide(fact, fact.call, traces[fact.trace_id], groups[fact.trace_id])
    return decisions


def _decide(fact: Fact, call: Call, trace: Trace, groups: Groups) -> Decision:
    span = trace.spans[fact.span_id]
    session, run = groups.session(span), groups.run(span)
    decision = describe(fact, call, session, run if run.id else _run(session.id, fact.session_parent_id))
    if fact.cost is not None:
        decision.usage = call.usage
        decision.cost = replace(fact.cost, amount=None, source="", unpriced="not_accounted")
    elif fact.fee is not None:
        decision.cost = replace(fact.fee, amount=None, source="", unpriced="not_accounted")
    return decision


def _run(session_id: str, parent_id: str) -> Named:
    return Named(*run_of_session(session_id, lambda asked: (set(), parent_id if asked == session_id else "")))
