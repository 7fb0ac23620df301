"""One observer for each room, over one registry: everything that the process counts about itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from time import monotonic
from typing import TypeAlias

from spanledger_exporters.interface import Signal, Verdict
from spanledger_processor.accounting.facts import Batch, Fact, Ruling, in_pairs
from spanledger_processor.accounting.trace import tool_label
from spanledger_processor.accounting.usual import UsualDecision
from spanledger_processor.enrichment import Reading
from spanledger_processor.enrichment.redaction import Redacted
from spanledger_processor.ledger.rows import Row
from spanledger_processor.ledger.store import StateError, StoreUsage
from spanledger_processor.model import USAGE_CLASSES, Call, Cost, Decision, Usage, counts_of
from spanledger_processor.pricing import canonical_model, priced_name, sold_by
from spanledger_processor.telemetry.log import on_suppressed
from spanledger_processor.telemetry.otlp import Tracer
from spanledger_processor.telemetry.registry import BoundedLabels, LabelsByTenant, Registry, SpanIds, label_text, quoted
from spanledger_processor.telemetry.table import TABLE
from spanledger_processor.units import USD, Pico


class RequestMetrics:
    """Implements `receivers.driver.RequestObserver`.

    Requests, their answers and what they hold.
    """

    def __init__(self, registry: Registry, tracer: Tracer) -> None:
        self._registry = registry
        self._tracer = tracer

    def began(self) -> None:
        """Begin the span of a request; what this task and those that it starts do is done for it."""
        self._tracer.begin()

    def answered(self, signal: Signal, protocol: str, outcome: str, cause: str, seconds: float) -> None:
        """Count an answered request."""
        self._tracer.request(signal, protocol, outcome, cause, seconds)
        self._registry.count("requests_total", signal, protocol, outcome)
        self._registry.observe("request_duration_seconds", seconds, signal, protocol)
        if cause:
            self._registry.count("refused_requests_total", signal, protocol, cause)

    def received(self, signal: Signal, protocol: str, size: int) -> None:
        """Count a request that was read."""
        self._registry.count("received_bytes_total", signal, protocol, by=size)

    def in_flight(self, size: int) -> None:
        """Set the bytes held to `size`."""
        self._registry.set("in_flight_bytes", size)

    def internal_error(self, where: str) -> None:
        """Count a failure of ours."""
        self._registry.count("internal_errors_total", where)


Moved: TypeAlias = dict[tuple[str, ...], int]
"""By counter and label values: spans. A request moves each counter once, however many spans it holds."""

_MODELS = 200
_REASONS = 50
_OPERATIONS = 50


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
        moved: Moved = defaultdict(int)
        spend: dict[tuple[str, str], Pico] = defaultdict(int)
        latest: dict[tuple[str, str], SpanIds | None] = {}
        """By provider and model as in `spend`: a span of them."""
        usual: dict[tuple[int, int], list[UsualDecision]] = {}
        """Decisions on usual calls of one prototype."""
        for index in ruling.fresh:
            fact, decision = batch.facts[index], ruling.decisions[index]
            if fact.first_token_ns and decision.usage is not None and not fact.failed:
                self._time(batch.tenant, fact, decision.usage)
            if type(decision) is UsualDecision and not self._values:
                usual.setdefault((id(decision.prototype), id(decision.fact.prototype)), []).append(decision)
                continue
            _describe(decision, moved)
            if fact.call is not None and fact.call.unknown_operation:
                moved["unknown_operations_total", *self._operations(fact.call.unknown_operation)] += 1
            if decision.cost is not None and (ratio := _ratio(decision.cost)):
                self._registry.observe("reported_cost_ratio", ratio, decision.dialect)
            if decision.usage is not None and fact.end_ns < batch.now_ns - self._window_ns:
                moved["spans_beyond_window_total",] += 1
            if decision.cost is not None and decision.cost.amount and fact.call is not None:
                model = _sold_by(fact.call), _model_of(fact, fact.call)
                spend[model] += decision.cost.amount
                latest[model] = _ids_of(fact)
            if self._values and fact.call is not None:
                dimensions = ("tenant", batch.tenant_name, *fact.dimensions)
                self._by_dimension(batch.tenant, fact, fact.call, dimensions, decision)
        for decisions in usual.values():
            self._usual(decisions, batch.now_ns, moved, spend, latest)
        for (name, *labels), spans in moved.items():
            self._count(name, *labels, by=spans)
        for models, amount in spend.items():
            names = self._models(batch.tenant)(*models)
            self._count("cost_usd_total", *names, by=amount / USD, of=latest[models])

    def _time(self, tenant: bytes, fact: Fact, usage: Usage) -> None:
        """Observe how fast a call was of which it is known when the first token came."""
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
        counts = counts_of(decision.usage) if decision.usage is not None else ()
        tokens = [(one.name, count) for one, count in zip(USAGE_CLASSES, counts, strict=False) if one.unit == "token"]
        for name, bounded in self._values.items():
            value, model = bounded(tenant)(quoted(known.get(name, "")), known["model"])
            self._count("dimension_cost_usd_total", name, value, model, by=(amount or 0) / USD, of=_ids_of(fact))
            for of_class, count in tokens:
                self._count("dimension_tokens_total", name, value, model, of_class, by=count or 0, of=_ids_of(fact))

    def _usual(
        self,
        decisions: Sequence[UsualDecision],
        now_ns: int,
        moved: Moved,
        spend: dict[tuple[str, str], Pico],
        latest: dict[tuple[str, str], SpanIds | None],
    ) -> None:
        """Count spans as `ruled` does, without making the fields of usual calls of one prototype."""
        prototype, facts, spans = decisions[0].prototype, [decision.fact for decision in decisions], len(decisions)
        call, earliest_ns = facts[0].prototype.fact.call, now_ns - self._window_ns
        moved["genai_spans_total", prototype.kind, prototype.dialect] += spans
        moved["priced_spans_total", "computed"] += spans
        moved["spans_beyond_window_total",] += sum([fact.end_ns < earliest_ns for fact in facts])
        costly = [fact for fact in facts if fact.amount]
        if costly and call is not None:
            model = _sold_by(call), canonical_model(call.model)
            spend[model] += sum([fact.amount for fact in costly])
            latest[model] = costly[-1].trace_id, costly[-1].span_id

    def _count(self, name: str, *labels: str, by: float = 1, of: SpanIds | None = None) -> None:
        if by:
            self._registry.count(name, *labels, by=by, of=of)


def _ids_of(fact: Fact) -> SpanIds | None:
    """Return a span's ids; None where they are invalid on the wire, and digests here."""
    return (fact.trace_id, fact.span_id) if len(fact.trace_id) == 16 and len(fact.span_id) == 8 else None


def _sold_by(call: Call) -> str:
    """Return the name of the provider, as the ledger has it."""
    return sold_by(call.provider, priced_name(call))


def _model_of(fact: Fact, call: Call) -> str:
    """Return the model that a cost is counted under: the tool, where a tool has a price of its own."""
    return tool_label(call.tool.name or "") if fact.fee is not None and call.tool else canonical_model(call.model)


def _describe(decision: Decision, moved: Moved) -> None:
    """Move the counters that one span moves."""
    moved["genai_spans_total", decision.kind, decision.dialect] += 1
    cost = decision.cost
    if cost is not None and cost.unpriced:
        moved["unpriced_spans_total", cost.unpriced] += 1
    elif cost is not None and cost.amount is not None:
        moved["priced_spans_total", cost.source] += 1
    if decision.duplicate_of:
        moved["duplicate_spans_total",] += 1
    if decision.tool_loop:
        moved["tool_loops_total",] += 1


_FAR = 10**6
"""A ratio beyond all buckets; amounts come from the network and may be beyond what a double holds."""


def _ratio(cost: Cost) -> float:
    """Return the reported cost of a call over the computed one; 0 where one of them is unknown."""
    theirs = cost.amount if cost.source == "billed" else cost.reported
    return min(theirs, _FAR * cost.computed) / cost.computed if theirs and cost.computed else 0.0


class LedgerMetrics:
    """Implements `ledger.writer.LedgerObserver`, called on its thread.

    Commits, sizes, and whether the state can be written at all.
    """

    def __init__(self, registry: Registry) -> None:
        self.is_available = False
        self._registry = registry

    def committed(self, seconds: float, works: int, usage: StoreUsage) -> None:
        """Count a commit."""
        self._registry.observe("state_commit_duration_seconds", seconds)
        self._registry.observe("state_commit_requests", works)
        self._registry.set("state_used_bytes", usage.used_bytes)
        self._registry.set("state_map_bytes", usage.map_bytes)
        self._registry.set("state_records", usage.records)
        self._registry.set("state_evicted_records", usage.evicted)

    def available(self, available: bool) -> None:  # noqa: FBT001 - the writer's protocol
        """Set that the state can be written from now on, or cannot."""
        self.is_available = available
        self._registry.set("state_available", available)

    def read_correction(self, read: Callable[[], float]) -> None:
        """Let every scrape `read` the late correction in USD from the ledger; while it cannot be, the last one stands.

        It cannot be counted up from zero: it outlives the process.
        """

        def ask() -> None:
            try:
                self._registry.set("late_correction_usd_total", read())
            except StateError:
                return

        self._registry.before_scrape(ask)

    def read_budgets(self, read: Callable[[], Iterable[BudgetUse]]) -> None:
        """Let scrapes `read` what is used of budgets from the ledger, the most used first, for a tenth of the time at
        most; while it cannot be read, nothing is told of it.
        """
        next_at = 0.0

        def ask() -> None:
            nonlocal next_at
            began = monotonic()
            if began < next_at:
                return
            known: dict[tuple[str, ...], Row] = {}
            try:
                for names, row in read():
                    known.setdefault(tuple(map(label_text, names)), row)
            except StateError:
                known = {}
            for name, field in _OF_BUDGETS.items():
                self._registry.set_all(name, {names: row[field] for names, row in known.items()})
            next_at = monotonic() + _PAUSE * (monotonic() - began)

        self._registry.before_scrape(ask)


_PAUSE = 9
"""Times as long as it took to read what is used of budgets until it is read again."""
BudgetUse: TypeAlias = tuple[tuple[str, ...], Row]
"""Budget, period, tenant and value; and the row that the API has of it."""
_OF_BUDGETS = {
    "budget_used_usd": "used_usd",
    "budget_amount_usd": "amount_usd",
    "budget_used_ratio": "used",
    "budget_unpriced_calls": "unpriced_calls",
}
_BY_DESTINATION = tuple(row.name for row in TABLE if row.type == "counter" and row.labels == ("exporter", "signal"))


class DeliveryMetrics:
    """Implements `spanledger_exporters.DeliveryObserver`.

    Answers of destinations, and the items in them. Exporter names come from the configuration.
    """

    def __init__(self, registry: Registry, tracer: Tracer) -> None:
        self._registry = registry
        self._tracer = tracer

    def begin(self, exporter: str, signals: Iterable[Signal]) -> None:
        """Show the counters of a destination as 0 from the start; `signals` are those that it takes."""
        for name, signal in product(_BY_DESTINATION, signals):
            self._registry.begin(name, exporter, signal)

    def answered(self, exporter: str, signal: Signal, verdict: Verdict, items: int, seconds: float) -> None:
        """Count an answer of a destination."""
        self._tracer.export(exporter, signal, verdict.value, items, seconds)
        self._registry.count("export_requests_total", exporter, signal, verdict.value)

    def forwarded(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that a destination took."""
        self._registry.count("forwarded_items_total", exporter, signal, by=items)

    def rejected(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that a destination left out of a request that it accepted."""
        self._registry.count("export_rejected_items_total", exporter, signal, by=items)

    def refused(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that a destination refused for good."""
        self._registry.count("export_refused_items_total", exporter, signal, by=items)

    def retried(self, exporter: str, signal: Signal, attempts: int) -> None:
        """Count attempts after the first."""
        self._registry.count("export_retries_total", exporter, signal, by=attempts)

    def dropped(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that were not sent to a destination that is not required."""
        self._registry.count("export_dropped_items_total", exporter, signal, by=items)

    def queue(self, exporter: str, size: int, capacity: int) -> None:
        """Set the size of a queue, and its capacity."""
        self._registry.set("export_queue_size", size, exporter)
        self._registry.set("export_queue_capacity", capacity, exporter)

    def queue_refused(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that were not put into a queue."""
        self._registry.count("export_queue_refused_items_total", exporter, signal, by=items)

    def set_aside(self, exporter: str, segments: int) -> None:
        """Count damaged files of a queue that were set aside."""
        self._registry.count("export_queue_set_aside_total", exporter, by=segments)

    def unclaimed(self, signal: Signal, items: int) -> None:
        """Count items that were accepted and that no exporter takes."""
        self._registry.count("unclaimed_items_total", signal, by=items)


class Telemetry:
    """One observer for each room, over one registry.

    `window` is `state.retention.spans` in seconds, `budget` the bytes that may be in flight. Spend is also counted by
    each of `dimensions`, of which so many pairs of value and model are distinguished (`values`).
    """

    def __init__(
        self, version: str, *, window: float, budget: int, dimensions: Sequence[str] = (), values: int = 200
    ) -> None:
        self.registry = Registry(TABLE)
        self.tracer = Tracer()
        self.requests = RequestMetrics(self.registry, self.tracer)
        self.stage = StageMetrics(self.registry, int(window * 1e9), dimensions, values)
        self.ledger = LedgerMetrics(self.registry)
        self.delivery = DeliveryMetrics(self.registry, self.tracer)
        on_suppressed(lambda: self.registry.count("suppressed_log_lines_total"))
        self.registry.set("build_info", 1, version)
        self.registry.set("in_flight_budget_bytes", budget)
