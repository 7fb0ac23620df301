"""A trace of more spans than are remembered: what decides on a later span is kept, and where it is not, that shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, MakeFact, MemoryLedger, make_fact
from odd_traces import spans
from spanledger_processor.accounting import trace, trace_record, trace_set, trace_state
from spanledger_processor.accounting.account import account
from spanledger_processor.accounting.count_once import Match, match
from spanledger_processor.accounting.cross_trace_index import CallFilter
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.trace import Span, Trace
from spanledger_processor.accounting.trace_record import state_of, stored_span
from spanledger_processor.accounting.trace_state import Memory, TraceCache
from spanledger_processor.ledger.keys import trace_key
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import Key, Table

SECOND = 10**9
BOUND = 80


@pytest.fixture(autouse=True)
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MAX_SPANS", BOUND)
    monkeypatch.setattr(trace, "_SLACK", 10)


def _children(number: int = 10, parent: str = "agent") -> list[Fact]:
    return [
        make_fact(f"child{place}", parent, "llm", 1000 + place, start=place * SECOND, response_id=f"r{place}")
        for place in range(number)
    ]


def _filler(kind: str, number: int = 4 * BOUND) -> Iterator[list[Fact]]:
    """Other spans of the trace, in requests."""
    for first in range(0, number, 20):
        yield [
            make_fact(f"{kind}{place}", "root", kind, 1 if kind else None, start=100 * SECOND + place)
            for place in range(first, first + 20)
        ]


def _agent(cost: int, **more: object) -> Fact:
    more = {"start": -SECOND, "length": 1000 * SECOND, **more}
    return make_fact("agent", "root", "agent", cost, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["llm", ""])
@pytest.mark.parametrize("between", [False, True])
def test_an_agent_that_comes_after_its_calls_were_forgotten_repeats_them(
    ledger: MemoryLedger, kind: str, *, between: bool
) -> None:
    calls = _children(parent="step" if between else "agent")
    ledger.take([*calls, make_fact("first", "root", "other")])
    for request in _filler(kind):
        ledger.take(request)
    before = ledger.total.cost
    if between:
        ledger.take([make_fact("step", "agent")])
    (late,) = ledger.take([_agent(sum(fact.cost.amount or 0 for fact in calls if fact.cost))])
    assert late.repeats_children
    assert ledger.total.cost == before
    assert ledger.correction == 0


def test_an_agent_whose_links_are_not_known_is_judged_by_the_times_of_forgotten_calls(ledger: MemoryLedger) -> None:
    ledger.take(_children(parent="never seen"))
    for request in _filler("llm"):
        ledger.take(request)
    before = ledger.total.cost
    ledger.take([_agent(10_045, length=50 * SECOND)])
    assert ledger.total.cost == before


def test_an_agent_that_came_first_waits_for_its_calls(ledger: MemoryLedger) -> None:
    ledger.take([_agent(10_045, length=50 * SECOND)])
    for request in _filler("llm"):
        ledger.take(request)
    others = ledger.total.cost - 10_045
    ledger.take(_children())
    assert ledger.total.cost == others + sum(1000 + place for place in range(10))
    assert ledger.sent == ledger.total.cost + ledger.correction


def test_a_second_library_that_comes_late_tells_no_call_again(ledger: MemoryLedger, fact: MakeFact) -> None:
    calls = [fact(f"c{n}", "step", "llm", 700 + n, start=n * SECOND, length=SECOND // 2) for n in range(5)]
    again = [fact(f"d{n}", "step", "llm", 700 + n, start=n * SECOND, length=SECOND // 2, scope="two") for n in range(5)]
    ledger.take(calls)
    for request in _filler("llm"):
        ledger.take(request)
    before = ledger.total.cost
    assert [decision.duplicate_of for decision in ledger.take(again)] == [call.span_id.hex() for call in calls]
    assert ledger.total.cost == before


@pytest.mark.parametrize("response", ["", "resp_1"])
def test_a_second_library_told_a_call_again_before_the_first_report_is_forgotten(
    ledger: MemoryLedger, fact: MakeFact, response: str
) -> None:
    """The report that stays would be the only one that the rules look at."""
    more = {"start": 0, "length": SECOND, "response_id": response}
    ledger.take([fact("first", "step", "llm", 700, **more)])
    for request in _filler("llm", BOUND - 20):
        ledger.take(request)
    (again,) = ledger.take([fact("again", "step", "llm", 700, scope="two", **more)])
    assert again.duplicate_of == b"first".hex()
    for number in range(BOUND):
        ledger.take([fact(f"more{number}", "root", "llm", 1, start=200 * SECOND + number)])
    assert (ledger.total.cost, ledger.correction) == (700 + BOUND - 20 + BOUND, 0)


def test_a_counted_parent_of_a_poorer_report_stays_counted_when_that_is_forgotten(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    upper, lower = fact("upper", "root", "llm", 700, length=SECOND), fact("lower", "upper", "llm", 700, start=5)
    assert upper.call is not None
    assert upper.call.usage is not None
    upper.call.usage.cache_read = 8
    ledger.take([lower, upper])
    for request in _filler("llm"):
        ledger.take(request)
    ledger.take([fact("last", "root", "llm", 3)])
    assert ledger.total.cost == 700 + 4 * BOUND + 3


def test_sessions_that_forgotten_spans_named_still_count(ledger: MemoryLedger, fact: MakeFact) -> None:
    """Two named: a span that names none, and stands below none that does, is nobody's."""
    ledger.take([fact("a", "root", "llm", 5, session="s1"), fact("b", "root", "llm", 5, session="s2")])
    for request in _filler("llm"):
        ledger.take(request)
    (late,) = ledger.take([fact("late", "root", "llm", 7)])
    assert late.session_id == ""


def test_where_more_is_forgotten_than_that_an_agent_is_an_estimate(ledger: MemoryLedger, fact: MakeFact) -> None:
    """As many agents without calls as there is room: none of them can go without a doubt about later ones."""
    for first in range(0, 2 * BOUND, 20):
        ledger.take(
            [
                fact(f"a{n}", "root", "agent", n + 1, start=n * SECOND, length=SECOND // 2)
                for n in range(first, first + 20)
            ]
        )
    (late,) = ledger.take([_agent(50, start=1000 * SECOND)])
    assert late.cost is not None
    assert late.cost.estimate
    assert "very long" in late.note


def _records_read(ledger: MemoryLedger) -> int:
    """How many records of traces are read to account for a request of the trace with nothing in memory."""
    records = 0
    with ledger.store.unit() as unit:
        get = unit.get

        def counted(where: Key) -> bytes | None:
            nonlocal records
            records += where[0] == Table.TRACE
            return get(where)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(unit, "get", counted)
            account(Batch(TENANT, [make_fact("new", "root", "llm", 9)], NOW), unit)
    return records


def test_to_read_a_trace_costs_no_more_however_many_spans_it_had(ledger: MemoryLedger) -> None:
    read: list[int] = []
    for first in range(0, 40 * BOUND, 2 * BOUND):
        ledger.take([make_fact(f"c{n}", "root", "llm", n + 1, start=n) for n in range(first, first + 2 * BOUND)])
        read.append(_records_read(ledger))
    assert max(read[2:]) <= 2 + BOUND // trace_record.SEGMENT_SPANS + 1
    assert read[-1] <= read[2]


def test_a_repeat_is_found_however_long_the_trace_is(ledger: MemoryLedger) -> None:
    first = [make_fact(f"c{n}", "root", "llm", n + 1, start=n) for n in range(20)]
    decided = ledger.take([*first, make_fact("plain", "root")])
    for request in _filler("llm"):
        ledger.take(request)
    before = ledger.total
    assert ledger.take([*first, make_fact("plain", "root")]) == decided
    assert (ledger.total, ledger.replays) == (before, 20)
    with ledger.store.snapshot() as reader:
        found = stored_span(reader, TENANT, b"t1", b"c3")
    assert found is not None
    assert found.decision == decided[3]


def test_a_trace_of_a_version_that_read_all_segments_is_read(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head does not say which segments to read, and no row says where a span stands."""
    first = [make_fact(f"c{n}", "root", "llm", n + 1, start=n) for n in range(20)]
    with monkeypatch.context() as patch:
        patch.setattr(trace_set.TraceSet, "_store_settled", lambda *_: None)
        ledger.take(first)
        for request in _filler("llm"):
            ledger.take(request)
    assert not [where for where in ledger.records if where[0] == Table.SETTLED]
    ledger = MemoryLedger(ledger.store)
    for place in range(3):  # it becomes one of this version with the first
        before = ledger.total
        ledger.take(first)
        assert ledger.total == before
        ledger.take([make_fact(f"new{place}", "root", "llm", 7)])
    assert [where for where in ledger.records if where[0] == Table.SETTLED]


def test_segments_are_numbered_anew_after_the_last(ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What still matters is kept; of what does not, the oldest repeats are no longer known."""
    monkeypatch.setattr(trace_record, "LAST_SEGMENT", 6)
    agent = _agent(10_045, length=50 * SECOND)
    ledger.take([agent])
    for request in _filler("llm", 1000):
        ledger.take(request)
    others = ledger.total.cost - 10_045
    ledger.take(_children())
    assert ledger.total.cost == others + sum(1000 + place for place in range(10))
    assert ledger.take([agent])[0].cost is not None
    assert max(where for where in ledger.records if where[0] == Table.TRACE) <= trace_key(TENANT, b"t1", 6)


@given(spans(names=9), st.data())
def test_what_is_kept_of_a_cut_trace_in_memory_is_what_is_read(facts: list[Fact], data: st.DataObject) -> None:
    """`MemoryLedger` compares."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "MAX_SPANS", 4)
        patch.setattr(trace, "_SLACK", 1)
        patch.setattr(trace_set, "SEGMENT_SPANS", 1)
        ledger, sizes = MemoryLedger(), st.integers(1, 4)
        while facts:
            size = data.draw(sizes)
            ledger.take(facts[:size])
            facts = facts[size:]
        for table in (Table.SESSION, Table.RUN):
            assert sum(sums.cost for sums in ledger.table(table).values()) == ledger.total.cost
    assert ledger.sent == ledger.total.cost + ledger.correction


@pytest.mark.parametrize(("agent", "every_second"), [("", "llm"), ("researcher", "llm"), ("", "tool")])
def test_to_add_to_a_trace_of_which_spans_are_forgotten_looks_at_the_new_ones(
    monkeypatch: pytest.MonkeyPatch, agent: str, every_second: str
) -> None:
    """Calls and tools, above nothing and below a span that is not known."""
    decided: list[int] = []
    looked_at: list[bytes] = []

    def watched(known: Trace) -> Match:
        decided.append(len(known.spans))
        return match(known)

    def state(span: Span) -> list[object]:
        looked_at.append(span.span_id)
        return state_of(span)

    monkeypatch.setattr(trace_state, "match", watched)
    for module in (trace_set, trace_record):
        monkeypatch.setattr(module, "state_of", state)
    store, memory = MemoryStore(), Memory(CallFilter(), TraceCache(long=1))
    for first in range(0, 8 * BOUND, 20):
        calls = [
            make_fact(f"c{n}", "root", "llm", 1000 + n, start=n, response_id=f"r{n}") for n in range(first, first + 20)
        ]
        if every_second == "tool":
            calls[1::2] = [make_fact(f"c{n}", "root", "tool", start=n) for n in range(first + 1, first + 20, 2)]
        for call in calls:
            call.agent = agent
        with store.unit() as unit:
            unit.apply(account(Batch(TENANT, calls, NOW), unit, memory).changes, NOW)
    assert decided == [20]
    assert len(looked_at) == 8 * BOUND
