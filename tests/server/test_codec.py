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
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact, LoopRule, Ruling
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.usual import UsualDecision, UsualFact
from spanledger_processor.config import load
from spanledger_processor.enrichment.attributes import encode
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import Changes
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


@pytest.mark.parametrize("capture", CAPTURES[::7], ids=lambda path: "/".join(path.parts[-3:]))
def test_recorded_batches_and_their_rulings_come_through(capture: Path) -> None:
    store, batches = MemoryStore(), read(capture)
    assert batches
    for batch in batches:
        crossed = decode_batch(encode_batch(batch))
        assert crossed == without_content(batch)
        with store.unit() as unit:
            ruling = enter(crossed, unit)
        assert decode_ruling(encode_ruling(ruling), crossed.facts) == dataclasses.replace(ruling, changes=Changes())


@given(st.lists(fact, max_size=3), st.binary(max_size=8), st.builds(LoopRule, st.integers(0, 9), st.integers(0, 9)))
def test_any_batch_comes_through(facts: list[Fact], tenant: bytes, loop: LoopRule) -> None:
    """Also amounts beyond 64 bits, and text that no encoding takes."""
    batch = Batch(tenant, facts, 1, loop, ("gen_ai.usage.cost",), tenant_name="the tenant")
    assert decode_batch(encode_batch(batch)) == batch


@given(st.dictionaries(st.integers(0, 9), decision, max_size=3), st.integers(-(2**70), 2**70))
def test_any_ruling_comes_through(decisions: dict[int, Decision], correction: int) -> None:
    ruling = Ruling(decisions, fresh=[*decisions], replays=1, conflicts=2, corrections=3, correction=correction)
    assert decode_ruling(encode_ruling(ruling), []) == ruling


def test_usual_calls_and_their_decisions_come_through_as_such() -> None:
    """What each is like crosses beside them, and is one for all of them in every batch."""
    stage = make_stage(load(None, [], {"HOME": "/nowhere"}), Signer(b"a key for tests, long enough"))
    store, prototypes, sizes = MemoryStore(), set[int](), list[int]()
    usual: list[tuple[int, int]] = []
    for request in range(4):
        now_ns = NOW + request * 10**9
        (batch,) = stage.read(chats(request, now_ns), {}, now_ns).batches
        data = encode_batch(batch)
        crossed = decode_batch(data)
        assert [type(one) for one in crossed.facts] == [type(one) for one in batch.facts]
        for one, other in zip(batch.facts, crossed.facts, strict=True):
            assert all(getattr(one, name.name) == getattr(other, name.name) for name in dataclasses.fields(Fact))
        prototypes |= {id(one.prototype) for one in crossed.facts if type(one) is UsualFact}
        with store.unit() as unit:
            ruling = enter(crossed, unit)
        ruled = decode_ruling(encode_ruling(ruling), batch.facts)
        assert ruled == dataclasses.replace(ruling, changes=Changes())
        for place, decision in ruling.decisions.items():
            assert type(ruled.decisions[place]) is type(decision)
            assert encode(ruled.decisions[place]) == encode(decision)
        decided = [type(one) is UsualDecision for one in ruling.decisions.values()]
        usual.append((sum(type(one) is UsualFact for one in batch.facts), sum(decided)))
        sizes.append(len(data))
    assert usual[1:] == [(2 * CALLS, 2 * CALLS)] * 3
    assert len(prototypes) == 2
    assert max(sizes[1:]) < 150 * 2 * CALLS


@given(st.lists(st.integers(0, 2**70), min_size=5, max_size=5))
def test_amounts_of_usual_calls_come_through_whatever_they_are(parts: list[int]) -> None:
    stage = make_stage(load(None, [], {"HOME": "/nowhere"}), Signer(b"a key for tests, long enough"))
    stage.read(chats(0, NOW), {}, NOW)
    (batch,) = stage.read(chats(1, NOW), {}, NOW).batches
    fact = batch.facts[1]
    assert type(fact) is UsualFact
    fact.parts, fact.amount = (parts[0], parts[1], parts[2], parts[3], parts[4]), sum(parts)
    crossed = decode_batch(encode_batch(batch)).facts
    for one, other in zip(batch.facts, crossed, strict=True):
        assert type(one) is UsualFact
        assert type(other) is UsualFact
        assert (other.amount, other.parts, other.counts) == (one.amount, one.parts, one.counts)


CALLS = 40


def chats(request: int, now_ns: int) -> bytes:
    """A request with calls of two models, two traces of each."""
    export = ExportTraceServiceRequest()
    spans = export.resource_spans.add().scope_spans.add().spans
    for number in range(2 * CALLS):
        model = ("gpt-4o", "claude-sonnet-4-5")[number % 2]
        span = spans.add(trace_id=b"%8d%6d%2d" % (request, number // 20, number % 2), span_id=b"%8d" % number)
        span.start_time_unix_nano = now_ns - 10**10 + number * 10**6
        span.end_time_unix_nano = span.start_time_unix_nano + 10**9 + number
        own: dict[str, str | int] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": ("openai", "anthropic")[number % 2],
            "gen_ai.request.model": model,
            "gen_ai.response.model": model,
            "gen_ai.response.id": f"response-{request}-{number}",
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
