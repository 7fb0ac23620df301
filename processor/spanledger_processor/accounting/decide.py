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
    call = fact.call
    if call is None:
        return Span(fact.span_id, fact.parent_id, fact.start_ns, fact.end_ns, "", "", fact.session, fact.run)
    tool, signature = call.tool, fact.signature
    call_id, name, denied = "", "", False
    if tool is not None:
        call_id, denied = tool.call_id or "", tool.denied
        name = (tool.name or "") if call.kind == "tool" else ""
    above = "" if fact.agent else call.agent_parent_id  # an id among names is nobody's
    scope, response, call_id, name, agent, above = bounded_ids(
        fact.scope, call.response_id, call_id, name, fact.agent or call.agent_id, above
    )
    return Span(
        fact.span_id,
        fact.parent_id,
        fact.start_ns,
        fact.end_ns,
        call.kind,
        scope,
        fact.session,
        fact.run,
        fact.session_parent_id,
        (call.session_name, call.session_project),
        fact.instance,
        response,
        call_id,
        "" if signature is None or denied else signature.value,
        fact.result,
        call.source.startswith("log:"),
        call.session_closed,
        _claim_of(fact, call),
        _detail_of(fact, name, agent, above, denied=denied),
    )


def _detail_of(fact: Fact, tool: str, agent: str, above: str, *, denied: bool) -> Detail:
    fee = fact.fee.amount or 0 if fact.fee is not None else 0
    day = fact.day if fee or tool or fact.asked or fact.stuck else 0
    asked = bounded_ids(*fact.asked) if fact.asked else ()
    stuck = bounded_ids(*fact.stuck) if fact.stuck else ()
    detail = Detail(agent, above, tool, fact.failed, fact.dimensions, denied, fee, day, asked, stuck)
    return NO_DETAIL if detail == NO_DETAIL else detail


def _claim_of(fact: Fact, call: Call) -> Claim | None:
    cost = fact.cost
    if cost is None:
        return None
    provider = sold_by(call.provider, priced_name(call), call.endpoint_provider)
    provider, model, asked = bounded_ids(provider, call.model, call.request_model)
    fresh = _fresh(cost) if call.kind == "llm" else None
    evidence = fact.evidence if asked == model else Evidence(asked, *fact.evidence[1:])
    if call.price_context:
        evidence = _with_tier(evidence, dict(call.price_context).get("service_tier", ""))
    return Claim(
        _tokens(call.usage or call.fallback),
        cost.amount,
        cost.unpriced or "",
        provider,
        model,
        fact.day,
        call.task_id,
        call.task_kind,
        call.usage is None and call.fallback is not None,
        evidence,
        cost.source == "response_cache",
        "" if call.granularity == "per-message" else call.granularity,
        fact.card,
        fact.first_token_ns,
        fresh,
        len(call.price_context) if fresh is not None else 0,
    )


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
    return Decision(
        call.kind,
        call.dialect,
        call.granularity,
        session.id,
        session.source,
        fact.session_parent_id if fact.session_parent_id != session.id else "",
        call.session_closed,
        run.id,
        run.source,
        call.agent_id,
        call.agent_parent_id,
        call.task_id,
        call.task_kind,
        money.usage,
        money.cost,
        money.subtree is not None,
        money.subtree,
        money.duplicate_of,
        fact.signature,
        tool.times,
        tool.in_a_row,
        tool.is_loop,
        None,
        None,
        call.source,
        money.note,
        "",
        0.0,
        money.aliases,
        () if reason is None else tuple(reason),
    )


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
    return tuple([alias for alias in aliases if alias not in call.present]) if aliases and call.present else aliases


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
