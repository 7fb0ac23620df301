"""Build the span that a trace remembers from a fact, and the decision on its attributes from the span's posting.

While the state is not available, decisions are made of the request itself: nothing is counted, and nothing is lost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from msgspec import Struct, structs

from spanledger_processor.accounting.facts import ORIGIN, Batch, Evidence, Fact
from spanledger_processor.accounting.grouping import Groups, Named
from spanledger_processor.accounting.one_call import DOUBTS, Reason
from spanledger_processor.accounting.trace import COUNTED, DUPLICATE, NO_DETAIL, REPEATS, Claim, Detail, Span, Trace
from spanledger_processor.ledger.keys import bounded_ids
from spanledger_processor.ledger.runs import run_of_session
from spanledger_processor.model import CLASS_NAMES, Call, Cost, Decision, Usage, UsageVector, counts_of, known_counts
from spanledger_processor.pricing import priced_name, sold_by
from spanledger_processor.units import Pico

_TIER = ORIGIN.index("tier")
_MOST_TOKENS = 1 << 63


def span_of(fact: Fact) -> Span:
    """Return what a trace remembers of a span; a plain span leaves only its links and names."""
    span = Span(fact.span_id, fact.parent_id, fact.start_ns, fact.end_ns)
    span.session, span.run = fact.session, fact.run
    call = fact.call
    if call is None:
        return span
    span.kind = call.kind
    call_id = (call.tool.call_id or "") if call.tool else ""
    span.scope, span.response, span.call_id = bounded_ids(fact.scope, call.response_id, call_id)
    span.parent_session = fact.session_parent_id
    span.session_labels = call.session_name, call.session_project
    span.instance = fact.instance
    span.signature = fact.signature.value if fact.signature and not (call.tool and call.tool.denied) else ""
    span.tool_result = fact.result
    span.logged = call.source.startswith("log:")
    span.closes = call.session_closed
    span.claim = _claim_of(fact)
    span.detail = _detail_of(fact, call)
    return span


def _detail_of(fact: Fact, call: Call) -> Detail:
    name = (call.tool.name or "") if call.tool is not None and call.kind == "tool" else ""
    above = "" if fact.agent else call.agent_parent_id  # an id among names is nobody's
    tool, agent, parent = bounded_ids(name, fact.agent or call.agent_id, above)
    denied = call.tool is not None and call.tool.denied
    fee = fact.fee.amount or 0 if fact.fee is not None else 0
    day = fact.day if fee or tool or fact.asked or fact.stuck else 0
    asked = bounded_ids(*fact.asked) if fact.asked else ()
    stuck = bounded_ids(*fact.stuck) if fact.stuck else ()
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
    provider = sold_by(call.provider, priced_name(call))
    claim.provider, claim.model, asked = bounded_ids(provider, call.model, call.request_model)
    claim.task_id, claim.task_kind = call.task_id, call.task_kind
    claim.card, claim.first_token_ns = fact.card, fact.first_token_ns
    claim.fresh = _fresh(cost) if call.kind == "llm" else None
    claim.terms = len(call.price_context) if claim.fresh is not None else 0
    claim.evidence = fact.evidence if asked == claim.model else Evidence(asked, *fact.evidence[1:])
    if call.price_context:
        claim.evidence = _with_tier(claim.evidence, dict(call.price_context).get("service_tier", ""))
    return claim


def _with_tier(evidence: Evidence, tier: str) -> Evidence:
    """Return the evidence of a call of a service tier, "" for the standard or an unknown one."""
    origin = evidence.origin or (b"",) * len(ORIGIN)
    return evidence._replace(origin=(*origin[:_TIER], tier.encode("utf-8", "surrogatepass"))) if tier else evidence


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
    counts = counts_of(usage)
    known = [*filter(None, counts)]
    if not known or (min(known) >= 0 and max(known) < _MOST_TOKENS):
        return counts
    return tuple([None if count is None or not 0 <= count < _MOST_TOKENS else count for count in counts])


CARRIED = "part of this cost was on a span already sent that turned out to repeat it"

LATE_ROUND = (
    "span {} was sent before this one showed that it is several calls: its usage may be of the last answer only"
)
"""The note of a tool below a call that cannot be marked any more."""


class Money(Struct, frozen=True):
    """What a decision says of usage and cost. `subtree` is the cost below a span that repeats its children."""

    usage: Usage | None = None
    cost: Cost | None = None
    note: str = ""
    aliases: tuple[str, ...] = ()
    subtree: Pico | None = None
    duplicate_of: str = ""


class ToolMarks(NamedTuple):
    """How often a session made the tool call of a span, and whether that completes a loop."""

    times: int = 0
    in_a_row: int = 0
    is_loop: bool = False


NO_MARKS = ToolMarks()


def decide(
    fact: Fact, call: Call, session: Named, run: Named, money: Money, tool: ToolMarks, reason: Reason | None = None
) -> Decision:
    """Return the decision on a span; running totals and budgets are entered when the whole request is posted."""
    decision = Decision(call.kind, call.dialect, call.granularity)  # thirty names would be looked up one by one
    decision.session_id, decision.session_source = session
    if fact.session_parent_id != session.id:
        decision.session_parent_id = fact.session_parent_id
    decision.session_closed = call.session_closed
    decision.run_id, decision.run_source = run
    decision.agent_id, decision.agent_parent_id = call.agent_id, call.agent_parent_id
    decision.task_id, decision.task_kind = call.task_id, call.task_kind
    decision.usage, decision.cost = money.usage, money.cost
    decision.repeats_children, decision.subtree = money.subtree is not None, money.subtree
    decision.duplicate_of = money.duplicate_of
    decision.signature = fact.signature
    decision.tool_repeats, decision.tool_consecutive, decision.tool_loop = tool
    decision.source, decision.note, decision.aliases = call.source, money.note, money.aliases
    decision.reason = () if reason is None else tuple(reason)
    return decision


def money_of(fact: Fact, call: Call, role: str, carried: UsageVector, subtree: Pico, aliases: tuple[str, ...]) -> Money:
    """Return usage, cost and marks by a span's role. `carried` is what it adds to what was sent before it."""
    if role == COUNTED and fact.cost is not None:
        usage = None if fact.cost.source == "response_cache" else _carried_usage(call.usage or call.fallback, carried)
        is_carried = fact.cost.amount is not None and carried.cost != fact.cost.amount
        cost = structs.replace(fact.cost, amount=carried.cost) if is_carried else fact.cost
        note = call.note or (CARRIED if is_carried else "") or fact.cost.note
        return Money(usage, cost, note, () if fact.cost.amount is None else _free(aliases, call))
    if role == REPEATS:
        return Money(note=call.note, subtree=subtree)
    if role.startswith(DUPLICATE):
        return Money(note=call.note, duplicate_of=role.removeprefix(DUPLICATE))
    return Money(note=call.note)


def with_fee(money: Money, fact: Fact, call: Call, aliases: tuple[str, ...]) -> Money:
    """Return the money of a tool's span with the fee for the tool as its cost."""
    return structs.replace(money, cost=fact.fee, aliases=_free(aliases, call))


def in_doubt(money: Money, reason: Reason) -> Money:
    """Return the money of the later of two spans: an estimate with a note, if the reason why both count is a doubt."""
    if reason.code not in DOUBTS or money.cost is None:
        return money
    note = money.note or DOUBTS[reason.code].format(reason.other or "of another trace")
    return structs.replace(money, cost=structs.replace(money.cost, estimate=True), note=note)


def _free(aliases: tuple[str, ...], call: Call) -> tuple[str, ...]:
    """Return the aliases that did not come in with the span."""
    return tuple([alias for alias in aliases if alias not in call.present]) if call.present else aliases


def _carried_usage(usage: Usage | None, carried: UsageVector) -> Usage | None:
    """Return the usage that no earlier span has carried; a class that is unknown stays unknown."""
    if usage is None:
        return None
    counts = counts_of(usage)
    if known_counts(counts) == carried.counts:
        return usage
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
    if not run.id:
        run = _run(session.id, fact.session_parent_id)
    money, cost = Money(note=call.note), fact.cost or fact.fee
    if cost is not None:
        usage = None if fact.cost is None else call.usage
        money = Money(usage, structs.replace(cost, amount=None, source="", unpriced="not_accounted"), call.note)
    return decide(fact, call, session, run, money, ToolMarks())


def _run(session_id: str, parent_id: str) -> Named:
    return Named(*run_of_session(session_id, lambda asked: (set(), parent_id if asked == session_id else "")))
