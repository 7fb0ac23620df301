"""Decisions while the state is not available: what the request itself tells. Nothing is counted, nothing is lost."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.accounting.arrival import span_of
from spanledger_processor.accounting.decide import describe
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.grouping import Groups, Named
from spanledger_processor.accounting.trace import Trace
from spanledger_processor.ledger.runs import run_of_session
from spanledger_processor.model import Call, Decision


def unaccounted(batch: Batch) -> dict[int, Decision]:
    """A decision for each GenAI span, with usage and computed cost but no cost that counts."""
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
    return decision


def _run(session_id: str, parent_id: str) -> Named:
    return Named(*run_of_session(session_id, lambda asked: (set(), parent_id if asked == session_id else "")))
