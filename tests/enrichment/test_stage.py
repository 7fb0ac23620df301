"""The stage over real bytes: what it recognises, whom it names, and what it lets pass."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import set_attributes
from descending import descending
from spanledger_processor.accounting.account import account
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.config import load
from spanledger_processor.config.processing import Alias
from spanledger_processor.enrichment import Reading, Stage, write
from spanledger_processor.enrichment.attributes import ALIASES, alias_keys
from spanledger_processor.enrichment.facts import FactBuilder
from spanledger_processor.enrichment.names import Names
from spanledger_processor.enrichment.plain_spans import PlainSpans
from spanledger_processor.enrichment.stage import SLICE
from spanledger_processor.enrichment.usual import UsualSpans
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.model import COST_ALIASES
from spanledger_processor.otlp.encoding import delimited
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import MalformedError, finished
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing import Signer

NOW = 1_795_500_000_000_000_000
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
}


@pytest.fixture
def stage() -> Stage:
    return stage_with()


def stage_with(*sets: str) -> Stage:
    return make_stage(load(None, sets), Signer(b"the key of the tests, 32 bytes.."))


def request(*spans: Span, resource: Mapping[str, str] | None = None) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    for key, text in (resource or {}).items():
        group.resource.attributes.add(key=key).value.string_value = text
    group.scope_spans.add().spans.extend(spans)
    return made


def span(number: int, attributes: Mapping[str, Any] | None = None, *, parent: int = 0, trace: int = 1) -> Span:
    made = Span(name="some span", trace_id=trace.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
    made.parent_span_id = parent.to_bytes(8, "big") if parent else b""
    made.start_time_unix_nano, made.end_time_unix_nano = NOW - 10**9, NOW
    set_attributes(made, dict(attributes or {}))
    return made


def through(
    stage: Stage, made: ExportTraceServiceRequest, headers: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The attributes of every span that comes out, with an empty ledger."""
    reading = stage.read(made.SerializeToString(), headers or {}, NOW)
    out = ExportTraceServiceRequest.FromString(written(reading))
    return [dict(attributes(found)) for group in out.resource_spans for found in group.scope_spans[0].spans]


def written(reading: Reading) -> bytes:
    store, decisions = MemoryStore(), []
    for batch in reading.batches:
        with store.unit() as unit:
            ruling = account(batch, unit)
            unit.apply(ruling.changes, NOW)
        decisions.append(ruling.decisions)
    return write(reading, decisions)


def attributes(found: Span) -> Iterator[tuple[str, Any]]:
    for pair in found.attributes:
        yield pair.key, getattr(pair.value, pair.value.WhichOneof("value") or "string_value")


def test_a_chat_span_is_priced_and_everything_that_came_in_stands_before(stage: Stage) -> None:
    made = request(span(1, CHAT))
    (found,) = through(stage, made)
    assert list(found)[: len(CHAT)] == list(CHAT)
    assert found["spanledger.kind"] == "llm"
    assert found["spanledger.cost.usd"] == 0.00021  # 1000 x $0.15 and 100 x $0.60, per million
    assert found["gen_ai.usage.cost"] == found["spanledger.cost.usd"]


def test_a_request_without_genai_spans_leaves_as_the_very_bytes_that_came(stage: Stage) -> None:
    body = request(span(1, {"http.method": "GET"})).SerializeToString()
    reading = stage.read(body, {}, NOW)
    assert not reading.batches
    assert written(reading) is body


@pytest.mark.parametrize(
    ("on_span", "on_resource", "expected"),
    [
        ({"gen_ai.conversation.id": "a"}, {"session.id": "r"}, ("a", "attribute")),
        ({}, {"session.id": "r"}, ("r", "resource")),
        ({"session.id": 7}, {}, ("7", "attribute")),
        ({"session.id": "  "}, {}, (None, None)),
        ({}, {}, (None, None)),
    ],
)
def test_the_session_is_the_spans_else_its_resources(
    stage: Stage, on_span: Mapping[str, Any], on_resource: Mapping[str, str], expected: tuple[str | None, str | None]
) -> None:
    (found,) = through(stage, request(span(1, {**CHAT, **on_span}), resource=on_resource))
    assert (found.get("spanledger.session.id"), found.get("spanledger.session.source")) == expected


def test_a_parent_that_comes_behind_its_child_in_the_request_names_the_session_all_the_same(stage: Stage) -> None:
    child, parent = span(1, CHAT, parent=2), span(2, {"gen_ai.operation.name": "invoke_agent", "session.id": "s"})
    found, _ = through(stage, request(child, parent))
    assert (found["spanledger.session.id"], found["spanledger.session.source"]) == ("s", "parent")


def test_a_plain_span_between_agent_and_call_carries_the_session_down(stage: Stage) -> None:
    agent = span(3, {"gen_ai.operation.name": "invoke_agent", "session.id": "s"})
    found, plain, _ = through(stage, request(span(1, CHAT, parent=2), span(2, parent=3), agent))
    assert found["spanledger.session.source"] == "parent"
    assert not any(key.startswith("spanledger.") for key in plain)


def test_plain_spans_of_a_trace_whose_genai_spans_were_read_elsewhere_are_links(stage: Stage) -> None:
    """By another worker, which shares the port."""
    plain = request(span(5, trace=9)).SerializeToString()
    assert stage.read(plain, {}, NOW).batches == []
    stage.entered(finished(stage.knowing([span(5, trace=9).trace_id], NOW)))
    (batch,) = stage.read(plain, {}, NOW).batches
    assert [(fact.span_id, fact.call) for fact in batch.facts] == [((5).to_bytes(8, "big"), None)]


def test_a_flood_of_traces_by_one_tenant_makes_no_other_tenants_trace_unknown() -> None:
    """Plain spans name sessions and stand between agents and calls, also where they come later than these."""
    stage = stage_with("processor.tenant.keys=[team]")
    for number in range(5):
        stage.read(request(span(1, CHAT, trace=number + 1), resource={"team": "quiet"}).SerializeToString(), {}, NOW)
    for first in range(100, 10_000, 100):
        flood = [span(1, CHAT, trace=number) for number in range(first, first + 100)]
        stage.read(request(*flood, resource={"team": "flood"}).SerializeToString(), {}, NOW)
    assert len(stage._known) == 8192
    for number in range(5):
        plain = request(span(5, trace=number + 1), resource={"team": "quiet"}).SerializeToString()
        assert len(stage.read(plain, {}, NOW).batches) == 1
    gone = request(span(5, trace=100), resource={"team": "flood"}).SerializeToString()
    assert stage.read(gone, {}, NOW).batches == []


@pytest.mark.parametrize("encode", [ExportTraceServiceRequest.SerializeToString, descending])
def test_plain_spans_of_traces_without_genai_spans_are_not_looked_at_further(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, encode: Callable[[ExportTraceServiceRequest], bytes]
) -> None:
    """Neither as libraries encode them nor as the Collector does."""
    stage.read(request(span(1, CHAT)).SerializeToString(), {}, NOW)
    looked_at: list[bytes] = []
    plain = PlainSpans.fact

    def noted(reader: PlainSpans, encoded: bytes, resource: Names, scope: str = "") -> Fact:
        looked_at.append(SpanView.parse(encoded).span_id)
        return plain(reader, encoded, resource, scope)

    monkeypatch.setattr(PlainSpans, "fact", noted)
    body = encode(request(span(5, trace=9), span(6, trace=1), span(7, trace=9)))
    reading = stage.read(body, {}, NOW)
    ids = [fact.span_id for batch in reading.batches for fact in batch.facts]
    assert ids == looked_at == [(6).to_bytes(8, "big")]


def test_of_a_plain_span_that_names_nothing_the_ids_and_times_alone_are_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that holds the word of a key for sessions is read whole, and so is one with a marker."""
    stage.read(request(span(1, CHAT)).SerializeToString(), {}, NOW)
    spans = [span(5, {"url.path": "/"}, trace=1), span(6, {"session.id": "s"}, trace=1), span(7, {"a": "gen_ai."})]
    for one in spans:
        one.start_time_unix_nano, one.end_time_unix_nano = NOW, NOW + 1
    whole: list[bytes] = []
    parsed = PlainSpans._parsed

    def noted(reader: PlainSpans, encoded: bytes) -> Any:
        whole.append(SpanView.parse(encoded).span_id)
        return parsed(reader, encoded)

    monkeypatch.setattr(PlainSpans, "_parsed", noted)
    (batch,) = stage.read(request(*spans).SerializeToString(), {}, NOW).batches
    assert whole == [one.span_id for one in spans[1:]]
    assert [(fact.span_id, fact.session.id, fact.start_ns, fact.end_ns) for fact in batch.facts] == [
        (one.span_id, named, NOW, NOW + 1) for one, named in zip(spans, ("", "s", ""), strict=True)
    ]


def test_a_plain_span_with_its_fields_in_any_order_is_a_link(stage: Stage) -> None:
    stage.read(request(span(1, CHAT)).SerializeToString(), {}, NOW)
    plain = span(5, trace=1)
    fields = [Span(trace_id=plain.trace_id), Span(name="GET /"), Span(span_id=plain.span_id)]
    for order in itertools.permutations(fields):
        encoded = b"".join(part.SerializeToString() for part in order)
        reading = stage.read(delimited(1, delimited(2, delimited(2, encoded))), {}, NOW)
        assert [fact.span_id for batch in reading.batches for fact in batch.facts] == [plain.span_id]


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4])
def test_links_are_found_among_spans_of_other_encodings(stage: Stage, first: int) -> None:
    """Of libraries, of the Collector, and without ids, in any order: the ids of most are compared all at once."""
    stage.read(request(span(1, CHAT)).SerializeToString(), {}, NOW)
    of_libraries = [span(number, trace=trace).SerializeToString() for number, trace in ((5, 1), (6, 9))]
    of_collector = [
        Span(name="x").SerializeToString()
        + b"\x12\x08"
        + bytes((number,)) * 8
        + b"\x0a\x10"
        + span(1, trace=trace).trace_id
        for number, trace in ((7, 1), (8, 9))
    ]
    spans = [*of_libraries, *of_collector, b"\x2a\x01x"]
    spans = spans[first:] + spans[:first]
    reading = stage.read(delimited(1, delimited(2, b"".join(delimited(2, one) for one in spans * 300))), {}, NOW)
    facts = [fact for batch in reading.batches for fact in batch.facts]
    assert {fact.span_id for fact in facts} == {(5).to_bytes(8, "big"), b"\7" * 8}
    assert len(facts) == 600


def test_the_word_spanledger_kind_in_a_text_is_no_mark(stage: Stage) -> None:
    (found,) = through(stage, request(span(1, {**CHAT, "gen_ai.input.messages": "what is spanledger.kind?"})))
    assert found["spanledger.kind"] == "llm"


def test_a_span_that_cannot_be_read_goes_on_as_it_came_beside_one_that_can(stage: Stage) -> None:
    whole = span(1, CHAT).SerializeToString()
    torn = b"\n\x10" + bytes(16) + b"J\x7fgen_ai.request.model"  # a field that is longer than the span
    scoped = b"".join(b"\x12" + bytes((len(part),)) + part for part in (torn,)) + b"\x12" + _varint(len(whole)) + whole
    body = b"\x0a" + _varint(len(scoped) + 1 + len(_varint(len(scoped)))) + b"\x12" + _varint(len(scoped)) + scoped
    reading = stage.read(body, {}, NOW)
    assert dict(reading.failures) == {"malformed_span": 1}
    out = written(reading)
    assert torn in out
    assert b"spanledger.cost.usd" in out


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return out + bytes((number,))


def test_a_bug_of_ours_lets_the_span_pass_and_is_counted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(FactBuilder, "genai", broken)
    body = request(span(1, CHAT)).SerializeToString()
    reading = stage.read(body, {}, NOW)
    assert dict(reading.failures) == {"ZeroDivisionError": 1}
    assert written(reading) == body


def usual_calls(first: int) -> bytes:
    """A request of calls that differ in ids alone, more than are read between two pauses."""
    own = {"gen_ai.conversation.id": "s", "gen_ai.response.id": f"resp-{first}"}
    numbers = range(first, first + 3 * SLICE)
    return request(*(span(number, CHAT | own, trace=number) for number in numbers)).SerializeToString()


def test_usual_calls_that_stand_side_by_side_are_read_without_looking_for_marks(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.read(usual_calls(100), {}, NOW)
    monkeypatch.setattr("spanledger_processor.enrichment.stage.next_holding", lambda *_: pytest.fail("looked for"))
    (batch,) = stage.read(usual_calls(500), {}, NOW).batches
    assert [fact.span_id for fact in batch.facts] == [n.to_bytes(8, "big") for n in range(500, 500 + 3 * SLICE)]


def test_usual_calls_that_cannot_be_read_as_such_are_read_by_the_rules(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(UsualSpans, "knows_layouts", lambda *_: True)
    monkeypatch.setattr(UsualSpans, "side_by_side", broken)
    reading = stage.read(request(span(1, CHAT)).SerializeToString(), {}, NOW)
    assert dict(reading.failures) == {"ZeroDivisionError": 1}
    assert b"spanledger.cost.usd" in written(reading)


def test_messages_that_cannot_be_looked_through_cost_a_call_no_price(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("spanledger_processor.enrichment.asked.asked_in", broken)
    asked = '[{"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "read", "arguments": {}}]}]'
    reading = stage.read(request(span(1, CHAT | {"gen_ai.output.messages": asked})).SerializeToString(), {}, NOW)
    assert dict(reading.failures) == {"ZeroDivisionError": 1}
    assert b"spanledger.cost.usd" in written(reading)


def test_bytes_that_are_no_request_are_refused_with_the_place(stage: Stage) -> None:
    with pytest.raises(MalformedError, match="ExportTraceServiceRequest: byte 1"):
        stage.read(b"\x0a\xff\xff\xff", {}, NOW)


def test_tenants_do_not_share_a_session() -> None:
    stage = stage_with("processor.tenant.keys=[team, 'header:x-scope-orgid']")
    one = request(span(1, {**CHAT, "session.id": "s"}), resource={"team": "a"})
    one.MergeFrom(request(span(2, {**CHAT, "session.id": "s"}, trace=2), resource={"team": "b"}))
    first, second = through(stage, one)
    assert first["spanledger.session.cost_usd"] == second["spanledger.session.cost_usd"] == first["spanledger.cost.usd"]
    reading = stage.read(request(span(3, CHAT)).SerializeToString(), {"x-scope-orgid": "c"}, NOW)
    assert (
        len({batch.tenant for batch in (*stage.read(one.SerializeToString(), {}, NOW).batches, *reading.batches)}) == 3
    )


@pytest.mark.parametrize("start", [0, 1, NOW + 3 * 86_400 * 10**9])
def test_a_start_that_no_clock_told_is_priced_by_arrival_and_marked(stage: Stage, start: int) -> None:
    made = span(1, CHAT)
    made.start_time_unix_nano = start
    (found,) = through(stage, request(made))
    assert found["spanledger.cost.estimate"] is True
    assert found["spanledger.cost.usd"] > 0


@pytest.mark.parametrize("ids", [(b"", b""), (bytes(16), bytes(8)), (b"short", b"x")])
def test_spans_with_invalid_ids_are_told_apart_by_what_they_hold(stage: Stage, ids: tuple[bytes, bytes]) -> None:
    one, other = span(1, CHAT), span(1, {**CHAT, "gen_ai.usage.output_tokens": 7})
    for made in (one, other):
        made.trace_id, made.span_id = ids
    store, reading = MemoryStore(), stage.read(request(one, other, one).SerializeToString(), {}, NOW)
    with store.unit() as unit:
        ruling = account(reading.batches[0], unit)
    assert ruling.replays == 1
    assert len({id(decision) for decision in ruling.decisions.values()}) == 2


def test_every_alias_that_can_be_configured_is_written_and_none_over_one_that_came_in() -> None:
    stage = stage_with(
        "processor.aliases=['llm.cost.*', operation.cost, mlflow.llm.cost, langfuse.observation.cost_details]"
    )
    (found,) = through(stage, request(span(1, {**CHAT, "llm.cost.prompt_details.input": 5})))
    assert found["llm.cost.prompt_details.input"] == 5
    assert found["llm.cost.total"] == found["operation.cost"] == 0.00021
    assert (found["llm.cost.prompt"], found["llm.cost.completion"]) == (0.00015, 0.00006)
    assert json.loads(found["mlflow.llm.cost"]) == {
        "total_cost": 0.00021,
        "input_cost": 0.00015,
        "output_cost": 0.00006,
    }
    assert json.loads(found["langfuse.observation.cost_details"])["total"] == 0.00021
    assert "gen_ai.usage.cost" not in found


def test_every_alias_can_be_asked_for_and_written() -> None:
    keys = {name: alias_keys([name]) for name in get_args(Alias)}
    assert all(keys.values())
    assert {key for of_name in keys.values() for key in of_name} == COST_ALIASES.keys() == ALIASES.keys()
