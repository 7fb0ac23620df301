"""Spans that are made from something else."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otlp_bytes import values
from spanledger_processor.otlp.encoding import CLIENT, SynthesizedSpan, encode_traces
from spanledger_processor.otlp.request import parse_traces
from spanledger_processor.otlp.views import SpanView

TRACE, SPAN, PARENT = bytes(range(16)), bytes(range(8)), bytes(range(8, 16))


def made(name: str = "chat", **more: Any) -> SynthesizedSpan:
    return SynthesizedSpan(TRACE, SPAN, name, 1, 2, **more)


def test_a_made_span_holds_what_it_was_given() -> None:
    attributes = {
        "text": "é",
        "count": 2**63 - 1,
        "cost": 0.5,
        "on": True,
        "raw": b"\xff",
        "list": [1, None],
        "of": {"a": {}},
    }
    span = made(
        parent_id=PARENT,
        kind=CLIENT,
        status_code=2,
        attributes=attributes,
        resource={"service.name": "claude-code"},
        scope_name="scope",
        scope_version="1",
    )
    (group,) = parse_traces(encode_traces([span])).groups
    view = SpanView.parse(group.items[0])
    assert (view.trace_id, view.span_id, view.parent_span_id, view.name) == (TRACE, SPAN, PARENT, "chat")
    assert (view.kind, view.status_code, view.start_ns, view.end_ns) == (CLIENT, 2, 1, 2)
    assert values(view.attributes) == attributes
    assert group.resource_attributes.get("service.name") == "claude-code"
    assert (group.scope_name, group.scope_version) == ("scope", "1")


def test_spans_are_grouped_by_resource_and_scope_in_their_order() -> None:
    spans = [
        made("1", resource={"a": 1, "b": 2}, scope_name="x"),
        made("2", resource={"a": 2}),
        made("3", resource={"b": 2, "a": 1}, scope_name="y"),
        made("4", resource={"a": 1, "b": 2}, scope_name="x"),
    ]
    request = ExportTraceServiceRequest.FromString(encode_traces(spans))
    names = [[[s.name for s in scoped.spans] for scoped in group.scope_spans] for group in request.resource_spans]
    assert names == [[["1", "4"], ["3"]], [["2"]]]


def test_what_no_attribute_can_hold() -> None:
    """An absent value is no attribute; a number beyond int64 and lone surrogates are written as near as can be."""
    view = SpanView.parse(
        parse_traces(encode_traces([made("\ud800", attributes={"none": None, "large": 2**63, "odd\udfff": "\ud800"})]))
        .groups[0]
        .items[0]
    )
    assert view.name == "?"
    assert values(view.attributes) == {
        "large": "9223372036854775808",
        "odd?": "?",
    }


def test_no_spans_make_an_empty_request() -> None:
    assert encode_traces([]) == b""
