"""Differential: spans read by others like them come to what the full rules come to, whatever they hold."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from captures import captures
from dialect_view import CAPTURES, PlainAttributes, captured
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.config import load
from spanledger_processor.dialects import detect, responses, texts
from spanledger_processor.dialects.registry import detect_in_full
from spanledger_processor.enrichment import Stage
from spanledger_processor.enrichment.alike import AlikePlan
from spanledger_processor.otlp.envelope import ScopeGroup
from spanledger_processor.otlp.request import parse_traces
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing import Signer

NOW = 1_795_500_000 * 10**9
FIELDS = tuple(one.name for one in fields(Fact) if one.name != "first_token_ns")  # the stage notes it of all alike
ID = re.compile(r"\b(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?:call|chatcmpl|msg|req|resp|toolu)[-_]\w{8,})")


def renewed(body: bytes, number: int) -> ExportTraceServiceRequest:
    """The same spans with ids, words and counts of their own."""
    request = ExportTraceServiceRequest.FromString(body)
    for group in request.resource_spans:
        for scope in group.scope_spans:
            for span in scope.spans:
                span.trace_id = number.to_bytes(4, "big") + span.trace_id[4:]
                for attribute in span.attributes:
                    renew(attribute.key, attribute.value, number)
    return request


def renew(key: str, value: AnyValue, number: int) -> None:
    if value.HasField("string_value"):
        text = ID.sub(lambda found: f"{found[0][:-4]}{number:04}", value.string_value)
        text = re.sub(r"([a-z]{3}) ([a-z]{3})", rf"\1 {number} \2", text, count=1)
        value.string_value = text + f"-{number}" if key.endswith(("session.id", "conversation.id")) else text
    elif value.HasField("int_value") and "token" in key:
        value.int_value *= number + 1


@cache
def recorded() -> tuple[bytes, ...]:
    return tuple(body for capture in captures() for signal, body in capture.requests if signal == "traces")


@cache
def stage() -> Stage:
    """A stage that has read all recordings three times."""
    made = make_stage(load(None), Signer(b"the key of this test, long enough"))
    for number in range(1, 4):
        for body in recorded():
            made.read(renewed(body, number).SerializeToString(), {}, NOW)
    return made


def spans(request: ExportTraceServiceRequest) -> Iterator[tuple[bytes, ScopeGroup]]:
    for group in parse_traces(request.SerializeToString()).groups:
        yield from ((span, group) for span in group.items)


def both_ways(span: bytes, group: ScopeGroup) -> tuple[Fact | None, Fact | None, bool]:
    """What is read of a span by what was learned, and by the full rules; and whether it was read by one like it."""
    usual = stage()._usual
    full = usual._in_full.genai(span, SpanView.parse(span), group, NOW)
    usual.enter(group)
    view = SpanView.parse(span)
    fast, _ = usual._read(span, view, group, NOW)
    plans = usual._known.plans if usual._known is not None else {}
    is_alike = fast is not None and type(plans.get(view.attributes.shape())) is AlikePlan
    return fast, full, is_alike


def assert_same(fast: Fact | None, full: Fact | None) -> None:
    if fast is not None:
        assert full is not None
        assert [getattr(fast, name) for name in FIELDS] == [getattr(full, name) for name in FIELDS]


def test_recordings_come_to_the_same_both_ways() -> None:
    alike = genai = 0
    for body in recorded():
        for span, group in spans(renewed(body, 7)):
            fast, full, is_alike = both_ways(span, group)
            assert_same(fast, full)
            alike, genai = alike + is_alike, genai + (full is not None)
    assert alike > genai * 3 / 4, "what is frequent is read by what was like it"


USAGE = '{"usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}'
VALUES: tuple[Any, ...] = (
    "",
    " ",
    '"quoted"',
    "[Scrubbed due to 'session']",
    "resp_dd0d6e4bff9fab318f51c63e2615396b1fe3dda6efd93d2d",
    "other",
    "x" * 700,
    0,
    1,
    -1,
    999_999,
    1 << 62,
    2.5,
    True,
    [],
    ["a"],
    {"a": 1},
    b"bytes",
    USAGE,
    USAGE.replace("usage", "\\u0075sage"),
    f'{{"outputs": {USAGE}, "model": "gpt-4o", "service_tier": "flex"}}',
    '[{"role": "assistant", "parts": [{"type": "server_tool_call", "name": "web_search"}]}, {"role": "tool"}]',
    '{"type": "web_search_call", "id": "1", "action": {"type": "search"}}',
    '{"args": {"a": 1}, "callId": "1"}',
    '{"inputs": {"a": 1}, "input_str": "a"}',
    '{"cache_hit": true}',
    "api.deepseek.com",
    "https://openrouter.ai/api/v1",
    '{"api_base": "https://api.groq.com/openai/v1"}',
)


@cache
def every_span() -> tuple[tuple[bytes, bytes, bytes, tuple[str, ...]], ...]:
    """All recorded spans, each as a request with its resource and scope, and its keys."""
    found = []
    for body in recorded():
        request = renewed(body, 8)
        for group in request.resource_spans:
            for scope in group.scope_spans:
                for span in scope.spans:
                    keys = tuple(sorted(attribute.key for attribute in span.attributes))
                    found.append(
                        (
                            group.resource.SerializeToString(),
                            scope.scope.SerializeToString(),
                            span.SerializeToString(),
                            keys,
                        )
                    )
    return tuple(found)


def as_value(value: Any) -> AnyValue:
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=map(as_value, value)))
    if isinstance(value, dict):
        pairs = (KeyValue(key=key, value=as_value(inner)) for key, inner in value.items())
        return AnyValue(kvlist_value=KeyValueList(values=pairs))
    fields = {bool: "bool_value", int: "int_value", float: "double_value", bytes: "bytes_value", str: "string_value"}
    return AnyValue(**{fields[type(value)]: value})


def changed(
    at: int, changes: list[tuple[int, Any]], *, status: int = 0, name: str = "", event: str = ""
) -> tuple[bytes, ScopeGroup] | None:
    """One recorded span with other values under some of its keys (None stands for none), and with one more event."""
    resource, scope, encoded, keys = every_span()[at % len(every_span())]
    span = Span.FromString(encoded)
    for key, value in {keys[place % len(keys)]: value for place, value in changes if keys}.items():
        attribute = next(attribute for attribute in span.attributes if attribute.key == key)
        if value is None:
            span.attributes.remove(attribute)
        else:
            attribute.value.CopyFrom(as_value(value))
    if status:
        span.status.code = status  # type: ignore[assignment]
    span.name = name or span.name
    if event:
        span.events.add(name=event, attributes=[KeyValue(key="index", value=as_value(0))])
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.ParseFromString(resource)
    scoped = group.scope_spans.add()
    scoped.scope.ParseFromString(scope)
    scoped.spans.append(span)
    return next(spans(request), None)


@settings(max_examples=600)
@given(
    st.integers(0, 1 << 20),
    st.lists(st.tuples(st.integers(0, 63), st.sampled_from((None, *VALUES))), max_size=3),
    st.sampled_from((0, 0, 0, 2)),
    st.sampled_from(("", "", "", "other name", "llm._prepare_x")),
    st.sampled_from(("", "", "", "gen_ai.choice", "gen_ai.tool.call.decision", "ai.stream.finish")),
)
@example(0, [], 0, "", "")
def test_changed_spans_come_to_the_same_both_ways(
    at: int, changes: list[tuple[int, Any]], status: int, name: str, event: str
) -> None:
    one = changed(at, changes, status=status, name=name, event=event)
    if one is not None:
        fast, full, _ = both_ways(*one)
        assert_same(fast, full)


def test_each_value_under_each_key_comes_to_the_same_both_ways() -> None:
    """Every key of a sample of the recorded spans that are read by others like them, with every value."""
    read = 0
    draw = random.Random(1)
    for at in draw.sample(range(len(every_span())), 60):
        for place in range(len(every_span()[at][3])):
            one = changed(at, [(place, draw.choice(VALUES))])
            assert one is not None
            fast, full, is_alike = both_ways(*one)
            assert_same(fast, full)
            read += is_alike
    assert read > 100


def test_events_of_which_only_the_names_are_read_are_compared_by_name() -> None:
    resource, scope, encoded, _ = next(one for one in every_span() if b"ai.stream.firstChunk" in one[2])
    at = every_span().index((resource, scope, encoded, _))
    same, other = changed(at, []), changed(at, [], event="gen_ai.choice")
    assert same is not None
    assert other is not None
    assert both_ways(*same)[2]
    assert not both_ways(*other)[2]


def test_a_text_of_which_the_tier_is_read_is_compared_by_the_tier() -> None:
    key = "llm.invocation_parameters"
    at = next(
        place
        for place, (_, scope, span, _) in enumerate(every_span())
        if b"openai_agents" in scope and key.encode() in span and b"service_tier" in span
    )
    held = next(one for one in Span.FromString(every_span()[at][2]).attributes if one.key == key).value.string_value
    where = every_span()[at][3].index(key)
    for text, expected in (
        (held.replace("{", '{"seed": 9,', 1), True),
        (held.replace("{", '{"speed": "fast",', 1), False),
    ):
        one = changed(at, [(where, text)])
        assert one is not None
        fast, full, is_alike = both_ways(*one)
        assert_same(fast, full)
        assert is_alike is expected


class Unmarked(PlainAttributes):
    """Attributes that give a text whatever marks are looked for in it."""

    def marked(self, key: str, marks: tuple[bytes, ...]) -> Any:
        return self.get(key)


@pytest.mark.parametrize("name", [capture.name for capture in captures()])
def test_a_text_without_the_marks_tells_nothing(name: str) -> None:
    for view in captured(CAPTURES / name):
        call = detect(view)
        view.attributes = Unmarked(view.attributes)
        assert detect_in_full(view) == call


PIECES = ("usage", "Usage", '"usage": {', "'usage_metadata':{", 'billed_units": {', "usage=Usage(", "message", '"')
TIERS = ("service_tier", "serviceTier", '": "flex"', '":{"type":"a"', '="z"', "_", " ")


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES + TIERS), max_size=14).map("".join))
def test_matches_are_those_of_finditer(text: str) -> None:
    for pattern, beginnings in ((texts._USAGE, texts._NAMED_SO), (responses._TIER, responses._TIERS)):
        found = [match.span() for match in texts.matches(pattern, text, beginnings)]
        assert found == [match.span() for match in pattern.finditer(text)]
