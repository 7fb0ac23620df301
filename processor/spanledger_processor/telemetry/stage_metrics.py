"""Metrics of the stage: what was read of requests, what their spans came to, and what they cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from time import time
from typing import TypeAlias

from spanledger_exporters.interface import Signal
from spanledger_processor.accounting.facts import Batch, Fact, Ruling, in_pairs
from spanledger_processor.accounting.trace import tool_label
from spanledger_processor.accounting.usual import Prototype, UsualDecision, UsualFact
from spanledger_processor.enrichment import Reading
from spanledger_processor.enrichment.redaction import Redacted
from spanledger_processor.model import USAGE_CLASSES, Call, Cost, Decision, counts_of
from spanledger_processor.pricing import canonical_model, priced_name, sold_by
from spanledger_processor.telemetry.registry import BoundedLabels, CountedSpan, LabelsByTenant, Registry, quoted
from spanledger_processor.units import USD, Pico

_SpanCounts: TypeAlias = dict[tuple[str, ...], int]
"""Numbers of spans, by the name of a counter and the values of its labels."""

_ADDED_UP = 1024
"""Names and prototypes for which something is added up until counters are read; of more it is counted at once."""
_MODELS = 200
_REASONS = 50
_OPERATIONS = 50


@dataclass(slots=True)
class _Spend:
    """What was spent, and the latest span that it was spent on."""

    amount: Pico = 0
    latest: CountedSpan | None = None

    def add(self, amount: Pico, counted: CountedSpan | None) -> None:
        """Add an amount, which was spent on that span among others."""
        self.amount += amount
        if counted is not None and (self.latest is None or counted.at >= self.latest.at):
            self.latest = counted


@dataclass(slots=True)
class _UsualCalls:
    """What usual calls of one prototype came to; `latest` is one that cost something, counted at `at`."""

    decision: Decision
    prototype: Prototype
    spans: int = 0
    beyond: int = 0
    amount: Pico = 0
    latest: UsualFact | None = None
    at: float = 0.0

    def add_to(self, counts: _SpanCounts) -> None:
        """Add these calls, as `_add_span` does one span."""
        counts["genai_spans_total", self.decision.kind, self.decision.dialect] += self.spans
        counts["priced_spans_total", "computed"] += self.spans
        counts["spans_beyond_window_total",] += self.beyond


class StageMetrics:
    """Implements `server.handler.StageObserver`.

    What was read, what was counted and what it cost. `window_ns` is `state.retention.spans`. Of each of `dimensions`
    so many pairs of value and model are distinguished (`values`).
    """

    def __init__(self, registry: Registry, window_ns: int, dimensions: Sequence[str] = (), values: int = 200) -> None:
        self._values = {name: LabelsByTenant(values) for name in dimensions}
        self._registry = registry
        self._window_ns = window_ns
        self._models = LabelsByTenant(_MODELS)
        self._reasons = BoundedLabels(_REASONS)
        self._operations = BoundedLabels(_OPERATIONS)
        self._adding = Lock()
        """Held while spans are added up, and while what they came to is counted."""
        self._spans: _SpanCounts = defaultdict(int)
        self._spend: dict[tuple[bytes, str, str], _Spend] = defaultdict(_Spend)
        """By tenant, provider and model."""
        self._usual: dict[tuple[bytes, int, int], _UsualCalls] = {}
        """By tenant and the prototypes of decision and call."""
        registry.before_reading(self._enter_added)

    def received(self, signal: Signal, items: int) -> None:
        """Count items that came in."""
        self._count("received_items_total", signal, by=items)

    def accepted(self, signal: Signal, items: int) -> None:
        """Count items that were delivered to every required exporter."""
        self._count("accepted_items_total", signal, by=items)

    def refused(self, signal: Signal, items: int, verdict: str) -> None:
        """Count items of requests after whose answer the sender keeps or drops them."""
        self._count("refused_items_total", signal, verdict, by=items)

    def enriched(self, reading: Reading) -> None:
        """Count the spans of a request that was read and written."""
        self._count("passed_marked_spans_total", by=reading.marked)
        self._count("forged_attributes_total", by=reading.forged)
        for reason, spans in reading.failures.items():
            self._count("enrichment_failures_total", *self._reasons(reason), by=spans)

    def unlinked(self, traces: int) -> None:
        """Count traces whose earlier plain spans were not looked for."""
        self._count("unlinked_traces_total", by=traces)

    def rate_limited(self, limit: str) -> None:
        """Count a request beyond a limit of its sender or tenant."""
        self._count("rate_limited_requests_total", limit)

    def redacted(self, redacted: Redacted) -> None:
        """Count the content that was taken out of a request."""
        for mode, values in redacted.values.items():
            self._count("redacted_values_total", mode, by=values)
        self._count("redaction_failures_total", by=redacted.unreadable)

    def enrichment_failed(self, reason: str) -> None:
        """Count a request that went on as it came."""
        self._count("enrichment_failures_total", *self._reasons(reason))

    def unaccounted(self, decisions: Mapping[int, Decision]) -> None:
        """Count spans that went on with what was decided without the state, which was not available."""
        self._count("unaccounted_spans_total", by=len(decisions))
        computed = (decision.cost.computed for decision in decisions.values() if decision.cost is not None)
        self._count("unaccounted_usd_total", by=sum(amount for amount in computed if amount) / USD)

    def ruled(self, batch: Batch, ruling: Ruling) -> None:
        """Count what a batch came to. Spans known before are counted as replays and as nothing else."""
        self._count("replayed_spans_total", by=ruling.replays)
        self._count("conflicting_spans_total", by=ruling.conflicts)
        self._count("cut_traces_total", by=ruling.cut_traces)
        self._count("late_corrections_total", by=ruling.corrections)
        with self._adding:
            for index in ruling.fresh if self._values else self._add_usual(batch, ruling):
                self._add(batch, batch.facts[index], ruling.decisions[index])
            if len(self._usual) + len(self._spend) > _ADDED_UP:
                self._enter()

    def _add(self, batch: Batch, fact: Fact, decision: Decision) -> None:
        """Add a span to what is counted later."""
        call, cost, usage = fact.call, decision.cost, decision.usage
        self._time(batch.tenant, fact, decision)
        _add_span(decision, self._spans)
        if call is not None and call.unknown_operation:
            self._spans["unknown_operations_total", *self._operations(call.unknown_operation)] += 1
        if cost is not None and (ratio := _ratio(cost)):
            self._registry.observe("reported_cost_ratio", ratio, decision.dialect)
        if usage is not None and fact.end_ns < batch.now_ns - self._window_ns:
            self._spans["spans_beyond_window_total",] += 1
        if cost is not None and cost.amount and call is not None:
            spent = self._spend[batch.tenant, _sold_by(call), _model_of(fact, call)]
            spent.add(cost.amount, _counted(fact, cost.amount / USD, time()))
        if self._values and call is not None:
            dimensions = ("tenant", batch.tenant_name, *fact.dimensions)
            self._by_dimension(batch.tenant, fact, call, dimensions, decision)

    def _add_usual(self, batch: Batch, ruling: Ruling) -> list[int]:
        """Do as `_add` with usual calls, without making their fields; return the indexes of the other fresh spans."""
        decisions, usual, others = ruling.decisions, self._usual, list[int]()
        tenant, earliest_ns, now = batch.tenant, batch.now_ns - self._window_ns, time()
        for index in ruling.fresh:
            decision = decisions[index]
            if type(decision) is not UsualDecision:
                others.append(index)
                continue
            fact = decision.fact
            if fact.first_token_ns:
                self._time(tenant, fact, decision)
            key = tenant, id(decision.prototype), id(fact.prototype)
            calls = usual.get(key)
            if calls is None:
                calls = usual[key] = _UsualCalls(decision.prototype, fact.prototype)
            calls.spans += 1
            if fact.end_ns < earliest_ns:
                calls.beyond += 1
            if fact.amount:
                calls.amount += fact.amount
                calls.latest, calls.at = fact, now
        return others

    def _enter_added(self) -> None:
        """Count what was added up, on the thread of whoever reads the counters."""
        with self._adding:
            self._enter()

    def _enter(self) -> None:
        """Count what was added up, and begin anew; `_adding` is held."""
        spans, spend = self._spans, self._spend
        for (tenant, _, _), calls in self._usual.items():
            calls.add_to(spans)
            call = calls.prototype.fact.call
            if calls.latest is not None and call is not None:
                spent = spend[tenant, _sold_by(call), canonical_model(call.model)]
                spent.add(calls.amount, _counted(calls.latest, calls.latest.amount / USD, calls.at))
        for (name, *labels), number in spans.items():
            self._count(name, *labels, by=number)
        for (tenant, provider, model), spent in spend.items():
            names = self._models(tenant)(provider, model)
            self._count("cost_usd_total", *names, by=spent.amount / USD, of=spent.latest)
        for added in (self._usual, spans, spend):
            added.clear()

    def _time(self, tenant: bytes, fact: Fact, decision: Decision) -> None:
        """Observe how fast a call was, if it is known when the first token came."""
        if not fact.first_token_ns or fact.failed or (usage := decision.usage) is None:
            return
        if fact.call is None or fact.call.granularity != "per-message" or fact.end_ns <= fact.start_ns:
            return
        names = self._models(tenant)(_sold_by(fact.call), canonical_model(fact.call.model))
        self._registry.observe("call_first_token_seconds", fact.first_token_ns / 10**9, *names)
        if usage.output:
            seconds = (fact.end_ns - fact.start_ns) / 10**9
            self._registry.observe("call_output_token_rate", usage.output / seconds, *names)

    def _by_dimension(
        self, tenant: bytes, fact: Fact, call: Call, dimensions: tuple[str, ...], decision: Decision
    ) -> None:
        amount = decision.cost.amount if decision.cost is not None else None
        if not amount and decision.usage is None:
            return
        known = {"agent": decision.agent_id, "model": _model_of(fact, call), "provider": _sold_by(call)}
        known.update(in_pairs(dimensions))
        usd, now = (amount or 0) / USD, time()
        counts = counts_of(decision.usage) if decision.usage is not None else ()
        tokens = [
            (one.name, count)
            for one, count in zip(USAGE_CLASSES, counts, strict=False)
            if one.unit == "token" and count
        ]
        for name, bounded in self._values.items():
            value, model = bounded(tenant)(quoted(known.get(name, "")), known["model"])
            self._count("dimension_cost_usd_total", name, value, model, by=usd, of=_counted(fact, usd, now))
            for of_class, count in tokens:
                counted = _counted(fact, count, now)
                self._count("dimension_tokens_total", name, value, model, of_class, by=count, of=counted)

    def _count(self, name: str, *labels: str, by: float = 1, of: CountedSpan | None = None) -> None:
        if by:
            self._registry.count(name, *labels, by=by, of=of)


def _counted(fact: Fact, amount: float, at: float) -> CountedSpan | None:
    """Return a span as it was counted; None where its ids are invalid on the wire, and digests here."""
    is_valid = len(fact.trace_id) == 16 and len(fact.span_id) == 8
    return CountedSpan(fact.trace_id, fact.span_id, amount, at) if is_valid else None


def _sold_by(call: Call) -> str:
    """Return the name of the provider, as the ledger has it."""
    return sold_by(call.provider, priced_name(call), call.endpoint_provider)


def _model_of(fact: Fact, call: Call) -> str:
    """Return the model that a cost is counted under: the tool, where a tool has a price of its own."""
    return tool_label(call.tool.name or "") if fact.fee is not None and call.tool else canonical_model(call.model)


def _add_span(decision: Decision, counts: _SpanCounts) -> None:
    """Add a span to the counters of spans that its decision bears on."""
    counts["genai_spans_total", decision.kind, decision.dialect] += 1
    cost = decision.cost
    if cost is not None and cost.unpriced:
        counts["unpriced_spans_total", cost.unpriced] += 1
    elif cost is not None and cost.amount is not None:
        counts["priced_spans_total", cost.source] += 1
    if decision.duplicate_of:
        counts["duplicate_spans_total",] += 1
    if decision.tool_loop:
        counts["tool_loops_total",] += 1


_FAR = 10**6
"""A ratio beyond all buckets; amounts come from the network and may be beyond what a double holds."""


def _ratio(cost: Cost) -> float:
    """Return the reported cost of a call over the computed one; 0 where one of them is unknown."""
    theirs = cost.amount if cost.source == "billed" else cost.reported
    return min(theirs, _FAR * cost.computed) / cost.computed if theirs and cost.computed else 0.0
