"""Routing by resource: each goes where it matches, in the bytes in which it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from requests_out import settings
from spanledger_exporters import Signal
from spanledger_exporters.delivery import Parts
from spanledger_exporters.settings import Match
from spanledger_processor.otlp.wire import MalformedError

UNKNOWN = b"\xfa\x07\x03new"
"""Field 127, which OTLP does not know."""


Value: TypeAlias = str | bool | int | float


def attribute(key: str, value: Value) -> KeyValue:
    kinds = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
    made = KeyValue(key=key)
    setattr(made.value, kinds[type(value)], value)
    return made


def resource(items: int = 1, /, **attributes: Value) -> bytes:
    """One resource with so many spans, as a whole request, with a field that OTLP does not know inside."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(attribute(key.replace("__", "."), value) for key, value in attributes.items())
    spans = group.scope_spans.add().spans
    for number in range(items):
        spans.add(name="a", trace_id=b"t" * 16, span_id=number.to_bytes(8, "big"))
    inside = group.SerializeToString() + UNKNOWN
    size = len(inside)
    return b"\x0a" + bytes((size & 0x7F | 0x80, size >> 7)) + inside  # the length in two bytes, whatever it needs


def match_of(given: Mapping[str, object]) -> Match | None:
    return settings("otlp_grpc", endpoint="a:1", match=given).match


def part(match: Mapping[str, object], *resources: bytes) -> tuple[bytes, int]:
    return Parts("traces", b"".join(resources), -1).of(match_of(match))


def test_resources_go_where_they_match_with_their_bytes() -> None:
    payments, search, nobody = resource(2, team="payments"), resource(3, team="search"), resource(4)
    assert part({"team": "payments"}, payments, search, nobody, payments) == (payments * 2, 4)
    assert part({"team": ["payments", "search"]}, search, nobody, payments) == (search + payments, 5)
    assert part({"team": None}, payments, nobody) == (nobody, 4)
    assert part({"team": "other"}, payments, nobody) == (b"", 0)


def test_every_attribute_has_to_match() -> None:
    both, one = resource(team="a", deployment__environment__name="prod"), resource(team="a")
    assert part({"team": "a", "deployment.environment.name": ["prod", "staging"]}, both, one) == (both, 1)


@pytest.mark.parametrize(
    ("value", "written"), [("5", 5), (5, "5"), (True, True), ("true", True), (0.5, 0.5), ("", None)]
)
def test_values_are_compared_as_they_are_written(value: Value, written: object) -> None:
    given = resource(k=value)
    assert part({"k": written}, given, resource(k="x")) == (given, 1)


def test_where_all_matches_it_is_the_request_itself_and_counted_by_nobody() -> None:
    whole = resource(team="a")
    assert part({"team": "a"}, whole, whole, UNKNOWN) == (whole + whole + UNKNOWN, -1)


def test_what_otlp_does_not_know_goes_with_every_part() -> None:
    a, b = resource(team="a"), resource(team="b")
    assert part({"team": "a"}, a, UNKNOWN, b) == (a + UNKNOWN, 1)
    assert part({"team": "c"}, a, UNKNOWN, b) == (b"", 0)


def test_logs_and_metrics() -> None:
    logs, metrics = ExportLogsServiceRequest(), ExportMetricsServiceRequest()
    for team in "ab":
        group = logs.resource_logs.add()
        group.resource.attributes.append(attribute("team", team))
        group.scope_logs.add().log_records.add(time_unix_nano=1)
        metric = metrics.resource_metrics.add()
        metric.resource.attributes.append(attribute("team", team))
        metric.scope_metrics.add().metrics.add(name="m").sum.data_points.add(as_int=1)
    bodies: dict[Signal, bytes] = {"logs": logs.SerializeToString(), "metrics": metrics.SerializeToString()}
    for signal, body in bodies.items():
        size = len(body) // 2
        assert Parts(signal, body, 2).of(match_of({"team": "b"})) == (body[size:], 1)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3)), min_size=1, max_size=8))
def test_parts_of_a_partition_are_the_whole(teams: Sequence[tuple[str, int]]) -> None:
    resources = [resource(items, team=team) for team, items in teams]
    parts = Parts("traces", b"".join(resources), sum(items for _, items in teams))
    matchers = [match_of({"team": list(names)}) for names in ("a", "bc")]
    taken = [parts.of(match) for match in matchers]
    for names, (body, items) in zip(("a", "bc"), taken, strict=True):
        assert body == b"".join(one for one, (team, _) in zip(resources, teams, strict=True) if team in names)
        assert items == sum(count for team, count in teams if team in names)
    left = parts.unmatched([match for match in matchers if match])
    assert left == sum(count for team, count in teams if team == "d")


def test_a_resource_that_cannot_be_read_goes_nowhere_in_silence() -> None:
    with pytest.raises(MalformedError):
        part({"team": "a"}, resource(team="a"), b"\x0a\x04\x0a\x02\x0a\x7f")
