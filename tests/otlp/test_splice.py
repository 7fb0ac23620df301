"""Requests cut into parts: nothing is lost, added or changed, and each part is a request of bounded size."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from otlp_bytes import SMALL, attribute, encode, message, rewritten_requests
from spanledger_processor.otlp.request import count_traces, parse_traces
from spanledger_processor.otlp.splice import RequestPart
from spanledger_processor.otlp.wire import finished

EXTRA = attribute(b"spanledger.kind", message(1, b"llm"))


def flat(bodies: Iterable[bytes]) -> Iterator[tuple[bytes, bytes, bytes]]:
    """What stands around each span in its resource and its scope, and the span."""
    for body in bodies:
        for outer in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = ResourceSpans.FromString(outer.SerializeToString())
            resource.ClearField("scope_spans")
            for scoped in outer.scope_spans:
                scope = ScopeSpans.FromString(scoped.SerializeToString())
                scope.ClearField("spans")
                for span in scoped.spans:
                    yield resource.SerializeToString(), scope.SerializeToString(), span.SerializeToString()


def parts_of(body: bytes, most: int, growth: int = 0) -> list[RequestPart]:
    return finished(parse_traces(body).planning(most, growth))


def check(body: bytes, most: int, data: st.DataObject) -> None:
    whole, request = parse_traces(body), parse_traces(body)
    every = [(number, place) for number, group in enumerate(request.groups) for place in range(len(group.items))]
    for place in data.draw(st.sets(st.sampled_from(every))) if every else ():
        for one in (whole, request):
            one.append(*place, EXTRA)
    parts = finished(request.planning(most, 0))
    bodies = [finished(request.serializing(part)) for part in parts]
    assert [*flat(bodies)] == [*flat([whole.serialize()])]
    assert [count_traces(part).span_count for part in bodies] == [part.items for part in parts]
    assert [*flat(part.encoded(body) for part in parts)] == [*flat([body])]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(SMALL), min_size=1, max_size=3), st.integers(1, 6000), st.data())
def test_parts_hold_every_span_once_in_its_resource_and_scope(
    bodies: list[bytes], most: int, data: st.DataObject
) -> None:
    check(b"".join(bodies), most, data)


@settings(max_examples=60, deadline=None)
@given(rewritten_requests(), st.integers(1, 3000), st.data())
def test_so_do_those_of_any_other_encoding(nodes: list[Any], most: int, data: st.DataObject) -> None:
    """Where something else stands between the spans it goes with all of them."""
    check(encode(nodes), most, data)


def request_of(spans: int, size: int, resource: bytes = b"r", scopes: int = 1, resources: int = 1) -> bytes:
    span = message(2, message(5, b"n" * size))
    scope = message(2, message(1, message(1, b"scope")), span * spans, message(3, b"url of the scope"))
    named = message(1, message(1, message(1, b"key"), message(2, message(1, resource))))
    return message(1, named, scope * scopes, message(3, b"url")) * resources


@pytest.mark.parametrize(("scopes", "resources"), [(1, 1), (50, 1), (1, 50), (7, 3)])
@pytest.mark.parametrize("growth", [0, 300])
def test_a_part_has_no_more_bytes_than_asked_for(scopes: int, resources: int, growth: int) -> None:
    body, most = request_of(70, 200, scopes=scopes, resources=resources), 10_000
    request = parse_traces(body)
    for number, group in enumerate(request.groups):
        for place in range(len(group.items)):
            request.append(number, place, b"\x4a" + b"\x7f" + b"e" * 127)
    parts = finished(request.planning(most, growth))
    sizes = [len(finished(request.serializing(part))) for part in parts]
    assert sum(part.items for part in parts) == 70 * scopes * resources
    if growth:
        assert max(sizes) <= most
    source = [len(part.encoded(body)) + growth * part.items for part in parts]
    assert max(source) <= most + 12 * 3
    assert len(parts) <= 3 * (len(body) + growth * 70 * scopes * resources) // most


def test_a_span_that_is_longer_is_a_part_of_its_own() -> None:
    body = message(1, message(2, *(message(2, message(5, b"n" * size)) for size in (10, 5000, 10))))
    parts = parts_of(body, 1000)
    assert [part.items for part in parts] == [1, 1, 1]


def test_what_stands_around_is_not_repeated_until_it_is_most_of_all() -> None:
    """A resource of a megabyte over spans of which each is a part would become a terabyte."""
    body = request_of(500, 200, resource=b"r" * 20_000)
    parts = parts_of(body, 1000)
    assert 2 < len(parts) < 8
    assert sum(len(part.encoded(body)) for part in parts) < 2.2 * len(body)


@pytest.mark.parametrize("body", [b"", message(100, b"unknown") + request_of(500, 200)])
def test_a_request_of_which_a_part_could_not_be_read_by_itself_is_one(body: bytes) -> None:
    (part,) = parts_of(body, 1000)
    assert part.encoded(body) == body
    assert part == parse_traces(body).whole
    assert finished(count_traces(body).planning(1000, 0)) == [part], "also where its spans were only counted"


def test_it_is_planned_and_written_in_slices() -> None:
    """Counted: pauses."""
    body = request_of(100_000, 100)
    request = parse_traces(body)
    assert sum(1 for _ in request.planning(2**20, 0)) >= 2 * (100_000 // 8192)
    many = request_of(1, 10, resources=20_000)
    assert sum(1 for _ in parse_traces(many).planning(2**20, 0)) >= 20_000 // 512 - 1


def test_a_long_span_is_written_a_piece_at_a_time() -> None:
    """Counted: pauses. To copy a prompt of 60 MiB takes 40 ms, in which nobody else runs."""
    request = parse_traces(message(1, message(2, message(2, message(5, b"n" * 10 * 2**20)))))
    request.append(0, 0, EXTRA)
    assert sum(1 for _ in request.serializing()) >= 9
    again = parse_traces(request.body)
    again.append(0, 0, EXTRA)
    assert [len(span) for _, _, span in flat([again.serialize()])] == [len(request.groups[0].items[0]) + len(EXTRA)]


@pytest.mark.parametrize(("every", "most"), [(1, 3.0), (50, 1.2)])
def test_where_few_spans_are_appended_to_the_request_is_copied_once(every: int, most: float) -> None:
    """Into what leaves: no second time before that."""
    body = message(1, message(2, *[message(2, message(5, b"x" * 900))] * 500))
    request = parse_traces(body)
    for place in range(0, 500, every):
        request.append(0, place, attribute(b"key", message(1, b"value")))
    tracemalloc.start()
    written = request.serialize()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert parse_traces(written).span_count == 500
    assert peak < most * len(written)
