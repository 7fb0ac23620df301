"""Spans of log events are read by the values that they were encoded of, as their bytes would be."""

from __future__ import annotations

import pytest

from captures import Capture, captures
from spanledger_processor.config import load
from spanledger_processor.enrichment import Reading, Stage, write
from spanledger_processor.enrichment.logs import encoding
from spanledger_processor.otlp.request import TraceRequest
from spanledger_processor.otlp.wire import finished
from spanledger_processor.server.wiring import make_log_stage, make_stage
from spanledger_processor.signing import Signer

NOW_NS = 1_790_000_000 * 10**9
CONFIG, SIGNER = load((), ()), Signer(b"k" * 32)
LOGS = make_log_stage(CONFIG, SIGNER)


def stage() -> Stage:
    return make_stage(CONFIG, SIGNER)


def synthesized(capture: Capture) -> list[TraceRequest]:
    made = (LOGS.read(body, {}).spans for signal, body in capture.requests if signal == "logs")
    return [finished(encoding(spans)) for spans in made if spans]


WITH_SPANS = [capture for capture in captures() if synthesized(capture)]


@pytest.mark.parametrize("capture", WITH_SPANS, ids=lambda capture: capture.name)
def test_what_is_read_of_values_is_what_is_read_of_bytes(capture: Capture) -> None:
    by_values, by_bytes = stage(), stage()
    for request in synthesized(capture):
        body = request.body
        reading = finished(by_values.reading_synthesized(request, {}, NOW_NS))
        other = by_bytes.read(body, {}, NOW_NS)
        assert reading.batches == other.batches
        assert (reading.places, reading.own, reading.names) == (other.places, other.own, other.names)
        assert not reading.failures
        assert _without_decisions(reading) == _without_decisions(other)


def _without_decisions(reading: Reading) -> bytes:
    return write(reading, [{} for _ in reading.batches])


@pytest.mark.parametrize("capture", WITH_SPANS, ids=lambda capture: capture.name)
def test_views_at_hand_are_those_of_the_bytes(capture: Capture) -> None:
    for request in synthesized(capture):
        without = TraceRequest(request.body, request.groups, request.span_count)
        for number, group in enumerate(request.groups):
            for place in range(len(group.items)):
                view, parsed = request.view(number, place), without.view(number, place)
                assert view.head() == parsed.head()
                assert (view.name, view.kind, view.status_code) == (parsed.name, parsed.kind, parsed.status_code)
                assert view.attributes.contents() == parsed.attributes.contents()
