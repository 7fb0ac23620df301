"""Requests taken through the stage as in `serve`, span by span, over a ledger of their own in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.config import Config
from spanledger_processor.enrichment.facts import View, price_time
from spanledger_processor.enrichment.stage import Reading
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.model import Decision
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.pricing import Explanation, explain
from spanledger_processor.server.wiring import make_pricer, make_stage
from spanledger_processor.signing.signer import Signer
from spanledger_processor.units import Pico


@dataclass(slots=True)
class ReplayedSpan:
    """One GenAI span: what it says, what was decided, and how its price came about."""

    span: SpanView
    view: View
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
        for batch, places in zip(reading.batches, reading.places, strict=True):
            with store.unit() as unit:
                ruling = enter(batch, unit)
            replayed.correction += ruling.correction
            for index, decision in sorted(ruling.decisions.items(), key=lambda item: places[item[0]]):
                fact = batch.facts[index]
                group, place = places[index]
                scope = reading.request.groups[group]
                span = SpanView.parse(scope.items[place])
                price = None
                if fact.cost is not None and fact.call is not None:
                    at_ns, own = price_time(span.start_ns, now_ns)
                    price = explain(fact.call, at_ns, pricer, time_known=own)
                replayed.spans.append(ReplayedSpan(span, View(span, scope), fact, decision, price))
    replayed.plain -= len(replayed.spans) + replayed.failures
    return replayed


def _links(reading: Reading) -> Iterator[tuple[bytes, bytes]]:
    for batch in reading.batches:
        for fact in batch.facts:
            yield fact.span_id, fact.parent_id
