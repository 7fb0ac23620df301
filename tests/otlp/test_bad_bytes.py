"""What is refused, with the place; and what passes although something in it cannot be read."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otlp_bytes import attribute, files, message, name_of, span, varint
from spanledger_processor.otlp.envelope import MAX_ITEMS, MAX_PARTS, check_envelope
from spanledger_processor.otlp.json_form import to_json
from spanledger_processor.otlp.request import count_data_points, count_log_records, parse_logs, parse_traces
from spanledger_processor.otlp.signals import LOGS, METRICS, TRACES, Envelope
from spanledger_processor.otlp.views import Attributes, LogView, SpanView
from spanledger_processor.otlp.wire import LENGTH, MalformedError

READERS = {"traces": parse_traces, "logs": count_log_records, "metrics": count_data_points}

WHOLE = message(
    1,
    message(1, attribute(b"service.name", message(1, b"a"), 1)),
    message(
        2,
        message(1, message(1, b"scope"), message(2, b"1.0")),
        message(
            2,
            message(1, bytes(range(16))),
            message(2, bytes(range(8))),
            message(5, b"chat"),
            b"\x30\x03\x39" + bytes(8) + b"\x41" + bytes(8),
            attribute(b"k", message(1, b"v")),
            attribute(b"n", b"\x18\xff\xff\x03"),
            attribute(b"l", message(5, message(1, message(1, b"x")), message(1, b"\x10\x01"))),
            attribute(b"o", message(6, attribute(b"a", b"\x21" + bytes(8), 1))),
            message(11, message(2, b"event"), attribute(b"e", message(7, b"\x00"), 3)),
            message(15, b"\x18\x02"),
        ),
    ),
)
"""A request with everything in it that is read."""


def read_all(body: bytes) -> None:
    """Read everything of a request. Only MalformedError may come out."""
    request = parse_traces(body)
    for number, group in enumerate(request.groups):
        read_values(group.resource_attributes)
        for place, encoded in enumerate(group.items):
            request.append(number, place, attribute(b"a", b""))
            with suppress(MalformedError):
                view = SpanView.parse(encoded)
                _ = view.trace_id, view.name, view.kind, view.start_ns, view.end_ns, view.status_code
                read_values(view.attributes)
                for event in view.events:
                    read_values(event.attributes)
    request.serialize()
    to_json("traces", body)


def read_values(attributes: Attributes) -> None:
    for key in attributes.keys():  # noqa: SIM118 - no dict
        with suppress(MalformedError):
            attributes.get(key)


def test_the_whole_request_is_what_it_should_be() -> None:
    read_all(WHOLE)
    assert ExportTraceServiceRequest.FromString(WHOLE).resource_spans[0].scope_spans[0].spans[0].events


@pytest.mark.parametrize("end", range(1, len(WHOLE)))
def test_a_request_cut_anywhere_is_refused(end: int) -> None:
    with pytest.raises(MalformedError, match="byte"):
        parse_traces(WHOLE[:end])


@pytest.mark.parametrize("at", range(len(WHOLE)))
def test_no_flipped_bit_gets_past_malformed_error(at: int) -> None:
    for bit in range(8):
        flipped = WHOLE[:at] + bytes((WHOLE[at] ^ 1 << bit,)) + WHOLE[at + 1 :]
        with suppress(MalformedError):
            read_all(flipped)


SCOPE = ExportTraceServiceRequest.FromString(WHOLE).resource_spans[0].scope_spans[0].SerializeToString()


@pytest.mark.parametrize("at", range(len(SCOPE)))
def test_the_items_of_a_scope_are_those_that_protobuf_finds(at: int) -> None:
    """Something is left out, or other than it was, at every place."""
    scopes = [SCOPE[:at] + bytes((SCOPE[at] ^ 1 << bit,)) + SCOPE[at + 1 :] for bit in range(8)]
    for scope in (*scopes, SCOPE[:at], SCOPE[:at] + SCOPE[at + 1 :], SCOPE):
        try:
            unknown: Any = UnknownFieldSet(Empty.FromString(scope))
            items = [part.data for part in unknown if part.field_number == 2 and part.wire_type == LENGTH]
        except DecodeError:
            with pytest.raises(MalformedError):
                parse_traces(message(1, message(2, scope)))
            continue
        with suppress(MalformedError):  # where known fields have other wire types
            (group,) = parse_traces(message(1, message(2, scope))).groups
            assert [*group.items] == items


@given(st.binary(max_size=200))
def test_no_bytes_get_past_malformed_error(body: bytes) -> None:
    for read in (read_all, count_log_records, count_data_points, parse_logs):
        with suppress(MalformedError):
            read(body)


@given(st.binary(max_size=200))
def test_no_bytes_of_a_log_record_get_past_malformed_error(record: bytes) -> None:
    with suppress(MalformedError):
        view = LogView.parse(record)
        _ = (
            view.time_ns,
            view.observed_ns,
            view.severity_number,
            view.event_name,
            view.body,
            view.trace_id,
            view.span_id,
        )
        read_values(view.attributes)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"hello world", "ExportTraceServiceRequest: byte"),
        (b"hi", "holds no resource_spans"),
        (b'{"resourceSpans": []}', "ExportTraceServiceRequest: byte"),
        (b"<html></html>", "ExportTraceServiceRequest: byte 0"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "ExportTraceServiceRequest: byte"),
        (b"\x00", "no field has number 0"),
        (b"\x0f", "wire type 7"),
        (b"\x0a\x05\x0a", r"ExportTraceServiceRequest: byte 0: field 1 needs 4 bytes more"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "a length of"),
        (b"\x0a" + b"\xff" * 11, "a number that does not end"),
        (message(1) + message(1, b"\x12\x05"), r"resource_spans\[1\]: byte"),
        (message(1, message(2), message(2, b"\x12\x7f")), r"resource_spans\[0\].scope_spans\[1\]: byte"),
        (message(1, message(1, b"\x0a\x09"), message(2)), r"resource_spans\[0\].resource: cannot be read"),
        (message(1, message(2, message(1, b"\x0a\x09"))), r"resource_spans\[0\].scope_spans\[0\].scope: cannot be"),
        (message(1, b"\x08\x01"), r"resource_spans\[0\]: resource has wire type 0"),
        (b"\x1b" * 1_000_000, "groups inside each other"),
        (b"\x1b\x24", "group 3 does not end"),
        (b"\x1c", "end of a group that never began"),
    ],
)
def test_what_is_no_trace_request_is_refused_with_the_place(body: bytes, place: str) -> None:
    with pytest.raises(MalformedError, match=place):
        parse_traces(body)


def test_errors_hold_nothing_of_what_was_sent() -> None:
    with pytest.raises(MalformedError) as caught:
        parse_traces(message(1, message(1, attribute(b"secret", b"", 1)), b"\x12\x7fsecret"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("signal", READERS)
@pytest.mark.parametrize("path", [path for signal in READERS for path in files(signal)], ids=name_of)
def test_a_request_of_another_signal_is_refused(path: Path, signal: str) -> None:
    body, recorded = path.read_bytes(), path.name.split(".")[1]
    if signal == recorded:
        READERS[signal](body)
    else:
        with pytest.raises(MalformedError):
            READERS[signal](body)


FIELD = st.one_of(
    st.builds(lambda number, content: message(number, content), st.integers(1, 20), st.binary(max_size=3)),
    st.builds(
        lambda number, kind: varint(number << 3 | kind[0]) + kind[1],
        st.integers(1, 20),
        st.sampled_from([(0, b"\x01"), (1, bytes(8)), (5, bytes(4))]),
    ),
    st.sampled_from(
        [attribute(b"a", b""), attribute(b"a", b"\x18\x01", 6), message(9, b"\x08\x01"), message(15, b"\x18")]
    ),
)


@pytest.mark.parametrize("envelope", [TRACES, LOGS, METRICS], ids=lambda envelope: str(envelope.items))
@given(items=st.lists(st.lists(FIELD, max_size=4).map(b"".join), max_size=2))
@example(items=[attribute(b"a", b"", 9) + message(9, message(1, b"a") + b"\x10\x01")])
def test_items_that_a_schema_reads_are_not_looked_at_again(envelope: Envelope, items: list[bytes]) -> None:
    """To read a request by its schema first refuses the same requests, in the same words."""
    body = message(1, message(2, *(message(2, item) for item in items)))
    with_schema = refusal(body, envelope)
    assert with_schema == refusal(body, replace(envelope, schema=Unreadable))


class Unreadable:
    """A schema that reads nothing."""

    @staticmethod
    def FromString(_: bytes) -> None:  # noqa: N802 - protobuf's name
        raise DecodeError


def refusal(body: bytes, envelope: Envelope) -> str:
    try:
        check_envelope(body, envelope)
    except MalformedError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "body",
    [b"", message(1), message(1, message(1)), message(1, message(2)), span(b""), span(message(1, b"x"))],
    ids=["empty", "empty group", "empty resource", "no spans", "empty span", "bad id"],
)
def test_the_smallest_legal_requests_pass(body: bytes) -> None:
    assert parse_traces(body).serialize() == body


BROKEN = [b"\x0a\x7f", b"\x2a\x02a", b"\x4a\x02\x0a\x05", b"\x0b", b"\x38", message(15, b"\x18")]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("others", [0, 2])
def test_a_request_with_a_broken_span_passes_with_that_span_as_it_is(broken: bytes, others: int) -> None:
    """Also where the broken span is the only one."""
    whole = message(2, message(1, bytes(16)), message(5, b"whole"))
    body = message(1, message(2, whole * others, message(2, broken)))
    request = parse_traces(body)
    assert request.groups[0].items[-1] == broken
    with pytest.raises(MalformedError, match="span"):
        SpanView.parse(broken)
    for place in range(others):
        request.append(0, place, attribute(b"a", b""))
    assert request.serialize().endswith(message(2, broken))


def test_a_value_nested_too_deep_is_refused_with_its_key_and_harms_no_other() -> None:
    """protobuf's parsers stop at 100 messages; such a value is refused when it is asked for."""
    value = message(1, b"x")
    for _ in range(60):
        value = message(5, message(1, value))
    view = SpanView.parse(attribute(b"deep", value) + attribute(b"flat", message(1, b"y")))
    assert view.attributes.get("flat") == "y"
    with pytest.raises(MalformedError, match="attribute 'deep'"):
        view.attributes.get("deep")


def test_metrics_count_points_and_a_broken_metric_counts_none() -> None:
    points = message(1, message(1)) * 3
    gauge, total = message(2, message(1, b"a"), message(5, points)), message(2, message(7, points))
    assert count_data_points(message(1, message(2, gauge, total, message(2, b"\x2a\x05")))) == 6


@pytest.mark.parametrize(
    "body",
    [
        message(1) * (MAX_PARTS + 1),
        message(1, message(2) * (MAX_PARTS + 1)),
        message(1, message(1) * MAX_PARTS) + message(1, message(2)),
        message(1, message(2, message(2) * (MAX_ITEMS + 1))),
        message(1, message(2, message(2) * MAX_ITEMS), message(2, message(2))),
    ],
    ids=["resources", "scopes", "both", "spans", "spans of two scopes"],
)
def test_more_parts_than_any_real_request_has_are_refused(body: bytes) -> None:
    """Two bytes make a resource or a span; 64 MiB of them took gigabytes and minutes."""
    with pytest.raises(MalformedError, match="send them in smaller requests"):
        parse_traces(body)


def test_as_many_spans_as_a_request_may_hold() -> None:
    assert parse_traces(message(1, message(2, message(2) * MAX_ITEMS))).span_count == MAX_ITEMS


def test_a_length_beyond_what_there_is_costs_no_memory() -> None:
    with pytest.raises(MalformedError, match="needs 2147483647 bytes more"):
        parse_traces(b"\x0a" + varint(2**31 - 1))
