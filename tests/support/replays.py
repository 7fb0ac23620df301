"""Captured requests made new: times that end now, ids of their own, and a label to find them by. The rest is as it was.

Tests that share one backend or one ledger can so send one capture many times, each a different set of calls.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from captures import Capture, captures
from gaps import reported_calls

LABEL = "replay"


class _Timeline:
    """Puts each replay before the one made last: no two overlap, so that none reports the calls of another."""

    def __init__(self) -> None:
        self._free_until = 2**63

    def shift(self, spans: list[Span]) -> int:
        """What to add to the times of `spans`, in ns."""
        self._free_until = min(self._free_until, time.time_ns()) - 10**9
        shift = self._free_until - max(span.end_time_unix_nano for span in spans)
        self._free_until = shift + min(span.start_time_unix_nano for span in spans)
        return shift


_TIMELINE = _Timeline()


@dataclass(frozen=True, slots=True)
class Replay:
    """One capture made new: `label` is the resource attribute `replay` of all its spans; `cost` (USD) is the truth, and
    `priced` are those of its `calls` of which usage is told.
    """

    label: str
    requests: tuple[bytes, ...]
    spans: dict[tuple[str, str], Span]
    cost: Decimal
    calls: int
    priced: int


def traced(but: Container[str] = ()) -> dict[str, Capture]:
    """By name, the captures that hold spans, but those of the clients `but`."""
    return {
        capture.name: capture
        for capture in captures()
        if capture.name.partition("/")[0] not in but and any(signal == "traces" for signal, _ in capture.requests)
    }


def prepare(capture: Capture) -> Replay:
    """The spans of a capture, made new."""
    answers = [call["response_id"] or "" for call in capture.truth["calls"]]
    bodies = [_with_new_ids(body, answers) for signal, body in capture.requests if signal == "traces"]
    requests = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    label = f"{capture.name}-{secrets.token_hex(4)}".replace("+", "-").replace("/", "-")
    shift = _TIMELINE.shift([span for request in requests for span in spans_of(request)])
    trace_mask, span_mask = secrets.token_bytes(16), secrets.token_bytes(8)
    for request in requests:
        for resource_spans in request.resource_spans:
            attribute = resource_spans.resource.attributes.add(key=LABEL)
            attribute.value.string_value = label
        for span in spans_of(request):
            _move(span, shift, trace_mask, span_mask)
    spans = {identity(span): span for request in requests for span in spans_of(request)}
    calls = reported_calls(capture)
    costs = [call.cost for call in calls]
    priced = sum(map(bool, costs))
    return Replay(
        label, tuple(r.SerializeToString() for r in requests), spans, sum(costs, Decimal(0)), len(calls), priced
    )


def spans_of(data: ExportTraceServiceRequest | TracesData) -> Iterator[Span]:
    """All spans, in order."""
    for resource_spans in data.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            yield from scope_spans.spans


def identity(span: Span) -> tuple[str, str]:
    """Trace id and span id."""
    return span.trace_id.hex(), span.span_id.hex()


def attributes(span: Span) -> dict[str, Any]:
    """Key to value, of the plain kinds."""
    values = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        values[attribute.key] = getattr(attribute.value, kind) if kind else None
    return values


def _with_new_ids(body: bytes, answers: list[str]) -> bytes:
    """Other response ids of the same length, wherever they stand: a second replay is of other calls."""
    for answer in answers:
        if len(answer) > 16:
            body = body.replace(answer.encode(), (answer[:-12] + secrets.token_hex(6)).encode())
    return body


def _move(span: Span, shift: int, trace_mask: bytes, span_mask: bytes) -> None:
    span.start_time_unix_nano += shift
    span.end_time_unix_nano += shift
    for event in span.events:
        event.time_unix_nano += shift
    span.trace_id, span.span_id = _mixed(span.trace_id, trace_mask), _mixed(span.span_id, span_mask)
    for link in span.links:
        link.trace_id, link.span_id = _mixed(link.trace_id, trace_mask), _mixed(link.span_id, span_mask)
    if span.parent_span_id:
        span.parent_span_id = _mixed(span.parent_span_id, span_mask)


def _mixed(identifier: bytes, mask: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(identifier, mask, strict=True))
