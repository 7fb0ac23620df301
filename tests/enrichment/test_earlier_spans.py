"""Plain spans that come before the first GenAI span of their trace: it does not matter when they come."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import permutations
from statistics import median_low
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import set_attributes
from counted_work import lines_run
from descending import descending
from spanledger_processor.accounting.account import account
from spanledger_processor.config import load
from spanledger_processor.dialects import MARKERS
from spanledger_processor.enrichment import Reading, Stage, earlier_spans, span_slice
from spanledger_processor.enrichment.plain_spans import naming_marks
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.dimensions import values
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.otlp.prefilter import Prefilter
from spanledger_processor.otlp.request import count_traces
from spanledger_processor.otlp.values import GIANT
from spanledger_processor.otlp.wire import finished, write_varint
from spanledger_processor.server.wiring import make_id_resolver, make_stage
from spanledger_processor.signing import Signer

NOW = 1_795_500_000_000_000_000
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.output_tokens": 100,
}
AGENT = {"gen_ai.operation.name": "invoke_agent"}
Encode = Callable[[ExportTraceServiceRequest], bytes]


def new_stage(*sets: str) -> Stage:
    return make_stage(load(None, sets), Signer(b"the key of the tests, 32 bytes.."))


def span(
    number: int, attributes: Mapping[str, Any] | None = None, *, parent: int = 0, trace: int = 1, state: str = ""
) -> Span:
    made = Span(name=f"span {number}", trace_id=trace.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
    made.parent_span_id = parent.to_bytes(8, "big") if parent else b""
    made.trace_state = state
    made.start_time_unix_nano, made.end_time_unix_nano = NOW - 10**9, NOW
    set_attributes(made, dict(attributes or {}))
    return made


def request(spans: Sequence[Span], resource: Mapping[str, str] | None = None) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    for key, text in (resource or {}).items():
        group.resource.attributes.add(key=key).value.string_value = text
    group.scope_spans.add().spans.extend(spans)
    return made


class Ledger:
    """A stage over an empty ledger."""

    def __init__(self, stage: Stage | None = None) -> None:
        self.stage = stage or new_stage()
        self.store = MemoryStore()

    def take(self, body: bytes) -> None:
        self.enter(self.stage.read(body, {}, NOW))

    def enter(self, reading: Reading) -> None:
        for batch in reading.batches:
            with self.store.unit() as unit:
                unit.apply(account(batch, unit).changes, NOW)
        self.stage.entered(reading)

    def views(self, tenant: str = "") -> Mapping[str, Any]:
        of = tenant_hash(tenant)
        with self.store.snapshot() as reader:
            sessions = {row["id"]: row["cost_usd_exact"] for row in queries.sessions(reader, of) if row["spans"]}
            runs = {row["id"]: row["cost_usd_exact"] for row in queries.runs(reader, of) if row["spans"]}
            agents, _ = values(reader, of, "agent", 0, None, 100)
            return {
                "sessions": sessions,
                "runs": runs,
                "agents": {row["value"]: row["cost_usd_exact"] for row in agents},
                "total": queries.total(reader, of)["cost_usd_exact"],
            }


@st.composite
def traces(draw: st.DrawFn) -> list[tuple[Span, Mapping[str, str]]]:
    """Spans of two traces with what their resource names; each call has a cost of its own."""
    names = draw(st.sampled_from([["s1"], ["s1", "s2", "s3"]]))
    made: list[tuple[Span, Mapping[str, str]]] = []
    above: dict[int, list[int]] = {1: [0], 2: [0]}
    for number in range(1, draw(st.integers(2, 8)) + 1):
        trace = draw(st.sampled_from([1, 1, 1, 2]))
        attributes: dict[str, Any] = {}
        if kind := draw(st.sampled_from(["", "", "call", "agent"])):
            attributes = {**CHAT, "gen_ai.usage.input_tokens": 10**number} if kind == "call" else {**AGENT}
        if kind == "agent":
            attributes["gen_ai.agent.name"] = draw(st.sampled_from(["a", "b"]))
        if named := draw(st.sampled_from(["", "", "", *names])):
            attributes[draw(st.sampled_from(["session.id", "gen_ai.conversation.id"]))] = named
        if draw(st.integers(0, 7)) == 0:
            attributes["workflow.run_id"] = draw(st.sampled_from(["r", "q"]))
        if draw(st.integers(0, 7)) == 0:
            attributes["spanledger.session.parent_id"] = draw(st.sampled_from(["above", "beside", "s1"]))
        resource = {"session.id": names[-1]} if draw(st.integers(0, 15)) == 0 else {}
        state = draw(st.sampled_from(["", "", "ot=th:8"]))
        parent = draw(st.sampled_from(above[trace]))
        above[trace].append(number)
        made.append((span(number, attributes, parent=parent, trace=trace, state=state), resource))
    return made


@given(traces(), st.data(), st.sampled_from([ExportTraceServiceRequest.SerializeToString, descending]))
def test_whatever_the_order_and_the_requests_every_view_is_the_same(
    made: list[tuple[Span, Mapping[str, str]]], data: st.DataObject, encode: Encode
) -> None:
    whole, parts = Ledger(), Ledger()
    every = ExportTraceServiceRequest()
    for one, resource in made:
        every.MergeFrom(request([one], resource))
    whole.take(encode(every))
    order = data.draw(st.permutations(range(len(made))))
    cuts = data.draw(st.sets(st.integers(0, len(made) - 1)))
    part = ExportTraceServiceRequest()
    for place, index in enumerate(order):
        part.MergeFrom(request([made[index][0]], made[index][1]))
        if place in cuts or place == len(order) - 1:
            parts.take(encode(part))
            if data.draw(st.booleans()):
                parts.take(encode(part))  # sent again
            part = ExportTraceServiceRequest()
    assert parts.views() == whole.views()


def test_a_web_frameworks_span_names_the_session_of_a_call_that_comes_later() -> None:
    ledger = Ledger()
    ledger.take(request([span(5, {"session.id": "s"})]).SerializeToString())
    ledger.take(request([span(1, {**CHAT, "gen_ai.usage.input_tokens": 1000})]).SerializeToString())
    assert ledger.views()["sessions"] == {"s": "0.00021"}  # 1000 x $0.15 and 100 x $0.60, per million


def test_a_session_that_is_named_last_has_the_project_of_its_calls() -> None:
    """As where an application's root span, which ends last, names it."""
    call = span(1, {**CHAT, "gen_ai.usage.input_tokens": 1000}, parent=5)
    other = span(2, {**CHAT, "gen_ai.usage.input_tokens": 1000}, parent=5)
    named = request([span(5, {"session.id": "s"})], {"service.namespace": "shop"}).SerializeToString()
    calls = [
        request([one], {"service.namespace": of}).SerializeToString() for one, of in ((call, "shop"), (other, "web"))
    ]
    for bodies in ([named, *calls], [*calls, named], [calls[1], named, calls[0]]):
        ledger = Ledger()
        for body in bodies:
            ledger.take(body)
        with ledger.store.snapshot() as reader:
            projects = [row.get("project") for row in queries.sessions(reader, tenant_hash("")) if row["spans"]]
        assert projects == ["shop"]


@pytest.mark.parametrize("calls", [1, 40])
def test_plain_spans_are_found_beside_calls_of_their_request(calls: int) -> None:
    """Whether they are most of its bytes, and all of it is kept, or few, and they are cut out of it; the calls may link
    the same traces.
    """
    ledger = Ledger()
    beside = [span(number, {**CHAT, "gen_ai.usage.input_tokens": 1000}, trace=2) for number in range(1, calls + 1)]
    plain = [span(number, {"session.id": f"s{number}", "url": "x" * 1000}, trace=number) for number in (3, 4, 5)]
    for one in plain:
        beside[0].links.add(trace_id=one.trace_id)
    ledger.take(request([*beside, *plain, span(99, {**AGENT}, trace=2)]).SerializeToString())
    called = [span(1, {**CHAT, "gen_ai.usage.input_tokens": 1000}, trace=number) for number in (3, 4, 5)]
    ledger.take(request(called).SerializeToString())
    costs = {f"s{number}": "0.00021" for number in (3, 4, 5)}
    assert ledger.views()["sessions"].items() >= costs.items()


def test_what_is_kept_of_a_request_takes_no_more_bytes_than_it_is_counted_with() -> None:
    """Where a plain span is most of a request, that is kept as it came: with what stands beside the span."""
    for size in (10, 5000):
        stage = new_stage()
        calls = [span(1, {**CHAT, "text": "x" * 2000}, trace=2)]
        body = request([*calls, span(5, {"session.id": "s", "url": "y" * size})]).SerializeToString()
        stage.read(body, {}, NOW)
        (block,) = stage._earlier._naming.of(span(5).trace_id, b"")
        assert isinstance(block, earlier_spans._Whole)
        assert (block._spans is body) == (size == 5000)
        assert block.size > len(block._spans)


def test_what_came_before_is_kept_until_it_is_accounted_for() -> None:
    """A request may be refused after it was read, for its rate or the state, and comes again."""
    ledger = Ledger()
    ledger.take(request([span(5, {"session.id": "s"})]).SerializeToString())
    body = request([span(1, {**CHAT, "gen_ai.usage.input_tokens": 1000})]).SerializeToString()
    assert [len(batch.facts) for batch in ledger.stage.read(body, {}, NOW).batches] == [2]
    ledger.take(body)
    assert [len(batch.facts) for batch in ledger.stage.read(body, {}, NOW).batches] == [1]
    assert ledger.views()["sessions"] == {"s": "0.00021"}


def test_what_came_before_stands_behind_the_calls_of_a_request_in_the_order_of_their_traces() -> None:
    """The same in every process: what is stored of a request goes by the order of its spans."""
    numbers = [5, 2, 8, 1, 7, 3, 6, 4]
    ledger = Ledger()
    ledger.take(request([span(10 + number, trace=number) for number in sorted(numbers)]).SerializeToString())
    calls = [span(number, CHAT, trace=number) for number in numbers]
    (batch,) = ledger.stage.read(request(calls).SerializeToString(), {}, NOW).batches
    assert [int.from_bytes(fact.span_id, "big") for fact in batch.facts] == [*numbers, *(10 + n for n in numbers)]


def test_spans_that_came_before_the_genai_spans_of_another_worker_are_accounted_for() -> None:
    ledger, other = Ledger(), new_stage()
    ledger.take(request([span(5, {"session.id": "s"})]).SerializeToString())
    call = other.read(request([span(1, {**CHAT, "gen_ai.usage.input_tokens": 1000})]).SerializeToString(), {}, NOW)
    ledger.enter(call)
    assert ledger.views()["sessions"] == {"": "0.00021"}
    trace = span(5).trace_id + tenant_hash("")
    known = finished(ledger.stage.knowing([trace], NOW))
    assert [[fact.span_id for fact in batch.facts] for batch in known.batches] == [[span(5).span_id]]
    ledger.enter(known)
    assert ledger.views()["sessions"]["s"] == "0.00021"
    assert finished(ledger.stage.knowing([trace], NOW)).batches == []


def test_earlier_spans_stay_with_their_tenant() -> None:
    ledger = Ledger(new_stage("processor.tenant.keys=[team]"))
    ledger.take(request([span(5, {"session.id": "red's"})], {"team": "red"}).SerializeToString())
    ledger.take(request([span(5, {"session.id": "blue's"})], {"team": "blue"}).SerializeToString())
    body = request([span(1, {**CHAT, "gen_ai.usage.input_tokens": 1000})], {"team": "blue"}).SerializeToString()
    ledger.take(body)
    assert ledger.views("blue")["sessions"] == {"blue's": "0.00021"}
    assert ledger.views("red")["total"] == "0"


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
@pytest.mark.parametrize("before", [None, "", "red"], ids=str)
def test_a_trace_of_two_tenants_has_the_session_that_a_plain_span_names(order: list[int], before: str | None) -> None:
    """Also where another tenant's GenAI span comes between; or came before a restart, when it was not known whose."""
    ledger = Ledger(new_stage("processor.tenant.keys=[team]"))
    if before is not None:
        mark = tenant_hash(before) if before else b""
        ledger.enter(finished(ledger.stage.knowing([span(1).trace_id + mark], NOW)))
    call = {**CHAT, "gen_ai.usage.input_tokens": 1000}
    bodies = [
        request([span(5, {"session.id": "s"})], {"team": "blue"}),
        request([span(1, call)], {"team": "red"}),
        request([span(2, call)], {"team": "blue"}),
    ]
    for index in order:
        ledger.take(bodies[index].SerializeToString())
    assert ledger.views("blue")["sessions"] == {"s": "0.00021"}
    assert ledger.views("red")["sessions"] == {"": "0.00021"}


def test_a_flood_of_tenants_in_one_trace_is_bounded() -> None:
    stage = new_stage("processor.tenant.keys=[team]")
    for number in range(50):
        body = request([span(number + 1, {**CHAT, "gen_ai.usage.input_tokens": 1000})], {"team": f"team {number}"})
        stage.read(body.SerializeToString(), {}, NOW)
    assert len(stage._known._others[span(1).trace_id]) <= 5
    plain = request([span(99, {"session.id": "s"})], {"team": "team 3"}).SerializeToString()
    assert [len(batch.facts) for batch in stage.read(plain, {}, NOW).batches] == [1]


def test_a_request_without_genai_spans_is_not_read_before_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a trace is known to have some it costs the search for markers, and to be counted."""
    stage = new_stage()
    monkeypatch.setattr("spanledger_processor.enrichment.stage.parsing_traces", None)
    body = request([span(number, {"session.id": "s"}) for number in range(1, 500)]).SerializeToString()
    reading = stage.read(body, {}, NOW)
    assert reading.request.span_count == count_traces(body).span_count == 499


def test_the_oldest_go_when_too_many_are_kept_and_those_of_other_tenants_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earlier_spans, "NAMING_BYTES", 100_000)
    stage = new_stage("processor.tenant.keys=[team]")
    finished(stage.knowing([span(5, trace=5000).trace_id], NOW))
    stage.read(request([span(5, {"session.id": "s"})], {"team": "quiet"}).SerializeToString(), {}, NOW)
    for trace in range(10, 1010):
        flood = request([span(5, {"session.id": "s"}, trace=trace)], {"team": "flood"})
        stage.read(flood.SerializeToString(), {}, NOW)
    kept = [trace for trace in (1, *range(10, 1010)) if any(stage._earlier.facts(trace.to_bytes(16, "big")))]
    assert kept[0] == 1
    assert kept[1:] == [*range(1010 - len(kept[1:]), 1010)]
    assert 50 < len(kept) < 200
    assert stage._earlier._naming._size <= 100_000


@pytest.mark.parametrize("giant", [False, True])
def test_of_many_bytes_each_span_is_kept_for_itself(monkeypatch: pytest.MonkeyPatch, *, giant: bool) -> None:
    """What stands between the spans is not kept with them; of a giant span its ids are, which still link others."""
    monkeypatch.setattr(earlier_spans, "_LONGEST", 100)
    monkeypatch.setattr(earlier_spans, "GIANT", 100 if giant else 1 << 18)
    ledger = Ledger(new_stage())
    finished(ledger.stage.knowing([span(5, trace=5000).trace_id], NOW))
    body = request([span(5, {"session.id": f"session {trace}" * 20}, trace=trace) for trace in range(1, 21)])
    ledger.take(body.SerializeToString())
    assert len(ledger.stage._earlier._naming._of_trace) == (0 if giant else 20)
    assert len([*ledger.stage._earlier.facts(span(5, trace=7).trace_id)]) == 1
    called = span(1, {**CHAT, "gen_ai.usage.input_tokens": 1000}, trace=7)
    ledger.take(request([called]).SerializeToString())
    assert ledger.views()["sessions"] == {"" if giant else "session 7" * 20: "0.00021"}


@pytest.mark.parametrize("large", [False, True])
def test_requests_that_pass_unread_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch, *, large: bool) -> None:
    monkeypatch.setattr(earlier_spans, "UNREAD_BYTES", 60_000)
    monkeypatch.setattr(earlier_spans, "UNREAD_REQUEST", 50 if large else 1 << 20)
    stage = new_stage()
    for trace in range(1, 101):
        stage.read(request([span(5, trace=trace)]).SerializeToString(), {}, NOW)
    assert stage._earlier._unread_bytes <= 60_000
    assert not large or not stage._earlier._unread
    stage.read(request([span(1, CHAT, trace=200)]).SerializeToString(), {}, NOW)
    kept = [trace for trace in range(1, 101) if any(stage._earlier.facts(trace.to_bytes(16, "big")))]
    assert kept == [*range(1 if large else 101 - len(kept), 101)]
    assert len(kept) > 20


def test_what_has_no_bytes_is_kept_within_a_bound_too() -> None:
    """A probe's empty requests, or tiny ones with long headers."""
    stage, headers = new_stage(), {"x-some-header": "x" * 5000}
    for _ in range(earlier_spans.UNREAD_BYTES // 5000 + 100):
        stage.read(b"", headers, NOW)
    assert len(stage._earlier._unread) <= earlier_spans.UNREAD_BYTES // 5000
    for _ in range(10_000):
        stage.read(b"", {}, NOW)
    assert len(stage._earlier._unread) < 10_000


def test_spans_of_a_trace_that_came_in_several_requests_are_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earlier_spans, "NAMING_BYTES", 100_000)
    stage = new_stage()
    finished(stage.knowing([span(5, trace=5000).trace_id], NOW))
    for trace in range(1, 1001):
        for number in (5, 6, 7):
            stage.read(request([span(number, {"session.id": "s"}, trace=trace)]).SerializeToString(), {}, NOW)
    kept = [trace for trace in range(1, 1001) if any(stage._earlier.facts(trace.to_bytes(16, "big")))]
    assert kept == [*range(1001 - len(kept), 1001)]
    assert 20 < len(kept) < 70


def test_work_on_plain_spans_does_not_grow_with_the_requests_that_brought_those_of_their_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted: lines run while the oldest of many go, and bytes that are taken while one more is added."""

    def work_beside(kept: int) -> tuple[int, int]:
        monkeypatch.setattr(earlier_spans, "LINKING_BYTES", 1 << 30)
        stage = new_stage()
        finished(stage.knowing([span(5, trace=5000).trace_id], NOW))
        bodies = [request([span(number)]).SerializeToString() for number in range(1, kept + 20)]
        for body in bodies[:kept]:
            stage.read(body, {}, NOW)
        taken = []
        for body in bodies[kept:]:
            tracemalloc.start()
            stage.read(body, {}, NOW)
            taken.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        stage._earlier._linking._most = stage._earlier._linking._size
        return lines_run(partial(stage.read, bodies[0], {}, NOW)), median_low(taken)

    (few_lines, few_bytes), (many_lines, many_bytes) = work_beside(50), work_beside(2000)
    assert many_lines < few_lines + 10
    assert many_bytes < few_bytes + 1000


def test_tenants_stand_by_what_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the one that holds most is found without a look at each of many."""
    monkeypatch.setattr(earlier_spans, "LINKING_BYTES", 60_000)
    stage = new_stage("processor.tenant.keys=[team]")
    finished(stage.knowing([span(5, trace=5000).trace_id], NOW))
    for number in range(1, 1001):
        stage.read(request([span(5, trace=number)], {"team": f"team {number}"}).SerializeToString(), {}, NOW)
    kept = stage._earlier._linking
    assert 50 < len(kept._of_tenant) < 100
    assert sum(map(len, kept._ranks.values())) == len(kept._of_tenant) == len(kept._sizes)
    assert len(kept._ranks) == 1
    assert sum(kept._sizes.values()) == kept._size


def test_of_a_giant_span_the_ids_alone_are_kept() -> None:
    """It would be read in one go on the event loop."""
    stage = new_stage()
    finished(stage.knowing([span(5, trace=5000).trace_id], NOW))
    giant = span(6, {"session.id": "s", "url": "x" * GIANT}, parent=7)
    stage.read(request([span(5, {"session.id": "s"}), giant]).SerializeToString(), {}, NOW)
    facts = stage.read(request([span(1, CHAT)]).SerializeToString(), {}, NOW).batches[0].facts
    assert {fact.span_id[-1]: (fact.session.id, fact.parent_id[-1:]) for fact in facts} == {
        1: ("", b""),
        5: ("s", b""),
        6: ("", b"\x07"),
    }


@pytest.mark.parametrize("is_read", [False, True])
def test_a_plain_span_that_cannot_be_read_costs_a_later_request_nothing(*, is_read: bool) -> None:
    """It may be of another sender, and went on as it came."""
    stage = new_stage()
    if is_read:
        finished(stage.knowing([span(5, trace=5000).trace_id], NOW))
    broken = span(6, {"session.id": "s"}).SerializeToString() + b"\x2a\x7f"
    body = request([span(5, {"session.id": "s"})]).SerializeToString()
    for tag in (b"\x12", b"\x12", b"\x0a"):  # of a span, its scope and its resource
        broken = tag + write_varint(len(broken)) + broken
    stage.read(body + broken, {}, NOW)
    reading = stage.read(request([span(1, CHAT)]).SerializeToString(), {}, NOW)
    assert [len(batch.facts) for batch in reading.batches] == [2]


@given(st.sets(st.sampled_from([b"run_id", b"gen", b"gen_ai.x", b"nest", b"x.session.id", b"session.id", b"id.se"])))
def test_what_names_a_session_or_run_is_found_by_a_marker_or_a_name(keys: set[bytes]) -> None:
    markers = (b"gen_ai.", b"id.x", b"test", b"session.identity")
    names = ",".join(sorted(key.decode() for key in keys))
    resolver = make_id_resolver(load(None, (f"processor.sessions.keys=[{names}]", "processor.runs.keys=[]")).processor)
    marks, naming = Prefilter(markers), Prefilter(naming_marks(resolver, markers))
    for key in keys:
        for marker in markers:
            for text in (key + marker, marker + key, key + marker[1:], marker + key[1:], key[:-1] + marker):
                assert key not in text or marks.hits(text) or naming.hits(text)


@given(st.integers(0, 5), st.lists(st.booleans(), min_size=1, max_size=12))
def test_places_without_some_of_them(first: int, taken: list[bool]) -> None:
    places = range(first, first + len(taken))
    some = [place for place, is_taken in zip(places, taken, strict=True) if is_taken]
    assert [*span_slice.without(places, some)] == [place for place in places if place not in some]


@given(st.lists(st.tuples(st.integers(0, 3 * GIANT), st.integers(0, 9)), min_size=1, max_size=9), st.integers(0, 99))
def test_among_some_spans_a_giant_one_is_found(spans: list[tuple[int, int]], at: int) -> None:
    starts, ends = [], []
    for size, gap in spans:
        starts.append(at + gap)
        ends.append(at + gap + size)
        at = ends[-1]
    assert earlier_spans._has_giant(starts, ends) == any(size > GIANT for size, _ in spans)


def test_the_markers_that_are_looked_for_by_default_are_few_enough_for_a_vector_search() -> None:
    """Up to 64 words are searched for many bytes at a time (https://docs.rs/aho-corasick, `packed`)."""
    naming = naming_marks(make_id_resolver(load(None, ()).processor), MARKERS)
    assert max(len(naming), len(MARKERS)) <= 64
