"""Calls found again from other traces: nothing is read for one that nobody else reported, also after a restart."""

from __future__ import annotations

from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counted_work import CountedReads
from ledger_in_memory import NOW, TENANT, make_fact
from spanledger_processor.accounting import cross_trace_index
from spanledger_processor.accounting.account import account, enter
from spanledger_processor.accounting.call_hashes import CallHashes, Hashes
from spanledger_processor.accounting.cross_trace_index import CallFilter, CrossTraceIndex
from spanledger_processor.accounting.decide import span_of
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.trace_state import Memory
from spanledger_processor.accounting.twins import _Twins
from spanledger_processor.ledger.keys import EVERY_TENANT, total_key
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import Changes, Table
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import Usage


def _calls(number: int, **more: object) -> list[Fact]:
    return [
        make_fact(f"c{place}", kind="llm", cost=1000 + place, trace=f"t{place}", response_id=f"r{place}", **more)  # type: ignore[arg-type]
        for place in range(number)
    ]


def _twins(number: int) -> list[Fact]:
    """The same calls as other libraries report them, without the provider's ids and in traces of their own."""
    return [
        make_fact(f"d{place}", kind="llm", cost=1000 + place, trace=f"u{place}", scope="another library")
        for place in range(number)
    ]


def _counted(store: MemoryStore) -> int:
    with store.snapshot() as reader:
        record = reader.get(total_key(TENANT))
    return 0 if record is None else Sums.unpack(record).calls


def test_a_call_that_nobody_else_reported_reads_its_own_trace_only() -> None:
    store = MemoryStore()
    with store.unit() as unit:
        enter(Batch(TENANT, _calls(40), NOW), unit)
        watched = CountedReads(unit)
        others = [make_fact(f"e{n}", kind="llm", cost=5000 + n, trace=f"v{n}", response_id=f"q{n}") for n in range(40)]
        account(Batch(TENANT, others, NOW), watched, Memory.of(unit))
    assert watched.tables.count(Table.TRACE) == 40
    assert Table.INDEX not in watched.tables


def test_calls_of_one_request_are_found_in_the_same_order_in_every_process() -> None:
    """By what they are known by: the order in which a set has these is another one in each process."""
    store, calls = MemoryStore(), _calls(8)
    with store.unit() as unit:
        enter(Batch(TENANT, calls, NOW), unit)
        index = CrossTraceIndex(TENANT, unit, Changes(), NOW + 1, b"another", Memory.of(unit).calls)
        known_by = [CallHashes(TENANT).of(span_of(fact)).ids[0] for fact in calls]
        found, complete = index.candidates(Hashes(ids=tuple(known_by)), span_of(make_fact("e", kind="llm", cost=1)))
    assert complete
    assert found == [
        (fact.trace_id, fact.span_id) for _, fact in sorted(zip(known_by, calls, strict=True), key=itemgetter(0))
    ]


def test_a_request_leaves_one_row_whatever_it_holds() -> None:
    store = MemoryStore()
    for _ in range(2):
        with store.unit() as unit:
            enter(Batch(TENANT, _calls(40), NOW), unit)
    with store.snapshot() as reader:
        assert len(list(reader.scan(Table.INDEX, EVERY_TENANT))) == 1, "a repeat counts nothing, and leaves none"


def test_of_many_requests_of_few_traces_the_latest_are_looked_at_for_the_latest_traces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When a process starts, before it answers: a ledger may have a million requests of some thousand traces."""
    monkeypatch.setattr(cross_trace_index, "_MOST_ROWS_LOOKED_AT", 4)
    store = MemoryStore()
    for number in range(10):
        calls = [make_fact(f"{number}-{one}", kind="llm", cost=1000 + number, trace=f"t{number // 2}") for one in "ab"]
        with store.unit() as unit:
            enter(Batch(TENANT, calls, NOW + number * 10**9), unit)
    with store.snapshot() as reader:
        watched = CountedReads(reader)
        traces = cross_trace_index.recent_traces(watched, 8)
    assert traces == [make_fact("", trace="t3").trace_id, make_fact("", trace="t4").trace_id]
    assert watched.reads == 4


def test_twins_are_found_after_a_restart() -> None:
    store = MemoryStore()
    with store.unit() as unit:
        enter(Batch(TENANT, _calls(10), NOW), unit)
    with store.unit() as unit:
        unit.cache.clear()
        enter(Batch(TENANT, _twins(10), NOW + 10**9), unit)
    assert _counted(store) == 10


def test_a_twin_of_a_request_that_did_not_land_is_counted() -> None:
    """What is in memory of a unit that was lost may point to nothing, and is never believed."""
    store = MemoryStore()
    memory = Memory(CallFilter())
    with store.unit() as unit:
        account(Batch(TENANT, _calls(3), NOW), unit, memory)
        unit.apply(account(Batch(TENANT, _twins(3), NOW + 1), unit, memory).changes, NOW)
    assert _counted(store) == 3


def test_the_filter_is_bounded_and_keeps_the_latest() -> None:
    """Two entries a call: with room for 40, the last ten calls at least are found by it."""
    store, memory = MemoryStore(), Memory(CallFilter(40))
    with store.unit() as unit:
        for place, fact in enumerate(_calls(50)):
            unit.apply(account(Batch(TENANT, [fact], NOW + place * 10**6), unit, memory).changes, NOW)
        twins = _twins(50)
        unit.apply(account(Batch(TENANT, twins[-10:], NOW + 10**9), unit, memory).changes, NOW)
    assert _counted(store) == 50
    assert memory.calls.entries <= 40


def test_a_filter_that_is_built_anew_is_the_one_that_was_there() -> None:
    store, memory = MemoryStore(), Memory(CallFilter())
    with store.unit() as unit:
        for place, fact in enumerate([*_calls(30), *_twins(20)]):
            unit.apply(account(Batch(TENANT, [fact], NOW + place * 10**6), unit, memory).changes, NOW)
        assert CallFilter.of(unit).tables() == memory.calls.tables()


@pytest.mark.parametrize(("requests", "is_found"), [(4, True), (5, False)])
def test_a_call_that_more_came_after_than_are_compared_is_counted_as_an_estimate(
    *, requests: int, is_found: bool
) -> None:
    """Sixty-four of the latest are compared (docs/counting.md), 16 of each request: the twin is the first of them."""
    store = MemoryStore()
    with store.unit() as unit:
        for request in range(requests):
            facts = []
            for place in range(16):
                fact = make_fact(f"c{place}", kind="llm", cost=1000, trace=f"t{request} {place}", length=10**9)
                assert fact.call is not None
                is_twin = request == place == 0
                fact.call.usage = Usage(input=1000, output=100, cache_read=7 if is_twin else 10 + place)
                facts.append(fact)
            enter(Batch(TENANT, facts, NOW + request * 10**6), unit)
        call = make_fact("d", kind="llm", cost=1000, trace="u", scope="another library", length=10**9)
        assert call.call is not None
        call.call.usage = Usage(input=1000, output=100, cache_read=7)
        (decision,) = enter(Batch(TENANT, [call], NOW + 10**9), unit).decisions.values()
    assert _counted(store) == 16 * requests + (not is_found)
    assert bool(decision.duplicate_of) is is_found
    assert ("as many with equal counts may" in decision.note) is not is_found


def test_a_call_that_arrives_late_is_an_estimate_where_its_twin_may_not_have_been_compared() -> None:
    """The 64 that are compared, which arrived after the twin, are of a later minute."""
    with MemoryStore().unit() as unit:
        for request in range(5):
            later = 60 * 10**9 if request else 0
            facts = [
                make_fact(f"c{place}", kind="llm", cost=1000, trace=f"t{request} {place}", start=later + place)
                for place in range(16)
            ]
            enter(Batch(TENANT, facts, NOW + request * 10**6), unit)
        call = make_fact("d", kind="llm", cost=1000, trace="u", scope="another library")
        (decision,) = enter(Batch(TENANT, [call], NOW + 10**9), unit).decisions.values()
    assert decision.cost is not None
    assert decision.cost.estimate
    assert decision.note == "span of another trace may report the same call, as many with equal counts may"


def test_a_call_for_which_no_more_may_be_read_is_counted_as_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests hold the twins; one of them is read."""
    monkeypatch.setattr(cross_trace_index, "MOST_READ", 1)
    store = MemoryStore()
    with store.unit() as unit:
        for place, fact in enumerate(_calls(2)):
            enter(Batch(TENANT, [fact], NOW + place * 10**6), unit)
        decisions = enter(Batch(TENANT, _twins(2), NOW + 10**9), unit).decisions
    assert _counted(store) == 3
    assert [bool(decision.duplicate_of) for decision in decisions.values()] == [True, False]
    assert decisions[1].note == "span of another trace may report the same call, as many with equal counts may"


@st.composite
def _requests(draw: st.DrawFn) -> list[list[Fact]]:
    """Requests of calls that share ids, counts, times and traces, told by two libraries, some again."""
    facts = [
        make_fact(
            f"s{number}",
            draw(st.sampled_from(["", "s0", "s1"])),
            draw(st.sampled_from(["llm", "llm", "llm", "embedding", "agent"])),
            draw(st.sampled_from([1000, 1000, 2000, 3000 + number])),
            trace=f"t{draw(st.integers(0, 2))}",
            scope=draw(st.sampled_from(["one", "two"])),
            session=draw(st.sampled_from(["", "", "s"])),
            response_id=draw(st.sampled_from(["", "", "resp-0123456789abcdef", f"resp-0123456789-{number:04}"])),
            model=draw(st.sampled_from(["gpt", "claude-sonnet-4-5"])),
            start=draw(st.sampled_from([0, 1, 10**9, 700 * 10**9])),
            length=draw(st.sampled_from([10, 10**9])),
        )
        for number in range(draw(st.integers(1, 10)))
    ]
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    requests = [facts[sum(sizes[:place]) : sum(sizes[: place + 1])] for place in range(len(sizes))]
    return [*requests, facts[sum(sizes) :], facts[: draw(st.integers(0, 3))]]


@given(_requests())
def test_the_calls_of_a_trace_looked_up_at_once_come_to_what_each_by_itself_does(requests: list[list[Fact]]) -> None:
    ledgers = MemoryStore(), MemoryStore()
    for facts in requests:
        rulings = []
        for store, looks_up in zip(ledgers, (_Twins._remember_unknown, lambda *_: False), strict=True):
            with store.unit() as unit, pytest.MonkeyPatch.context() as patched:
                patched.setattr(_Twins, "_remember_unknown", looks_up)
                rulings.append(account(Batch(TENANT, facts, NOW), unit, Memory.of(unit)))
                unit.apply(rulings[-1].changes, NOW)
        assert rulings[0].decisions == rulings[1].decisions
    assert ledgers[0]._below.records == ledgers[1]._below.records
