"""Reading trace requests and appending to their spans, whatever way they are encoded in."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otlp_bytes import (
    Node,
    attribute,
    encode,
    files,
    message,
    name_of,
    rewritten_requests,
    span,
    values,
    values_of,
    varint,
)
from spanledger_processor.otlp.request import TraceRequest, count_traces, parse_traces
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import MalformedError

EXTRA = attribute(b"spanledger.kind", message(1, b"llm"))


def append_to_all(request: TraceRequest, extra: bytes = EXTRA) -> bytes:
    for number, group in enumerate(request.groups):
        for place in range(len(group.items)):
            request.append(number, place, extra)
    return request.serialize()


def spans_of(nodes: list[Node]) -> list[list[list[Node]]]:
    """For each scope in order: its span nodes, each with the nodes it stands in."""
    return [
        [[outer, scoped, inner] for inner in scoped.content if isinstance(inner, Node) and inner.number == 2]
        for outer in nodes
        if outer.number == 1 and isinstance(outer.content, list)
        for scoped in outer.content
        if scoped.number == 2
    ]


def spliced(nodes: list[Node], places: set[tuple[int, int]]) -> bytes:
    """What appending must give: the same tree, only with the lengths around what was appended in their short form."""
    nodes = deepcopy(nodes)
    for number, spans in enumerate(spans_of(nodes)):
        for place, path in enumerate(spans):
            if (number, place) in places:
                content = path[-1].content
                path[-1].content = (content if isinstance(content, bytes) else encode(content)) + EXTRA
                for node in path:
                    node.padding = (node.padding[0], 0)
    return encode(nodes)


@pytest.mark.parametrize("path", files("traces"), ids=name_of)
def test_recorded_requests_keep_their_bytes_until_something_is_appended(path: Path) -> None:
    body = path.read_bytes()
    request = parse_traces(body)
    assert request.serialize() == body
    published = ExportTraceServiceRequest.FromString(body)
    spans = [s for outer in published.resource_spans for scoped in outer.scope_spans for s in scoped.spans]
    assert request.span_count == len(spans)
    for recorded in spans:
        recorded.attributes.add(key="spanledger.kind").value.string_value = "llm"
    assert ExportTraceServiceRequest.FromString(append_to_all(request)) == published


@settings(max_examples=60, deadline=None)
@given(rewritten_requests(), st.data())
def test_only_lengths_around_the_spans_appended_to_change(nodes: list[Node], data: st.DataObject) -> None:
    """Unknown fields, disorder, split messages and numbers longer than needed come through byte for byte."""
    body = encode(nodes)
    request = parse_traces(body)
    assert request.serialize() == body
    places = [(number, place) for number, group in enumerate(request.groups) for place in range(len(group.items))]
    chosen = data.draw(st.sets(st.sampled_from(places)))
    for number, place in chosen:
        request.append(number, place, EXTRA)
    assert request.serialize() == spliced(nodes, chosen)


@settings(max_examples=60, deadline=None)
@given(rewritten_requests())
def test_any_encoding_reads_as_protobuf_reads_it(nodes: list[Node]) -> None:
    body = encode(nodes)
    published = ExportTraceServiceRequest.FromString(body)
    groups = iter(parse_traces(body).groups)
    for outer in published.resource_spans:
        for scoped in outer.scope_spans:
            group = next(groups)
            assert (group.scope_name, group.scope_version) == (scoped.scope.name, scoped.scope.version)
            assert values(group.resource_attributes) == values_of(outer.resource.attributes)
            for encoded, recorded in zip(group.items, scoped.spans, strict=True):
                same_span(SpanView.parse(encoded), recorded)
    assert next(groups, None) is None


def same_span(view: SpanView, recorded: Span) -> None:
    assert (view.trace_id, view.span_id, view.parent_span_id) == (
        recorded.trace_id,
        recorded.span_id,
        recorded.parent_span_id,
    )
    assert (view.name, view.kind, view.status_code) == (recorded.name, recorded.kind, recorded.status.code)
    assert (view.start_ns, view.end_ns) == (recorded.start_time_unix_nano, recorded.end_time_unix_nano)
    assert values(view.attributes) == values_of(recorded.attributes)
    events = [(event.name, event.time_ns, values(event.attributes)) for event in view.events]
    assert events == [(e.name, e.time_unix_nano, values_of(e.attributes)) for e in recorded.events]


def test_appending_twice_to_a_span_keeps_the_order() -> None:
    request = parse_traces(span(b""))
    request.append(0, 0, attribute(b"a", b""))
    request.append(0, 0, attribute(b"b", b""))
    published = ExportTraceServiceRequest.FromString(request.serialize())
    assert [a.key for a in published.resource_spans[0].scope_spans[0].spans[0].attributes] == ["a", "b"]


def test_groups_are_counted_over_the_whole_request() -> None:
    """One group a scope, also for a scope without spans and a resource without scopes."""
    body = (
        message(1, message(2, message(2, message(5, b"a"))), message(2))
        + message(1)
        + message(1, message(2, message(2, message(5, b"b")), message(2, message(5, b"c"))))
    )
    request = parse_traces(body)
    assert [len(group.items) for group in request.groups] == [1, 0, 2]
    request.append(2, 1, EXTRA)
    assert request.serialize() == (
        message(1, message(2, message(2, message(5, b"a"))), message(2))
        + message(1)
        + message(1, message(2, message(2, message(5, b"b")), message(2, message(5, b"c"), EXTRA)))
    )


@pytest.mark.parametrize("size", [0, 1, 100, 124, 125, 126, 16_380, 16_381, 16_382, 2**21])
def test_spans_of_every_size_around_those_appended_to(size: int) -> None:
    """Lengths of one, two, three and four bytes; some grow by a byte."""
    spans = [message(5, b"x" * size), message(5, b"y" * size), message(5, b"z" * size)]
    request = parse_traces(message(1, message(2, *(message(2, content) for content in spans))))
    request.append(0, 1, EXTRA)
    appended = message(2, spans[0]), message(2, spans[1], EXTRA), message(2, spans[2])
    assert request.serialize() == message(1, message(2, *appended))


INVALID = b"\xff\xfe\x80"


@pytest.mark.parametrize(
    "body",
    [
        message(1, message(1, attribute(INVALID, message(1, INVALID), 1)), message(2, message(2))),
        message(1, message(2, message(1, message(1, INVALID), message(2, INVALID)), message(2))),
        message(1, message(2, message(2), message(3, INVALID)), message(3, INVALID)),
        span(message(5, INVALID), message(3, INVALID)),
        span(attribute(INVALID, message(1, INVALID)), attribute(b"k", message(1, INVALID))),
        span(message(11, message(2, INVALID), attribute(INVALID, message(1, INVALID), 3))),
        span(message(15, message(2, INVALID))),
    ],
    ids=["resource", "scope", "schema_url", "name and trace_state", "attributes", "event", "status"],
)
def test_text_that_is_not_utf_8_is_read_and_keeps_its_bytes(body: bytes) -> None:
    request = parse_traces(body)
    assert request.serialize() == body
    (group,) = request.groups
    assert "�" in group.scope_name + group.scope_version or not group.scope_name
    values(group.resource_attributes)
    (encoded,) = group.items
    view = SpanView.parse(encoded)
    assert all(isinstance(text, str) for text in (view.name, *(event.name for event in view.events)))
    values(view.attributes)
    assert append_to_all(request).count(INVALID) == body.count(INVALID)


def test_a_request_of_a_later_version_passes() -> None:
    """Unknown fields at every level, before and after the known ones."""
    unknown = varint(900 << 3 | 2) + b"\x03abc"
    body = unknown + message(1, unknown, message(2, unknown, message(2, unknown, message(5, b"a")), unknown)) + unknown
    request = parse_traces(body)
    assert request.span_count == 1
    assert append_to_all(request).count(unknown) == 6


def test_a_request_whose_spans_are_only_counted_is_refused_for_the_same_reasons() -> None:
    """Whether spans are handed out depends on what they hold; whether the request is taken does not."""
    torn = {"resource": b"\x0a\x7f", "scope": b"\x0a\x7f"}
    scoped = b"\x0a\x02" + torn["scope"] + b"\x12\x00"
    for inner in (b"\x0a\x02" + torn["resource"] + b"\x12\x02\x12\x00", b"\x12" + bytes((len(scoped),)) + scoped):
        body = b"\x0a" + bytes((len(inner),)) + inner
        with pytest.raises(MalformedError) as read:
            parse_traces(body)
        with pytest.raises(MalformedError) as counted:
            count_traces(body)
        assert str(counted.value) == str(read.value)
