"""Spans that are made from something else."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otlp_bytes import values
from spanledger_processor.otlp.encoding import (
    CLIENT,
    MOST_VIEWS,
    SynthesizedSpan,
    any_value,
    encode_traces,
    encoding_traces,
)
from spanledger_processor.otlp.request import parse_traces
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import finished

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


def test_a_request_has_the_bytes_that_protobuf_writes() -> None:
    """Attributes are written without messages; whatever they hold, and with a status behind them or none."""
    attributes = {
        "text": "é",
        "long": "x" * 20_000,
        "empty": "",
        "surrogate": "a\ud800",
        "on": True,
        "off": False,
        "zero": 0,
        "least": -(2**63),
        "most": 2**63 - 1,
        "beyond": 2**63,
        "minus": -0.0,
        "infinite": float("inf"),
        "raw": b"\xff",
        "none": None,
        "list": [1, None, "a"],
        "of": {"a": {}, "": 1},
        "": "no key",
    }
    resource = {"service.name": "s", "": 1, "list": ["a"], "absent": None}
    for status in (0, 2):
        span = made(parent_id=PARENT, kind=CLIENT, status_code=status, attributes=attributes, resource=resource)
        expected = ExportTraceServiceRequest()
        group = expected.resource_spans.add()
        group.resource.attributes.extend(_pairs(dict(sorted(resource.items()))))
        scoped = group.scope_spans.add()
        scoped.scope.SetInParent()
        written = scoped.spans.add(trace_id=TRACE, span_id=SPAN, parent_span_id=PARENT, name="chat")
        written.kind, written.start_time_unix_nano, written.end_time_unix_nano = CLIENT, 1, 2  # type: ignore[assignment]
        written.attributes.extend(_pairs(attributes))
        if status:
            written.status.code = status  # type: ignore[assignment]
        assert encode_traces([span]) == expected.SerializeToString()


def _pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items() if value is not None]


def test_the_first_spans_of_a_request_have_their_views_and_the_others_are_parsed() -> None:
    spans = [made(f"span {number}", attributes={"number": number}) for number in range(MOST_VIEWS + 2)]
    request = finished(encoding_traces(spans))
    again = parse_traces(request.body)
    assert (request.span_count, len(request.groups)) == (MOST_VIEWS + 2, 1)
    assert [*request.groups[0].items] == [*again.groups[0].items]
    for place in (0, MOST_VIEWS - 1, MOST_VIEWS, MOST_VIEWS + 1):
        view, parsed = request.view(0, place), again.view(0, place)
        assert (view.head(), view.name, view.kind) == (parsed.head(), parsed.name, parsed.kind)
        assert view.attributes.get("number") == parsed.attributes.get("number") == place
    assert request.view(0, 0) is request.view(0, 0)
    assert request.view(0, MOST_VIEWS) is not request.view(0, MOST_VIEWS)
