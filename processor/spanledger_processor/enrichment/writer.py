"""From decisions to the bytes that leave. Each GenAI span gains its attributes; everything else stays as it came."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, MutableMapping, Sequence
from functools import partial

from spanledger_processor.accounting.facts import Fact
from spanledger_processor.enrichment.attributes import encode
from spanledger_processor.enrichment.marks import RewritePlan, plan_rewrite, rewrite
from spanledger_processor.enrichment.reading import Place, Reading
from spanledger_processor.enrichment.stage import RELEASED, SLICE
from spanledger_processor.model import Decision
from spanledger_processor.otlp.request import TraceRequest
from spanledger_processor.otlp.values import GIANT
from spanledger_processor.otlp.wire import MalformedError, Steps, finished


def write(reading: Reading, decisions: Sequence[Mapping[int, Decision]]) -> bytes:
    """Return the request with attributes appended: `decisions` is a mapping a batch, by the fact's index in it."""
    return finished(writing(reading, decisions))


def writing(reading: Reading, decisions: Sequence[Mapping[int, Decision]]) -> Steps[bytes]:
    """Write a request in slices: yields after each `SLICE`, returns the request."""
    yield from applying(reading, decisions)
    return (yield from reading.request.serializing())


def applying(reading: Reading, decisions: Sequence[Mapping[int, Decision]]) -> Steps[None]:
    """Append what was decided to the spans of a request that is to be serialized, in slices; move aside what only
    Spanledger writes.
    """
    request, own = reading.request, reading.own
    written = 0
    for places, decided in zip(reading.places, decisions, strict=True):
        for index, decision in decided.items():
            written += 1
            if written % SLICE == 0:
                yield None
            place = places[index]
            if not own or place not in own:
                request.append(*place, encode(decision))
    if own:
        yield from _writing_own(reading, decisions)


def appending(
    reading: Reading, batch: int, part: Iterable[int], decided: Mapping[int, Decision]
) -> Steps[dict[int, Decision]]:
    """Append what was decided on a part of a batch, in slices, and let go of its facts, so that a large request never
    holds the facts, decisions and attributes of all of its spans. `part` are the places of the facts.

    Returns the decisions that are left for `writing`: on spans that may have attributes which only Spanledger writes.
    """
    request, own = reading.request, reading.own
    facts, places = reading.batches[batch].facts, reading.places[batch]
    left: dict[int, Decision] = {}
    for number, (index, decision) in enumerate(decided.items(), 1):
        if number % SLICE == 0:
            yield None
        place = places[index]
        if place in own:
            left[index] = decision
        else:
            request.append(*place, encode(decision))
    for index in part:
        facts[index] = _WRITTEN
    return left


_WRITTEN = Fact(b"", b"")
"""Stands in the place of a fact that is needed no more."""


def _writing_own(reading: Reading, decisions: Sequence[Mapping[int, Decision]]) -> Steps[None]:
    """Write the spans that may have attributes which only Spanledger writes, in slices."""
    request = reading.request
    by_place: dict[Place, Decision] = {}
    for places, decided in zip(reading.places, decisions, strict=True):
        for number, (index, decision) in enumerate(decided.items(), 1):
            by_place[places[index]] = decision
            if number % RELEASED == 0:
                yield None
    for number, (group, span) in enumerate(reading.own, 1):
        decided_on = by_place.pop((group, span), None)
        if number % SLICE == 0:
            yield None
        encoded = request.groups[group].items[span]
        planning = partial(_plan_of, reading, (group, span), decided_on)
        plan = planning() if len(encoded) <= GIANT else (yield planning)
        if plan is None:
            continue
        if plan.moved or plan.left_out or plan.missed or plan.unreadable:
            rewriting = partial(rewrite, encoded, plan)
            request.replace(group, span, rewriting() if len(encoded) <= GIANT else (yield rewriting))
        elif plan.extra:
            request.append(group, span, plan.extra)


def releasing(reading: Reading, decisions: Sequence[MutableMapping[int, Decision]]) -> Generator[None, None, None]:
    """Let go of the facts of a request and of what was decided on them, in slices: to free all of a large one at once
    takes as long as a slice of every other step many times. Only its `request` is of use afterwards.
    """
    for batch, decided in zip(reading.batches, decisions, strict=True):
        while batch.facts or decided:
            del batch.facts[-RELEASED:]
            for _ in range(min(RELEASED, len(decided))):
                decided.popitem()
            yield


def releasing_request(request: TraceRequest) -> Generator[None, None, None]:
    """Let go of the bytes of a request and of where its spans stand, in slices; it is of no use afterwards."""
    request.body = b""
    while request.groups:
        del request.groups[-RELEASED:]
        yield


def additions(
    reading: Reading, decisions: Sequence[Mapping[int, Decision]]
) -> tuple[dict[int, bytes], dict[int, list[int]]]:
    """Return what `write` appends to spans, and the places of the attributes that it moves aside, both by the spans'
    places in the request counted over all groups.
    """
    first, own = reading.first_places(), reading.own
    appended: dict[int, bytes] = {}
    moved: dict[int, list[int]] = {}
    by_place: dict[Place, Decision] = {}
    for places, decided in zip(reading.places, decisions, strict=True):
        for index, decision in decided.items():
            place = places[index]
            if not own or place not in own:
                appended[first[place[0]] + place[1]] = encode(decision)
            else:
                by_place[place] = decision
    for place in own:
        plan = _plan_of(reading, place, by_place.get(place))
        if plan is not None:
            span = first[place[0]] + place[1]
            appended[span] = plan.extra
            if forged := plan.forged_places:
                moved[span] = forged
    return appended, moved


def _plan_of(reading: Reading, place: Place, decision: Decision | None) -> RewritePlan | None:
    """Return what becomes of a span that may have attributes which only Spanledger writes, None: it stays."""
    span = reading.request.groups[place[0]].items[place[1]]
    try:
        decided = b"" if decision is None else encode(decision)
        plan = plan_rewrite(span, reading.request.view(*place, span).attributes, decided, reading.names)
    except MalformedError:
        plan = RewritePlan(b"", unreadable=True)
    reading.marked += plan.known
    reading.forged += len(plan.forged_places) + plan.unreadable
    return plan if decision is not None or plan.forged_places or plan.unreadable else None
