"""Explanations of what became of each span, in plain values: the answer of `spanledger explain`.

`Replay` takes the requests through the stage as `serve` does, span by span, over a ledger of their own in memory.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.decide import span_of
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.accounting.grouping import MAX_DEPTH
from spanledger_processor.accounting.one_call import ONE_CALL, TWO_CALLS
from spanledger_processor.config import Config
from spanledger_processor.config.section import AttributeKeys
from spanledger_processor.dialects.keys import specialize
from spanledger_processor.dialects.registry import DIALECTS
from spanledger_processor.dialects.usage import source_for
from spanledger_processor.enrichment.facts import ScopedSpanView, price_time
from spanledger_processor.enrichment.reading import Reading
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.rows import exact_usd, money
from spanledger_processor.model import Call, Decision
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import finished
from spanledger_processor.pricing import Explanation, explain
from spanledger_processor.pricing.explain import REASONS
from spanledger_processor.pricing.pricer import OF_TOOL
from spanledger_processor.server.slices import are_many, is_large, parts_of
from spanledger_processor.server.wiring import make_pricer, make_stage
from spanledger_processor.signing.signer import Signer
from spanledger_processor.units import Pico


@dataclass(slots=True)
class ReplayedSpan:
    """One GenAI span: its fact, the decision on it, and the explanation of its price."""

    span: SpanView
    view: ScopedSpanView
    fact: Fact
    decision: Decision
    price: Explanation | None


@dataclass(slots=True)
class Replay:
    """What became of the spans of some requests. `plain` counts those that are no GenAI spans, `links` all parents.

    `failures` counts the spans that could not be read. `correction` is by how much the costs that the spans were sent
    with exceed the ledger: what came later proved some of them repeats.
    """

    spans: list[ReplayedSpan]
    links: dict[bytes, bytes]
    plain: int = 0
    failures: int = 0
    correction: Pico = 0


def replay(config: Config, signer: Signer, bodies: Iterable[bytes]) -> Replay:
    """Take trace requests (protobuf) through the stage in order.

    Raises:
        MalformedError: one of them is none.
    """
    stage, pricer, store = make_stage(config, signer), make_pricer(config), MemoryStore()
    replayed = Replay([], {})
    for body in bodies:
        now_ns = time.time_ns()
        reading = stage.read(body, {}, now_ns)
        replayed.failures += sum(reading.failures.values())
        replayed.plain += reading.request.span_count
        replayed.links.update(_links(reading))
        large = is_large(body) or are_many(reading.fact_count())
        for batch, places in zip(reading.batches, reading.places, strict=True):
            decisions: dict[int, Decision] = {}
            for part in finished(parts_of(batch)) if large else (range(len(batch.facts)),):
                of_part = batch
                if len(part) < len(batch.facts):
                    of_part = replace(batch, facts=[batch.facts[index] for index in part], is_part=True)
                with store.unit() as unit:
                    ruling = enter(of_part, unit)
                replayed.correction += ruling.correction
                decisions.update((part[index], decision) for index, decision in ruling.decisions.items())
            for index, decision in sorted(decisions.items(), key=lambda item: places[item[0]]):
                fact = batch.facts[index]
                group, place = places[index]
                scope = reading.request.groups[group]
                span = SpanView.parse(scope.items[place])
                price = None
                if fact.cost is not None and fact.call is not None:
                    at_ns, own = price_time(span.start_ns, now_ns)
                    price = explain(fact.call, at_ns, pricer, time_known=own)
                replayed.spans.append(ReplayedSpan(span, ScopedSpanView(span, scope), fact, decision, price))
        stage.entered(reading)
    replayed.plain -= len(replayed.spans) + replayed.failures
    return replayed


def _links(reading: Reading) -> Iterator[tuple[bytes, bytes]]:
    for batch in reading.batches:
        for fact in batch.facts:
            yield fact.span_id, fact.parent_id


SpanExplanation: TypeAlias = dict[str, Any]

_BY_NAME = {dialect.name: dialect for dialect in DIALECTS}

_WITHOUT_USAGE = frozenset({"tool", "agent", "workflow", "retrieval", "rerank", "other"})

_SOURCES: Mapping[str, str] = {
    "parent": "the nearest span above it that names one",
    "trace": "the only one named in its trace",
    "session": "the only run that spans of its session name",
    "parent_session": "the run of the session that spawned its own",
    "session_id": "no run is named: the session is its own run",
    "file": "the file it was made from",
}


class Explainer:
    """Explains the spans of a replay, which may refer to each other."""

    def __init__(self, config: Config, replayed: Replay) -> None:
        self._config = config
        self._replay = replayed
        self._by_id = {span.fact.span_id.hex(): span for span in replayed.spans}
        self._duplicates: dict[str, list[ReplayedSpan]] = defaultdict(list)
        for span in replayed.spans:
            if span.decision.duplicate_of:
                self._duplicates[span.decision.duplicate_of].append(span)

    def rows(self) -> Iterator[SpanExplanation]:
        """Yield one for each GenAI span, in the order they came."""
        for span in self._replay.spans:
            if span.fact.call is not None:
                yield self._answer(span, span.fact.call)

    def _answer(self, span: ReplayedSpan, call: Call) -> SpanExplanation:
        decision, fact = span.decision, span.fact
        role, why = self._role(span, call)
        return {
            "name": span.span.name,
            "span_id": fact.span_id.hex(),
            "trace_id": fact.trace_id.hex(),
            "parent_span_id": fact.parent_id.hex() or None,
            "scope": f"{span.view.scope_name} {span.view.scope_version}".strip(),
            "kind": decision.kind,
            "dialect": decision.dialect,
            "recognised_by": _signs(span, call),
            "granularity": decision.granularity,
            "provider": call.provider,
            "request_model": call.request_model,
            "response_model": call.response_model,
            "usage": None if call.usage is None else asdict(call.usage),
            "input_means": _meaning(span, call),
            "problem": call.problem or None,
            "role": role,
            "why": why,
            "duplicate_of": decision.duplicate_of or None,
            "cost": _cost(decision),
            "arithmetic": list(_arithmetic(span, call)),
            "tool": _tool(decision, call),
            "session": self._named(span, decision.session_id, decision.session_source, "session"),
            "run": self._named(span, decision.run_id, decision.run_source, "run"),
            "session_missing": None if decision.session_id else self._how_to_name(),
            "note": decision.note or None,
        }

    def _role(self, span: ReplayedSpan, call: Call) -> tuple[str, str]:
        """Return the span's role, and why: by which rule of `count_once`."""
        decision = span.decision
        if decision.repeats_children:
            counted = "rule 5: its usage is that of spans that it holds in time"
            if below := self._spending_below(span.fact.span_id):
                number = sum(other.decision.usage is not None for other in below)
                counted = f"rule 4: its usage is that of spans below it ({number} counted here)"
            return "repeats_children", f"{counted}, worth ${exact_usd(decision.subtree or 0)}"
        if decision.duplicate_of:
            return "duplicate", self._twin(span, call)
        if decision.cost is None:
            silent = call.usage is None and call.reported is None and call.kind in _WITHOUT_USAGE
            if silent:
                return "none", "it says nothing of usage"
            if span.fact.cost is None:
                return "none", "failed before an answer: no call"
            rule = "rule 1" if call.usage is None and call.fallback is not None else "rule 7"
            return "none", f"{rule}: what it says, other spans tell"
        near = self._near(decision)
        if decision.cost.unpriced:
            return "counted", f"rule 8: unpriced: {REASONS[decision.cost.unpriced]}{near}"
        if duplicates := self._duplicates.get(span.fact.span_id.hex()):
            rules = " and ".join(f"rule {rule}" for rule in sorted({self._rule(one) for one in duplicates}))
            number = len(duplicates) + 1
            return "counted", f"{rules}: of the {number} spans that tell of this call it is the one that counts"
        if decision.cost.price.startswith(OF_TOOL):
            return "counted", "the tool costs something by itself (processor.tools.prices)"
        return "counted", f"rule 8: no other span that counts tells its usage{near}"

    def _near(self, decision: Decision) -> str:
        """Return the span that might have been taken for the same call, and the reason that it was not."""
        code, other = decision.reason if decision.reason else ("", "")
        if code not in TWO_CALLS:
            return ""
        return f"; not the call of {self._span(other)}: {TWO_CALLS[code]}" if other else f"; {TWO_CALLS[code]}"

    def _span(self, span_id: str) -> str:
        known = self._by_id.get(span_id)
        if known is None:
            return f"span {span_id}"
        return f'span {span_id} ("{known.span.name}" of {known.view.scope_name or "no scope"})'

    def _spending_below(self, span_id: bytes) -> list[ReplayedSpan]:
        """Return the spans below one by which it repeats what they claim: those that spend, but not its own reports."""
        own = span_id.hex()
        return [
            other
            for other in self._replay.spans
            if _spends(other) and other.decision.duplicate_of != own and self._is_above(span_id, other)
        ]

    def _is_above(self, span_id: bytes, span: ReplayedSpan) -> bool:
        parent = span.fact.parent_id
        for _ in range(MAX_DEPTH):
            if parent == span_id:
                return True
            parent = self._replay.links.get(parent, b"")
        return False

    def _rule(self, duplicate: ReplayedSpan) -> int:
        """Return the number of the rule of `count_once` that made a span a duplicate."""
        if duplicate.decision.reason and duplicate.decision.reason[0] == "tells more":
            return 6
        twin = self._by_id.get(duplicate.decision.duplicate_of)
        return 2 if twin is None or twin.fact.trace_id != duplicate.fact.trace_id else 3

    def _twin(self, span: ReplayedSpan, call: Call) -> str:
        decision = span.decision
        twin, counted = self._by_id.get(decision.duplicate_of), self._span(decision.duplicate_of)
        code = decision.reason[0] if decision.reason else ""
        same = twin is not None and twin.fact.call is not None and call.response_id == twin.fact.call.response_id
        why = f": {ONE_CALL[code]}" if code in ONE_CALL else ""
        which = f" ({call.response_id})" if code == "same id" and same else ""
        return f"rule {self._rule(span)}: {counted} counts for the same call{why}{which}"

    def _how_to_name(self) -> str:
        """Return what a sender has to set, for its spans to have a session."""
        keys = self._config.processor.sessions.keys
        if not keys:
            return "no span can name one: processor.sessions.keys is empty"
        first, *others = [key for key in keys if not key.startswith("spanledger.")] or keys
        more = f", or {others[0]} or another of processor.sessions.keys" if others else ""
        return (
            f"set {first} on its spans{more}; or once for a process that is one session: "
            f"OTEL_RESOURCE_ATTRIBUTES={first}=ID"
        )

    def _named(self, span: ReplayedSpan, identifier: str, source: str, what: str) -> SpanExplanation | None:
        if not identifier:
            return None
        why = _SOURCES.get(source, "")
        if source in ("attribute", "resource"):
            keys: AttributeKeys = (
                self._config.processor.sessions.keys if what == "session" else self._config.processor.runs.keys
            )
            there = span.view.attributes if source == "attribute" else span.view.resource
            key = next((key for key in keys if there.get(key) not in (None, "")), "")
            why = f"{key} of the {'span' if source == 'attribute' else 'resource'}"
        return {"id": identifier, "source": source, "why": why}


def _spends(span: ReplayedSpan) -> bool:
    """Return whether a span claims usage or cost; a raw answer (rule 1) does only where it is counted."""
    claim = span_of(span.fact).claim
    return claim is not None and claim.spends and (not claim.fallback or span.decision.usage is not None)


def _signs(span: ReplayedSpan, call: Call) -> list[str]:
    """Return the attributes, or the scope, that gave its vocabulary away."""
    dialect = _BY_NAME.get(call.dialect)
    if dialect is None:
        return []
    keys = sorted(key for key in dialect.detection.keys if key in span.view.attributes)
    return keys or [f"scope {span.view.scope_name}"]


def _meaning(span: ReplayedSpan, call: Call) -> str | None:
    """Return the rule by which the count of input tokens was read."""
    dialect = _BY_NAME.get(call.dialect)
    if dialect is None or call.usage is None:
        return None
    view = span.view
    sources = specialize(dialect, frozenset(view.attributes.keys()), view.scope_name, view.scope_version).sources
    source = source_for(sources, call.provider)
    return source.input.value + (f": {source.why}" if source.why else "")


def _arithmetic(span: ReplayedSpan, call: Call) -> Iterator[str]:
    if span.price is None or call.usage is None:
        return
    cost = span.price.cost
    yield from span.price.names[1:]
    yield from map(str, span.price.lines)
    if cost.computed is not None:
        doubt = f" ({span.price.doubt})" if span.price.doubt else ""
        yield f"computed ${exact_usd(cost.computed)}{f', an estimate{doubt}' if cost.estimate else ''}"
    if cost.reported is not None:
        yield f"reported ${exact_usd(cost.reported)}"


def _cost(decision: Decision) -> SpanExplanation | None:
    cost = decision.cost
    if cost is None:
        return None
    return {
        **({} if cost.amount is None else money(cost.amount)),
        "source": cost.source or None,
        "price": cost.price or None,
        "estimate": cost.estimate,
        "unpriced": cost.unpriced,
        "computed_usd_exact": None if cost.computed is None else exact_usd(cost.computed),
        "reported_usd_exact": None if cost.reported is None else exact_usd(cost.reported),
    }


def _tool(decision: Decision, call: Call) -> SpanExplanation | None:
    if decision.signature is None:
        return None
    return {
        "name": call.tool.name if call.tool else None,
        "signature": decision.signature.value,
        "signature_scope": decision.signature.scope,
        "repeats": decision.tool_repeats,
        "consecutive": decision.tool_consecutive,
        "loop": decision.tool_loop,
    }
