"""From decisions back to bytes: each GenAI span gains its attributes, everything else stays as it came."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from spanledger_processor.enrichment.attributes import encode_for
from spanledger_processor.enrichment.read import SLICE, Reading, finished
from spanledger_processor.model import Decision


def write(reading: Reading, decisions: Sequence[Mapping[int, Decision]]) -> bytes:
    """Return the request with attributes appended: `decisions` is a mapping a batch, by the fact's place in it."""
    return finished(writing(reading, decisions))


def writing(reading: Reading, decisions: Sequence[Mapping[int, Decision]]) -> Generator[None, None, bytes]:
    """Write a request in slices: yields after each `SLICE`, returns the request."""
    for places, decided in zip(reading.places, decisions, strict=True):
        for written, (index, decision) in enumerate(decided.items()):
            if written % SLICE == SLICE - 1:
                yield
            group, span = places[index]
            reading.request.append(group, span, encode_for(decision, reading.request.groups[group].items[span]))
    return reading.request.serialize()


def additions(reading: Reading, decisions: Sequence[Mapping[int, Decision]]) -> dict[int, bytes]:
    """Return what `write` appends, by the spans' places in the request counted over all groups."""
    groups, first = reading.request.groups, reading.first_places()
    appended: dict[int, bytes] = {}
    for places, decided in zip(reading.places, decisions, strict=True):
        for index, decision in decided.items():
            group, span = places[index]
            appended[first[group] + span] = encode_for(decision, groups[group].items[span])
    return appended
