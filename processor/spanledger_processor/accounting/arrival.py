"""From a fact that has come in to the span that a trace remembers."""

from __future__ import annotations

from spanledger_processor.accounting.facts import Fact
from spanledger_processor.accounting.trace import NO_DETAIL, Claim, Detail, Span
from spanledger_processor.ledger.keys import bounded_id
from spanledger_processor.model import Call, Usage, counts_of


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
    detail = Detail(agent, parent, tool, fact.failed, fact.dimensions, denied, fee, fact.day if fee else 0)
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
    claim.card = fact.card
    asked = bounded_id(call.request_model)
    claim.evidence = fact.evidence if asked == claim.model else fact.evidence._replace(asked=asked)
    return claim


def _tokens(usage: Usage | None) -> tuple[int | None, ...]:
    if usage is None:
        return ()
    return tuple([None if count is None or not 0 <= count < 1 << 63 else count for count in counts_of(usage)])
