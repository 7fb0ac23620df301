"""Traces that are kept in memory. `MemoryLedger` accounts for each request with and without, and compares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact
from odd_traces import spans
from spanledger_processor.accounting import trace, trace_set, trace_state
from spanledger_processor.accounting.account import account
from spanledger_processor.accounting.count_once import Match, match
from spanledger_processor.accounting.cross_trace_index import CallFilter
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.trace import Span, Trace
from spanledger_processor.accounting.trace_state import Memory, StoredTrace, TraceCache
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import Table


@given(spans(), st.data())
def test_a_trace_that_is_kept_is_accounted_for_as_one_that_is_read(facts: list[Fact], data: st.DataObject) -> None:
    ledger, sizes = MemoryLedger(), st.integers(1, 4)
    while facts:
        size = data.draw(sizes)
        ledger.take(facts[:size])
        facts = facts[size:]


@pytest.mark.parametrize(
    ("requests", "counted"),
    [
        ([[make_fact("c", "p", "llm", 5)], [make_fact("d", "", "llm", 6)], [make_fact("p", "", "llm", 7)]], 2),
        (
            [
                [make_fact("c", "step", "llm", 5), make_fact("p", "", "llm", 7)],
                [make_fact("d", "", "llm", 6)],
                [make_fact("step", "p")],
            ],
            2,
        ),
        (
            [
                [make_fact("c", "", "llm", 5, response_id="r"), make_fact("d", "", "llm", 6)],
                [make_fact("e", "", "llm", 5, response_id="r")],
            ],
            2,
        ),
        ([[make_fact("c", "a", "llm", 5), make_fact("a", "", "agent", 5)], [make_fact("d", "a", "llm", 6)]], 2),
        (
            [
                [make_fact("c", "p", "llm", 5), make_fact("d", "p", "llm", 6), make_fact("p", "", "llm", 11)],
                [make_fact("e", "", "llm", 11, scope="another library")],
            ],
            2,
        ),
    ],
    ids=[
        "a call above comes later",
        "the link between comes later",
        "the same response again",
        "an agent has another call",
        "another library tells of a call that holds calls",
    ],
)
def test_what_comes_later_may_change_what_is_kept(requests: list[list[Fact]], counted: int) -> None:
    ledger = MemoryLedger()
    for facts in requests:
        ledger.take(facts)
    assert ledger.total.calls == counted


def _calls(first: int, number: int) -> Iterator[Fact]:
    for place in range(first, first + number):
        yield make_fact(f"c{place}", "agent", "llm", 1000 + place, session="s", start=place, response_id=f"r{place}")


def test_calls_that_are_added_to_a_long_trace_leave_its_spans_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles are decided for the first request only, and nothing that was written is read again."""
    store, cache = MemoryStore(), TraceCache(long=1)
    seen: list[int] = []

    def watched(trace: Trace) -> Match:
        seen.append(len(trace.spans))
        return match(trace)

    monkeypatch.setattr(trace_state, "match", watched)
    monkeypatch.setattr(trace_set, "unpack_head", lambda _: pytest.fail("read again"))
    for first in range(0, 40, 10):
        with store.unit() as unit:
            unit.apply(
                account(Batch(TENANT, list(_calls(first, 10)), NOW), unit, Memory(CallFilter(), cache)).changes, NOW
            )
    assert seen == [10]


def test_what_was_written_but_did_not_land_is_not_used() -> None:
    ledger, cache = MemoryLedger(), TraceCache(long=1)
    ledger.take(_calls(0, 2))
    with ledger.store.unit() as unit:
        lost = account(Batch(TENANT, list(_calls(2, 2)), NOW), unit, Memory(CallFilter(), cache))
        again = account(Batch(TENANT, list(_calls(2, 2)), NOW), unit, Memory(CallFilter(), cache))
    assert again == lost


def _stored(length: int) -> StoredTrace:
    spans = {bytes((place,)): Span(bytes((place,))) for place in range(length)}
    return StoredTrace(Trace(spans), record=b"as written")


def test_the_traces_that_were_written_last_are_kept_within_the_bound() -> None:
    cache = TraceCache(most_spans=10)
    for name in (b"a", b"b", b"c"):
        cache.put(name, _stored(4))
    assert cache.take(b"a", b"as written") is None
    assert cache.take(b"b", b"written later") is None
    assert cache.take(b"c", b"as written") is not None
    assert cache.take(b"c", b"as written") is None


@given(spans(), st.data())
def test_segments_change_nothing(facts: list[Fact], data: st.DataObject) -> None:
    """A trace cut into segments of two spans is accounted for as one in a single record."""
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=len(facts), max_size=len(facts)))
    whole, cut = MemoryLedger(), MemoryLedger()
    for ledger, length in ((whole, 32), (cut, 2)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trace_set, "SEGMENT_SPANS", length)
            left = list(facts)
            for size in sizes:
                ledger.take(left[:size])
                left = left[size:]
    assert cut.total == whole.total
    assert (cut.sent, cut.correction, cut.replays) == (whole.sent, whole.correction, whole.replays)


def test_a_span_that_comes_twice_in_a_request_hides_no_change_of_another() -> None:
    """The request brings as many spans as its trace holds afterwards, and still one of them was known before."""
    ledger = MemoryLedger()
    ledger.take([make_fact("upper", "", "llm", 101)])
    ledger.take(
        [
            make_fact("tool", "", "tool"),
            make_fact("middle", "elsewhere"),
            make_fact("middle", "upper", "llm", 104),
        ]
    )
    assert ledger.total.cost == 104
    ledger.take([make_fact("lowest", "middle", "llm", 105)])
    assert (ledger.total.cost, ledger.total.calls) == (105, 1)


@given(spans(names=3), st.data())
def test_spans_that_come_again_and_again_are_accounted_for_as_their_set(facts: list[Fact], data: st.DataObject) -> None:
    """However they are cut into requests, what is read of a record is what was decided (`MemoryLedger` compares)."""
    ledger, sizes = MemoryLedger(), st.integers(1, 5)
    while facts:
        size = data.draw(sizes)
        ledger.take(facts[:size])
        facts = facts[size:]
    whole = ledger.total
    for table in (Table.SESSION, Table.RUN):
        assert sum(sums.cost for sums in ledger.table(table).values()) == whole.cost


def test_to_add_to_a_long_trace_writes_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_set, "SEGMENT_SPANS", 8)
    store, cache, written = MemoryStore(), TraceCache(long=1), list[int]()
    for first in range(0, 400, 4):
        with store.unit() as unit:
            changes = account(Batch(TENANT, list(_calls(first, 4)), NOW), unit, Memory(CallFilter(), cache)).changes
            unit.apply(changes, NOW)
        written.append(sum(len(record) for where, record in changes.replace.items() if where[0] == Table.TRACE))
    assert max(written[50:]) < 2 * max(written[:10]), "wider numbers, no more rows"


def test_a_repeat_of_a_span_that_the_rules_have_forgotten_gets_its_attributes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sender may send again whatever it was not answered for, however long the trace is by then."""
    monkeypatch.setattr(trace, "MAX_SPANS", 20)
    monkeypatch.setattr(trace, "_SLACK", 4)
    monkeypatch.setattr(trace_set, "SEGMENT_SPANS", 4)
    ledger = MemoryLedger()
    first = ledger.take(_calls(0, 10))
    for place in range(10, 60, 10):
        ledger.take(_calls(place, 10))
    before = ledger.total
    assert ledger.take(_calls(0, 10)) == first
    assert (ledger.total, ledger.replays) == (before, 10)
