"""Counts what becomes of spans; implements `serving.handle.Observer`."""

from __future__ import annotations

from collections import defaultdict
from typing import TypeAlias

from spanledger_exporters.interface import Signal
from spanledger_processor.accounting.facts import Batch, Ruling
from spanledger_processor.enrichment import Reading
from spanledger_processor.model import Decision
from spanledger_processor.telemetry.labels import Bounded
from spanledger_processor.telemetry.registry import Registry
from spanledger_processor.units import USD, Pico

Moved: TypeAlias = dict[tuple[str, ...], int]
"""By counter and label values: spans. A request moves each counter once, however many spans it holds."""

_MODELS = 200
_REASONS = 50


class Stage:
    """What was read, what was counted and what it cost. `window_ns` is `state.retention.spans`."""

    def __init__(self, registry: Registry, window_ns: int) -> None:
        self._registry = registry
        self._window_ns = window_ns
        self._models = Bounded(_MODELS)
        self._reasons = Bounded(_REASONS)

    def received(self, signal: Signal, items: int) -> None:
        """Items came in."""
        self._count("received_items_total", signal, by=items)

    def accepted(self, signal: Signal, items: int) -> None:
        """Items were delivered to every required exporter."""
        self._count("accepted_items_total", signal, by=items)

    def refused(self, signal: Signal, items: int, verdict: str) -> None:
        """The sender was told to keep or to drop items."""
        self._count("refused_items_total", signal, verdict, by=items)

    def enriched(self, reading: Reading) -> None:
        """A request was read and written."""
        self._count("passed_marked_spans_total", by=reading.marked)
        for reason, spans in reading.failures.items():
            self._count("enrichment_failures_total", *self._reasons(reason), by=spans)

    def enrichment_failed(self, reason: str) -> None:
        """A request went on as it came."""
        self._count("enrichment_failures_total", *self._reasons(reason))

    def unaccounted(self, spans: int) -> None:
        """The state was not available for spans."""
        self._count("unaccounted_spans_total", by=spans)

    def ruled(self, batch: Batch, ruling: Ruling) -> None:
        """A batch was accounted for. Spans known before are counted as replays and as nothing else."""
        self._count("replayed_spans_total", by=ruling.replays)
        self._count("conflicting_spans_total", by=ruling.conflicts)
        self._count("late_corrections_total", by=ruling.corrections)
        moved: Moved = defaultdict(int)
        spend: dict[tuple[str, str], Pico] = defaultdict(int)
        for index in ruling.fresh:
            fact, decision = batch.facts[index], ruling.decisions[index]
            _describe(decision, moved)
            if decision.usage is not None and fact.end_ns < batch.now_ns - self._window_ns:
                moved["spans_beyond_window_total",] += 1
            if decision.cost is not None and decision.cost.amount and fact.call is not None:
                spend[fact.call.provider, fact.call.model] += decision.cost.amount
        for (name, *labels), spans in moved.items():
            self._count(name, *labels, by=spans)
        for models, amount in spend.items():
            self._count("cost_usd_total", *self._models(*models), by=amount / USD)

    def _count(self, name: str, *labels: str, by: float = 1) -> None:
        if by:
            self._registry.count(name, *labels, by=by)


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
