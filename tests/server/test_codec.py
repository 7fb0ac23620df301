"""Batches and rulings as bytes: what comes out is what went in, except content."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from chats import set_attributes
from spanledger_processor.accounting.account import enter, enter_together, weight_of
from spanledger_processor.accounting.column_batch import ColumnBatch
from spanledger_processor.accounting.facts import Batch, Fact, LoopRule, Ruling
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.usual import UsualDecision, UsualFact
from spanledger_processor.config import load
from spanledger_processor.enrichment import Stage
from spanledger_processor.enrichment.attributes import encode
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import Table
from spanledger_processor.model import Call, Cost, Decision, ReportedCost, Signature, ToolCall, Usage
from spanledger_processor.server.codec import decode_batch, decode_ruling, encode_batch, encode_ruling
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing.signer import Signer

NOW = 1_795_500_000 * 10**9
CAPTURES = sorted((Path(__file__).parents[1] / "data" / "otlp").rglob("*.traces.binpb"))

text = st.text(max_size=12)
amount = st.integers(0, 2**70)
maybe = st.none() | amount
usage = st.builds(Usage, *(maybe for _ in dataclasses.fields(Usage)))
call = st.builds(
    Call,
    dialect=text,
    kind=st.sampled_from(["llm", "agent"]),
    usage=st.none() | usage,
    reported=st.none() | st.builds(ReportedCost, amount, st.booleans(), text, upstream=maybe),
    price_context=st.lists(st.tuples(text, text), max_size=2).map(tuple),
    tool=st.none() | st.builds(ToolCall, st.none() | text, call_id=st.none() | text),
    unclassed=st.lists(text, max_size=2).map(tuple),
    present=st.frozensets(text, max_size=3),
)
cost = st.builds(Cost, amount=maybe, computed=maybe, input=amount, price=text, estimate=st.booleans())
fact = st.builds(
    Fact,
    st.binary(max_size=16),
    st.binary(max_size=8),
    end_ns=st.integers(0, 2**64 - 1),
    session=st.builds(Named, text, text),
    call=st.none() | call,
    cost=st.none() | cost,
    signature=st.none() | st.builds(Signature, text, text),
)
decision = st.builds(
    Decision, kind=st.sampled_from(["llm", "tool"]), dialect=text, usage=st.none() | usage, cost=st.none() | cost
)


def read(capture: Path) -> list[Batch]:
    stage = make_stage(load(None, [], {"HOME": "/nowhere"}), Signer(b"a key for tests, long enough"))
    return stage.read(capture.read_bytes(), {}, 1_795_000_000_000_000_000).batches


def without_content(batch: Batch) -> Batch:
    def bare(one: Fact) -> Fact:
        if one.call is None or one.call.tool is None:
            return one
        tool = structs.replace(one.call.tool, arguments=None, result=None)
        return dataclasses.replace(one, call=structs.replace(one.call, tool=tool))

    return dataclasses.replace(batch, facts=[bare(one) for one in batch.facts])


def every(batch: Batch) -> Batch:
    """The same batch with a fact of each span."""
    return batch.only(range(batch.count))


def across(batches: list[Batch], store: MemoryStore) -> list[Ruling]:
    """Have batches accounted for together in a ledger process, and return what their workers read of its rulings."""
    with store.unit() as unit:
        rulings = enter_together([decode_batch(encode_batch(batch)) for batch in batches], unit)
    return [decode_ruling(encode_ruling(one), batch.facts) for one, batch in zip(rulings, batches, strict=True)]


def records(store: MemoryStore) -> dict[bytes, bytes]:
    """All records; rows of requests by their time alone, for the hash behind it is of one or of several batches."""
    return {where[:9] if where[0] == Table.INDEX else where: one for where, one in store._below.records.items()}


def assert_same(crossed: list[Ruling], here: list[Ruling]) -> None:
    for one, other in zip(crossed, here, strict=True):
        assert values(one) == values(other)


def values(ruling: Ruling) -> list[Any]:
    """All that a ruling says, with the decisions by their fields and as they are written."""
    names = [one.name for one in dataclasses.fields(Decision)]
    decided = {place: [getattr(one, name) for name in names] for place, one in ruling.decisions.items()}
    written = {place: encode(one) for place, one in ruling.decisions.items()}
    counts = (ruling.replays, ruling.conflicts, ruling.corrections, ruling.correction, ruling.cut_traces)
    return [decided, written, sorted(ruling.fresh), counts]


@pytest.mark.parametrize("capture", CAPTURES[::7], ids=lambda path: "/".join(path.parts[-3:]))
def test_recorded_batches_and_their_rulings_come_through(capture: Path) -> None:
    stores, batches = (MemoryStore(), MemoryStore()), read(capture)
    assert batches
    for batch in batches:
        assert every(decode_batch(encode_batch(batch))) == without_content(batch)
        with stores[0].unit() as unit:
            here = enter(without_content(batch), unit)
        assert_same(across([batch], stores[1]), [here])
    assert records(stores[1]) == records(stores[0])


@given(st.lists(fact, max_size=3), st.binary(max_size=8), st.builds(LoopRule, st.integers(0, 9), st.integers(0, 9)))
def test_any_batch_comes_through(facts: list[Fact], tenant: bytes, loop: LoopRule) -> None:
    """Also amounts beyond 64 bits, and text that no encoding takes."""
    batch = Batch(tenant, facts, 1, loop, ("gen_ai.usage.cost",), tenant_name="the tenant")
    assert every(decode_batch(encode_batch(batch))) == batch


@given(st.dictionaries(st.integers(0, 9), decision, max_size=3), st.integers(-(2**70), 2**70))
def test_any_ruling_comes_through(decisions: dict[int, Decision], correction: int) -> None:
    ruling = Ruling(decisions, fresh=[*decisions], replays=1, conflicts=2, corrections=3, cut_traces=4)
    ruling.correction = correction
    assert decode_ruling(encode_ruling(ruling), []) == ruling


def test_usual_calls_come_through_as_columns_and_as_what_they_are() -> None:
    """What those of a form have in common crosses beside them, and is one for all of them in every batch."""
    stores, stage, prototypes, sizes = (MemoryStore(), MemoryStore()), make(), set[int](), list[int]()
    usual: list[tuple[int, int]] = []
    for request in range(4):
        now_ns = NOW + request * 10**9
        (batch,) = stage.read(chats(request, now_ns), {}, now_ns).batches
        data = encode_batch(batch)
        crossed = decode_batch(data)
        columns = len(crossed.usual.calls.forms) if isinstance(crossed, ColumnBatch) else 0
        assert columns + len(crossed.facts) == crossed.count == len(batch.facts)
        assert weight_of(crossed) == weight_of(batch)
        assert crossed.genai_traces() == batch.genai_traces()
        facts = every(crossed).facts
        assert [type(one) for one in facts] == [type(one) for one in batch.facts]
        for one, other in zip(batch.facts, facts, strict=True):
            assert all(getattr(one, name.name) == getattr(other, name.name) for name in dataclasses.fields(Fact))
        prototypes |= {id(one.prototype) for one in facts if type(one) is UsualFact}
        with stores[0].unit() as unit:
            here = enter(batch, unit)
        (ruled,) = across([batch], stores[1])
        assert_same([ruled], [here])
        decided = [type(one) is UsualDecision for one in ruled.decisions.values()]
        usual.append((columns, sum(decided)))
        sizes.append(len(data))
    assert records(stores[1]) == records(stores[0])
    assert usual[1:] == [(2 * CALLS, 2 * CALLS)] * 3
    assert len(prototypes) == 2
    assert max(sizes[1:]) < 200 * 2 * CALLS


@pytest.mark.parametrize("shared", [False, True], ids=["traces of their own", "a trace of several"])
def test_requests_of_workers_that_wait_together_are_accounted_for_as_one(shared: bool) -> None:  # noqa: FBT001
    """Each gets what is decided on its own spans, also where a trace stands in several requests."""
    stores, stage = (MemoryStore(), MemoryStore()), make()
    requests = [chats(0 if shared and request else request, NOW, first=100 * request) for request in range(5)]
    batches = [batch for body in requests for batch in stage.read(body, {}, NOW).batches]
    for together in (batches[:2], batches[2:]):
        with stores[0].unit() as unit:
            here = enter_together(together, unit)
        assert_same(across(together, stores[1]), here)
    assert records(stores[1]) == records(stores[0])


@pytest.mark.parametrize("known", [0, 1], ids=["the first", "the second"])
def test_one_of_two_requests_that_wait_together_may_be_known_whole(known: int) -> None:
    """Or another of them be new: whichever of them has no call that is decided on by columns is answered as well."""
    stores, stage = (MemoryStore(), MemoryStore()), make()
    stage.read(chats(0, NOW), {}, NOW)
    batches = [batch for request in (1, 2) for batch in stage.read(chats(request, NOW), {}, NOW).batches]
    for together in ([batches[known]], batches):
        with stores[0].unit() as unit:
            here = enter_together(together, unit)
        assert_same(across(together, stores[1]), here)
    assert [one.replays for one in here] == [2 * CALLS, 0]
    assert records(stores[1]) == records(stores[0])


def test_spans_that_come_again_are_known_whichever_way_they_came_first() -> None:
    store, stage = MemoryStore(), make()
    stage.read(chats(0, NOW), {}, NOW)
    (batch,) = stage.read(chats(1, NOW), {}, NOW).batches
    rulings = across([batch], store) + across([batch], store)
    with store.unit() as unit:
        rulings.append(enter(batch, unit))
    assert [ruling.replays for ruling in rulings] == [0, 2 * CALLS, 2 * CALLS]
    attributes = [{place: encode(one) for place, one in ruling.decisions.items()} for ruling in rulings]
    assert attributes[0] == attributes[1] == attributes[2]


@given(st.lists(st.integers(0, 2**70), min_size=5, max_size=5))
def test_amounts_of_usual_calls_come_through_whatever_they_are(parts: list[int]) -> None:
    stage = make()
    stage.read(chats(0, NOW), {}, NOW)
    (batch,) = stage.read(chats(1, NOW), {}, NOW).batches
    fact = batch.facts[1]
    assert type(fact) is UsualFact
    fact.parts, fact.amount = (parts[0], parts[1], parts[2], parts[3], parts[4]), sum(parts)
    crossed = every(decode_batch(encode_batch(batch))).facts
    for one, other in zip(batch.facts, crossed, strict=True):
        assert type(one) is UsualFact
        assert type(other) is UsualFact
        assert (other.amount, other.parts, other.counts) == (one.amount, one.parts, one.counts)
    stores = MemoryStore(), MemoryStore()
    with stores[0].unit() as unit:
        here = enter(batch, unit)
    assert_same(across([batch], stores[1]), [here])


def make() -> Stage:
    return make_stage(load(None, [], {"HOME": "/nowhere"}), Signer(b"a key for tests, long enough"))


CALLS = 40


def chats(request: int, now_ns: int, first: int = 0) -> bytes:
    """A request with calls of two models, two traces of each; the ids of its spans are from `first` on."""
    export = ExportTraceServiceRequest()
    spans = export.resource_spans.add().scope_spans.add().spans
    for number in range(2 * CALLS):
        model = ("gpt-4o", "claude-sonnet-4-5")[number % 2]
        span = spans.add(trace_id=b"%8d%6d%2d" % (request, number // 20, number % 2), span_id=b"%8d" % (first + number))
        span.start_time_unix_nano = now_ns - 10**10 + number * 10**6
        span.end_time_unix_nano = span.start_time_unix_nano + 10**9 + number
        own: dict[str, str | int] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": ("openai", "anthropic")[number % 2],
            "gen_ai.request.model": model,
            "gen_ai.response.model": model,
            "gen_ai.response.id": f"response-{request}-{first + number}",
            "session.id": f"session-{number // 10}",
            "gen_ai.usage.input_tokens": 1000 + number + 100 * request,
            "gen_ai.usage.output_tokens": 100 + number,
        }
        set_attributes(span, own)
    return export.SerializeToString()


@pytest.mark.parametrize("name", ["\ud800", "a\x00b", "größe"])
def test_text_of_any_kind_comes_through(name: str) -> None:
    batch: Any = Batch(b"", [Fact(b"t", b"s", call=Call("otel", "llm", response_id=name))], 1)
    assert decode_batch(encode_batch(batch)) == batch


def test_arguments_of_tools_do_not_cross() -> None:
    call = Call("otel", "tool", tool=ToolCall("search", {"query": "a secret"}, "call-1"))
    data = encode_batch(Batch(b"", [Fact(b"t", b"s", call=call)], 1))
    assert b"secret" not in data
    (crossed,) = decode_batch(data).facts
    assert crossed.call is not None
    assert crossed.call.tool == ToolCall("search", None, "call-1")


def test_the_rules_of_a_batch_come_across() -> None:
    loop = LoopRule(3, 0, 5, 2, 7, (("poll*", 5, 0, 0),))
    budgets = (BudgetRule("b", 1 << 70, "rolling", 7, "team", "red", b"tenant!!", (50, 100), forecast=False),)
    batch = Batch(b"tenant!!", [], 5, loop, ("gen_ai.usage.cost",), budgets)
    assert decode_batch(encode_batch(batch)) == batch
