"""Differential: usual calls come to what the full rules come to, byte for byte: facts, ledger and attributes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from captures import captures
from chats import set_attributes
from descending import descending
from full_rules import read_in_full
from spanledger_processor.accounting.account import account, enter
from spanledger_processor.accounting.account_usual import account_usual
from spanledger_processor.accounting.facts import Batch, Fact, Ruling
from spanledger_processor.accounting.trace_record import unpack_head
from spanledger_processor.accounting.trace_state import Memory
from spanledger_processor.accounting.usual import UsualDecision, UsualFact
from spanledger_processor.config import load
from spanledger_processor.enrichment import Reading, Stage, write
from spanledger_processor.enrichment import usual as usual_spans
from spanledger_processor.enrichment.attributes import encode
from spanledger_processor.enrichment.usual import UsualSpans
from spanledger_processor.ledger.keys import TRACE_PREFIX
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import Table, Unit
from spanledger_processor.model import Decision
from spanledger_processor.pricing import Pricer
from spanledger_processor.pricing.price_list import Override
from spanledger_processor.server.codec import decode_batch, decode_ruling, encode_batch, encode_ruling
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing import Signer
from spanledger_processor.telemetry.metrics import Telemetry

NOW = 1_795_500_000 * 10**9
SIGNER = Signer(b"the key of this test, long enough")
FIELDS = tuple(one.name for one in fields(Fact))


def stage(aliases: str = "[gen_ai.usage.cost]", *, usual: bool = True) -> Stage:
    made = make_stage(load(None, [f"processor.aliases={aliases}"]), SIGNER)
    if not usual:
        read_in_full(made)
    return made


class Taken(Batch):
    """A part of a batch that is told from others as the whole is."""

    def __init__(self, whole: Batch, facts: list[Fact]) -> None:
        super().__init__(whole.tenant, facts, whole.now_ns, whole.loop, whole.aliases, watched=whole.watched)
        self.whole = whole

    def digest(self) -> bytes:
        return self.whole.digest()


def enter_in_full(batch: Batch, unit: Unit, taken: Sequence[int]) -> Ruling:
    """Account for a batch by the full rules in the same two steps: those `taken` by the fast path, and the rest."""
    memory = unit.cache.setdefault("accounting", None) or Memory.of(unit)
    unit.cache["accounting"] = memory
    whole = Ruling()
    rest = [place for place in range(len(batch.facts)) if place not in set(taken)]
    parts = (taken, Taken(batch, of(batch, taken))), (rest, replace(batch, facts=of(batch, rest)))
    for places, facts in parts:
        if places:
            part = account(facts, unit, memory)
            unit.apply(part.changes, batch.now_ns)
            whole.add(part, places)
    return whole


def of(batch: Batch, places: Sequence[int]) -> list[Fact]:
    return [batch.facts[place] for place in places]


IN_ORDER = slice(None)


@dataclass
class Both:
    """The same requests by both ways, each over a ledger of its own; and the fast one in a ledger process, too."""

    aliases: str = "[gen_ai.usage.cost]"
    taken: int = 0

    def __post_init__(self) -> None:
        self.stages = stage(self.aliases), stage(self.aliases, usual=False)
        self.stores = MemoryStore(), MemoryStore(), MemoryStore()
        self.telemetry = [Telemetry("1", window=3600, budget=1) for _ in self.stores]
        self.now = NOW

    def send(self, body: bytes, order: slice = IN_ORDER) -> None:
        """Send a request both ways, its spans accounted for in some order, and compare all that comes out."""
        self.now += 10**9
        readings = [stage.read(body, {}, self.now) for stage in self.stages]
        for reading in readings:
            for batch, places in zip(reading.batches, reading.places, strict=True):
                numbers = dict.fromkeys([*range(len(places))[order], *range(len(places))])
                batch.facts[:], places[:] = of(batch, [*numbers]), [places[number] for number in numbers]
        for fast, full in zip(readings[0].batches, readings[1].batches, strict=True):
            assert [values(fact) for fact in fast.facts] == [values(fact) for fact in full.facts]
        rulings: list[list[Ruling]] = [[], [], []]
        for fast, full in zip(readings[0].batches, readings[1].batches, strict=True):
            taken = self._taken(fast)
            self.taken += len(taken)
            with self.stores[0].unit() as unit:
                rulings[0].append(enter(fast, unit))
            with self.stores[1].unit() as unit:
                rulings[1].append(enter_in_full(full, unit, taken))
            with self.stores[2].unit() as unit:
                crossed = enter(decode_batch(encode_batch(fast)), unit)
            rulings[2].append(decode_ruling(encode_ruling(crossed), fast.facts))
        for one, other, crossed in zip(*rulings, strict=True):
            compare(one, other)
            compare(one, crossed)
        for telemetry, reading, ruled in zip(self.telemetry, (*readings, readings[0]), rulings, strict=True):
            for batch, ruling in zip(reading.batches, ruled, strict=True):
                telemetry.stage.ruled(batch, ruling)
        assert read_records(self.stores[0]) == read_records(self.stores[1])
        assert self.stores[0]._below.records == self.stores[2]._below.records
        assert written(readings[0], rulings[0]) == written(readings[1], rulings[1])

    def _taken(self, batch: Batch) -> list[int]:
        """The places of the facts that the fast path takes, found on a unit that does not land."""
        store = MemoryStore()
        store._below.records.update(self.stores[0]._below.records)
        with store.unit() as unit:
            _, rest = account_usual(batch, unit, Memory.of(unit).calls, account)
        return [place for place in range(len(batch.facts)) if place not in set(rest)]


def read_records(store: MemoryStore) -> dict[bytes, Any]:
    """All records; heads of traces as they are read, for those of usual calls are written in a form of their own."""
    return {
        where: unpack_head(record) if where[0] == Table.TRACE and where[TRACE_PREFIX:] == b"\0\0" else record
        for where, record in store._below.records.items()
    }


def counted(telemetry: Telemetry) -> list[bytes]:
    """What was counted, but for when each began."""
    return sorted(
        line
        for line in telemetry.registry.scrape().splitlines()
        if line.startswith(b"spanledger_") and b"_created" not in line
    )


def values(fact: Fact) -> list[Any]:
    return [getattr(fact, name) for name in FIELDS]


def compare(one: Ruling, other: Ruling) -> None:
    assert one.decisions.keys() == other.decisions.keys()
    for place, decision in one.decisions.items():
        full = other.decisions[place]
        assert encode(decision) == encode(full)
        assert [getattr(decision, name.name) for name in fields(Decision)] == [
            getattr(full, name.name) for name in fields(Decision)
        ]
    counts = ("replays", "conflicts", "corrections", "correction", "cut_traces")
    assert [getattr(one, name) for name in counts] == [getattr(other, name) for name in counts]
    assert sorted(one.fresh) == sorted(other.fresh)


def written(reading: Reading, rulings: list[Ruling]) -> bytes:
    return write(reading, [ruling.decisions for ruling in rulings])


MODELS = (
    ("openai", "gpt-4o", "gpt-4o-2024-08-06"),
    ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5"),
    ("gcp.gemini", "gemini-2.5-pro", "gemini-2.5-pro"),
    ("nobody", "nothing-1", "nothing-1"),
)
SCOPES = ("opentelemetry.instrumentation.openai_v2", "another")
MORE: tuple[dict[str, Any], ...] = (
    {},
    {"gen_ai.usage.cache_read.input_tokens": 10},
    {"user.id": "one", "gen_ai.usage.cache_read.input_tokens": 0},
    {"gen_ai.latency.time_to_first_token": 0.25},  # more than some of them last
    {"app.note": "what spanledger. begins is no key here"},
    {"server.address": "api.openai.com"},
)
UNUSUAL: tuple[dict[str, Any], ...] = (
    {"gen_ai.operation.name": "invoke_agent"},
    {"gen_ai.operation.name": "embeddings"},
    {"gen_ai.conversation.id": ""},
    {"gen_ai.conversation.id": "long" * 40},
    {"gen_ai.response.id": " resp-1"},
    {"gen_ai.response.id": "x" * 600},
    {"gen_ai.usage.cost": 0.25},
    {"gen_ai.usage.input_tokens": 0},
    {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.cache_read.input_tokens": 10},
    {"tokenjam.run_id": "r"},
    {"spanledger.session.parent_id": "p"},
    {"spanledger.source": "log:x"},
    {"spanledger.task.id": "task"},
    {"request_id": "q"},
    {"gen_ai.agent.id": "a"},
    {"gen_ai.provider.name": "nobody"},
    {"server.address": "api.deepseek.com"},
    {"server.address": "resource.openai.azure.com"},
    {"server.address": "api.deepseek.com", "gen_ai.request.model": "deepseek-v4-flash"},
)
FIRST_PLACES = 1000


def messages(call_id: str) -> str:
    """An output that is text, or asks for a tool."""
    call = {"type": "tool_call", "id": call_id, "name": "read", "arguments": {"path": call_id}}
    part = call if call_id else {"type": "text", "content": "Done."}
    return json.dumps([{"role": "assistant", "parts": [part], "finish_reason": "stop"}])


def usual(place: int, model: int, more: dict[str, Any]) -> dict[str, Any]:
    provider, asked, answered = MODELS[model]
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": asked,
        "gen_ai.response.model": answered,
        "gen_ai.response.id": f"resp-{place}",
        "gen_ai.conversation.id": "s",
        "gen_ai.usage.input_tokens": 1000 + place,
        "gen_ai.usage.output_tokens": 20,
    } | more


def first() -> bytes:
    """A request with two of each kind of usual call, by which they are known from then on."""
    request = ExportTraceServiceRequest()
    place = FIRST_PLACES
    for scope in SCOPES:
        scoped = scope_of(request, scope)
        for model in range(len(MODELS)):
            for more in (*MORE, *MORE):
                place += 1
                span = scoped.spans.add(trace_id=b"first-%010d" % place, span_id=b"span%04d" % place)
                span.start_time_unix_nano = span.end_time_unix_nano = NOW
                set_attributes(span, usual(place, model, more))
    return request.SerializeToString()


def scope_of(request: ExportTraceServiceRequest, scope: str) -> ScopeSpans:
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "shop"
    scoped = group.scope_spans.add()
    scoped.scope.name = scope
    return scoped


FIRST = first()


@st.composite
def one_request(draw: st.DrawFn) -> bytes:
    """Calls that are mostly usual, with what may come between: repeats, twins, links, names, unusual ones."""
    request = ExportTraceServiceRequest()
    scoped = [scope_of(request, scope) for scope in SCOPES]
    for trace in draw(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)):
        of = draw(st.sampled_from((0, 0, 0, 1, 2)))
        for place in draw(st.lists(st.integers(0, 5), min_size=1, max_size=4)):
            fill(draw, scoped[draw(st.integers(0, 1)) if of == 2 else of].spans.add(), trace, place)
    return request.SerializeToString()


def fill(draw: st.DrawFn, span: Span, trace: int, place: int) -> None:
    number = 10 * trace + place
    span.trace_id, span.span_id = b"trace-%010d" % trace, b"span%04d" % number
    span.parent_span_id = b"the root"
    span.start_time_unix_nano = NOW + draw(st.sampled_from((0, 10**6, 700 * 10**9)))
    span.end_time_unix_nano = span.start_time_unix_nano + draw(st.sampled_from((*3 * (0, 10**6, 10**9), -(10**9))))
    more = dict(draw(st.sampled_from(MORE)))
    if first_chunk_s := draw(st.sampled_from((0, 0, 0.0005, 0.7))):
        more["gen_ai.response.time_to_first_chunk"] = first_chunk_s
    if draw(st.integers(0, 5)) == 0:
        more["gen_ai.output.messages"] = messages(draw(st.sampled_from(("", "", f"call-{number}"))))
    match draw(st.integers(0, 29)):
        case 0:
            span.parent_span_id = b"span%04d" % (10 * trace + draw(st.integers(0, 5)))
        case 1:
            more |= draw(st.sampled_from(UNUSUAL))
        case 2:
            more["gen_ai.response.id"] = f"resp-{draw(st.integers(0, 40))}"
        case 3:
            more["gen_ai.usage.input_tokens"] = 1000 + draw(st.integers(0, 40))
        case 4:
            span.status.code = 2  # type: ignore[assignment]
        case 5:
            span.events.add(name="event")
        case 6:
            span.trace_id = b"short"
        case 7:
            span.start_time_unix_nano = 0
        case 8 | 9 | 10 | 11:
            fill_plain(draw, span, 10 * trace)
            return
        case _:
            more["gen_ai.conversation.id"] = draw(st.sampled_from(("s", "t")))
    set_attributes(span, usual(number, draw(st.integers(0, len(MODELS) - 1)), more))


PLAIN: tuple[dict[str, Any], ...] = ({}, {}, {"session.id": "s"}, {"session.id": "u"}, {"tokenjam.run_id": "r"})


def fill_plain(draw: st.DrawFn, span: Span, first: int) -> None:
    """A span beside, above or below calls; at times the one that the others name as their parent."""
    if draw(st.booleans()):
        span.span_id = b"the root"
    span.parent_span_id = draw(st.sampled_from((b"", b"the root", b"span%04d" % (first + draw(st.integers(0, 5))))))
    set_attributes(span, draw(st.sampled_from(PLAIN)))


@st.composite
def requests(draw: st.DrawFn) -> list[bytes]:
    return [draw(one_request()) for _ in range(draw(st.integers(1, 3)))]


@settings(max_examples=40)
@given(
    requests(),
    st.sampled_from(("[gen_ai.usage.cost]", "[]", "['llm.cost.*', langfuse.observation.cost_details]")),
    st.booleans(),
)
def test_generated_calls_come_to_the_same_both_ways(bodies: list[bytes], aliases: str, is_from_collector: bool) -> None:  # noqa: FBT001
    both = Both(aliases)
    for body in (FIRST, *bodies, *bodies[:1]):
        both.send(descending(ExportTraceServiceRequest.FromString(body)) if is_from_collector else body)
    scraped = [counted(telemetry) for telemetry in both.telemetry]
    assert scraped[0] == scraped[1] == scraped[2]


@pytest.mark.parametrize("name", [capture.name for capture in captures()])
def test_recordings_come_to_the_same_both_ways(name: str) -> None:
    """Twice over: the first time what is usual is learned, the second time under other ids."""
    both = Both()
    bodies = [body for signal, body in _requests(name) if signal == "traces"]
    for body in (*bodies, *map(renamed, bodies), *map(renamed, map(renamed, bodies))):
        both.send(body)


def _requests(name: str) -> Sequence[tuple[str, bytes]]:
    return next(capture.requests for capture in captures() if capture.name == name)


def renamed(body: bytes) -> bytes:
    """The same spans in other traces, of other responses."""
    request = ExportTraceServiceRequest.FromString(body)
    for group in request.resource_spans:
        for scoped in group.scope_spans:
            for span in scoped.spans:
                span.trace_id = bytes([span.trace_id[0] ^ 1]) + span.trace_id[2:] + span.trace_id[1:2]
                for attribute in span.attributes:
                    if attribute.key == "gen_ai.response.id":
                        attribute.value.string_value += "x"
    return request.SerializeToString()


def calls(count: int, trace: int, first: int = 0) -> bytes:
    """A request of usual calls in one trace."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    scoped = group.scope_spans.add()
    for number in range(first, first + count):
        provider, asked, answered = MODELS[number % 3]
        span = scoped.spans.add(trace_id=b"trace-%010d" % trace, span_id=b"span-%03d" % number)
        span.start_time_unix_nano = span.end_time_unix_nano = NOW
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": asked,
            "gen_ai.response.model": answered,
            "gen_ai.response.id": f"resp-{trace}-{number}",
            "gen_ai.conversation.id": f"session-{trace}",
            "gen_ai.usage.input_tokens": 1000 + number,
            "gen_ai.usage.output_tokens": 20 + number,
        }
        set_attributes(span, attributes)
    return request.SerializeToString()


@pytest.mark.parametrize("order", [IN_ORDER, slice(None, None, -1), slice(None, None, 2), slice(1, None, 2)])
def test_usual_calls_beside_plain_spans_take_the_fast_path(order: slice) -> None:
    """Also where these stand above them, or name a session, in any order; not where one stands below a call, or names a
    run.
    """
    both = Both()
    both.send(calls(9, trace=0))
    for trace, (parent, names, taken) in enumerate(
        (
            (b"", {}, 7),
            (b"above", {"session.id": "another"}, 7),
            (b"span-001", {}, 0),
            (b"above", {"tokenjam.run_id": "r"}, 0),
        ),
        1,
    ):
        request = ExportTraceServiceRequest.FromString(calls(5, trace))
        spans = request.resource_spans[0].scope_spans[0].spans
        spans[3].parent_span_id = b"plain--0"
        for number in range(2):
            span = spans.add(trace_id=b"trace-%010d" % trace, span_id=b"plain--%d" % number, parent_span_id=parent)
            span.start_time_unix_nano = span.end_time_unix_nano = NOW
            set_attributes(span, names)
        both.taken = 0
        both.send(request.SerializeToString(), order)
        assert both.taken == taken
        both.send(calls(2, trace, first=5))  # what was stored is read as the full rules' own


def test_usual_calls_that_come_out_of_a_collector_are_cut_out() -> None:
    """Learned from the first; the other requests are not parsed."""
    fast, full = stage(), stage(usual=False)
    for trace in range(3):
        body = descending(ExportTraceServiceRequest.FromString(calls(30, trace)))
        facts = [[values(fact) for fact in made.read(body, {}, NOW).batches[0].facts] for made in (fast, full)]
        assert facts[0] == facts[1]
    (known,) = fast._usual._groups.values()
    assert known.layouts.used >= 60


def test_usual_calls_take_the_fast_path() -> None:
    both = Both()
    both.send(calls(30, 1))
    both.send(calls(30, 2))
    assert both.taken == 30
    both.send(calls(30, 3))
    assert both.taken == 60


def in_one_request(*bodies: bytes) -> bytes:
    """One request with the spans of several."""
    request = ExportTraceServiceRequest()
    for body in bodies:
        request.MergeFromString(body)
    return request.SerializeToString()


def test_one_trace_that_is_not_apart_leaves_the_others_to_the_fast_path() -> None:
    """One with a call that ends before it starts, one of which another trace knows a call, two with one call, and two
    libraries.
    """
    both = Both()
    both.send(calls(6, 1))
    both.send(by_another(0).SerializeToString())
    backwards, known, twins = (ExportTraceServiceRequest.FromString(calls(6, trace)) for trace in range(2, 5))
    others = by_another(5)
    backwards.resource_spans[0].scope_spans[0].spans[2].end_time_unix_nano -= 50 * 10**9
    value(known, 3, "gen_ai.response.id").string_value = "resp-1-3"
    value(twins, 4, "gen_ai.response.id").string_value = "resp-7-4"
    for one, taken in ((backwards, 12), (known, 12), (twins, 12), (others, 18)):
        both.taken = 0
        trace = int(one.resource_spans[0].scope_spans[0].spans[0].trace_id[-10:])
        spans = [calls(6, 10 * trace), one.SerializeToString(), calls(6, 7 if one is twins else 10 * trace + 1)]
        both.send(in_one_request(*spans))
        assert both.taken == taken


def by_another(trace: int) -> ExportTraceServiceRequest:
    """Calls of other usage that another library reports."""
    request = ExportTraceServiceRequest.FromString(calls(6, trace))
    request.resource_spans[0].scope_spans[0].scope.name = "another"
    for number in range(6):
        value(request, number, "gen_ai.usage.input_tokens").int_value += 5000
    return request


def value(request: ExportTraceServiceRequest, number: int, key: str) -> Any:
    attributes = request.resource_spans[0].scope_spans[0].spans[number].attributes
    (found,) = (attribute.value for attribute in attributes if attribute.key == key)
    return found


@pytest.mark.parametrize("left_out", ["gen_ai.usage.output_tokens", ""])
def test_calls_that_take_a_while_come_to_the_same_both_ways(left_out: str) -> None:
    """Also such as tell no output, which the full rules take."""
    both = Both()
    for trace in range(1, 5):
        request = ExportTraceServiceRequest.FromString(calls(30, trace))
        for number, span in enumerate(request.resource_spans[0].scope_spans[0].spans):
            span.end_time_unix_nano += (number + 1) * 10**8
            told = [one for one in span.attributes if one.key != left_out]
            del span.attributes[:]
            span.attributes.extend(told)
        both.send(request.SerializeToString())
    assert both.taken == (0 if left_out else 90)


def test_calls_that_end_before_they_start_come_to_the_same_both_ways() -> None:
    both, taken = Both(), []
    request = ExportTraceServiceRequest.FromString(calls(30, 2))
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.end_time_unix_nano -= 50 * 10**9
    for body in (calls(30, 1), request.SerializeToString(), calls(30, 3)):
        both.send(body)
        taken.append(both.taken)
    assert taken == [0, 0, 30]


def test_tool_calls_in_outputs_of_usual_calls_are_seen() -> None:
    """Their messages decide on nothing else, so that a call may be read by others that asked for no tool."""
    both, made = Both(), stage()
    for number, call_id in enumerate(("", "", "", "", "", "call-5", "", "call-7")):
        request = ExportTraceServiceRequest()
        span = scope_of(request, "one").spans.add(trace_id=b"trace-%010d" % number, span_id=b"span%04d" % number)
        span.start_time_unix_nano = span.end_time_unix_nano = NOW
        set_attributes(span, usual(number, 0, {"gen_ai.output.messages": messages(call_id)}))
        body = request.SerializeToString()
        both.send(body)
        (fact,) = made.read(body, {}, NOW).batches[0].facts
        assert fact.asked == ((call_id, "read") if call_id else ())
        assert type(fact) is not UsualFact or not call_id


@pytest.mark.parametrize("model", [0, 2], ids=["a usual card", "another card"])
def test_prices_that_change_while_it_runs_hold_from_then_on(model: int) -> None:
    """What was learned of a model does not outlive its prices (processor.pricing.overrides, read again)."""
    made = stage()
    pricer = made._builder.pricing
    assert isinstance(pricer, Pricer)
    amounts = []
    for trace in (1, 2, 3, 4):
        reading = made.read(calls(6, trace), {}, NOW)
        fact = reading.batches[0].facts[model]
        assert fact.cost is not None
        amounts.append((fact.cost.amount, fact.cost.price))
        if trace == 3:
            pricer.adopt(Pricer([Override("*", input=Decimal(10), output=Decimal(100))]))
    assert amounts[0] == amounts[1] == amounts[2]
    assert type(fact) is UsualFact
    assert amounts[3][0] == (1000 + model) * 10 * 10**6 + (20 + model) * 100 * 10**6
    assert amounts[3][1] == "override/*"


def test_nothing_is_kept_for_a_while_where_no_call_is_like_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared comes from the network, users by the thousand: such spans are read by the full rules alone."""
    monkeypatch.setattr(usual_spans, "_MOST_READERS", 8)
    monkeypatch.setattr(usual_spans, "_PAUSE", 40)
    made = stage()
    learned: list[str] = []
    learn = UsualSpans._learn

    def counted_learn(self: UsualSpans, *given: Any) -> None:
        learned.append("")
        learn(self, *given)

    monkeypatch.setattr(UsualSpans, "_learn", counted_learn)
    kinds = []
    for number in range(60):
        request = ExportTraceServiceRequest()
        span = scope_of(request, "one").spans.add(trace_id=b"trace-%010d" % number, span_id=b"span%04d" % number)
        span.start_time_unix_nano = span.end_time_unix_nano = NOW
        set_attributes(span, usual(number, 0, {"user.id": f"user {number // 2}"}))
        (fact,) = made.read(request.SerializeToString(), {}, NOW).batches[0].facts
        assert fact.cost is not None
        assert fact.cost.amount is not None
        kinds.append(type(fact))
    assert len(learned) < 30
    assert UsualFact not in kinds[20:50]


@pytest.mark.parametrize("keys", [200, 3], ids=["many keys", "long keys"])
def test_nothing_is_kept_of_shapes_that_are_too_large(keys: int) -> None:
    """Keys come from the network: of thousands of shapes with more than is compared nothing may stay in memory."""
    made = stage()
    request = ExportTraceServiceRequest()
    span = scope_of(request, "one").spans.add(trace_id=b"trace-0000000001", span_id=b"span0001")
    span.start_time_unix_nano = span.end_time_unix_nano = NOW
    set_attributes(span, usual(1, 0, {f"key {number} {'x' * (12_000 // keys)}": 1 for number in range(keys)}))
    (fact,) = made.read(request.SerializeToString(), {}, NOW).batches[0].facts
    assert fact.call is not None
    assert not any(group.plans for group in made._usual._groups.values())


def test_decisions_on_usual_calls_have_all_their_fields() -> None:
    made, store = stage(), MemoryStore()
    rulings = []
    for trace in (1, 2, 3):
        reading = made.read(calls(6, trace), {}, NOW)
        with store.unit() as unit:
            rulings.append(enter(reading.batches[0], unit))
    decision = rulings[-1].decisions[0]
    assert type(decision) is UsualDecision
    assert (decision.session_id, decision.kind, decision.run_source) == ("session-3", "llm", "session_id")
    with pytest.raises(AttributeError):
        _ = decision.no_field  # type: ignore[attr-defined]


@pytest.mark.parametrize("reported", [(1, 1, 1, 0, 1, 0), (0, 0, 0, 1, 0, 1)], ids=["first told", "first not told"])
def test_calls_are_kept_with_their_own_first_tokens(reported: tuple[int, ...]) -> None:
    """A first token after the end of its span is none; calls with and without one are of one form."""
    both = Both()
    for number, seconds in enumerate(reported):
        request = ExportTraceServiceRequest()
        span = scope_of(request, SCOPES[0]).spans.add(trace_id=b"trace-%010d" % number, span_id=b"span%04d" % number)
        span.start_time_unix_nano, span.end_time_unix_nano = NOW, NOW + seconds * 10**9
        set_attributes(span, usual(number, 0, {"gen_ai.latency.time_to_first_token": 0.25}))
        both.send(request.SerializeToString())
    assert both.taken >= len(reported) - 2
