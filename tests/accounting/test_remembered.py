"""Traces that are remembered. `MemoryLedger` accounts for each request with and without it, and compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact
from spanledger_processor.accounting import books
from spanledger_processor.accounting.account import account
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.remembered import Known, Remembered
from spanledger_processor.accounting.roles import roles
from spanledger_processor.accounting.trace import Span, Trace
from spanledger_processor.accounting.trace_record import pack, pack_span, pack_spans
from spanledger_processor.ledger.memory_store import MemoryStore

SPANS = 12


@st.composite
def spans(draw: st.DrawFn) -> list[Fact]:
    """Spans of one trace, or two: parents known and not, rings, equal usage and equal ids, some silent, some plain."""
    return [draw(_span(number)) for number in range(draw(st.integers(2, SPANS)))]


@st.composite
def _span(draw: st.DrawFn, number: int) -> Fact:
    kind = draw(st.sampled_from(["llm", "llm", "llm", "tool", "agent", "other", ""]))
    more: dict[str, Any] = {"scope": draw(st.sampled_from(["one", "one", "two"]))}
    if kind == "llm" and draw(st.booleans()):
        more["response_id"] = f"r{draw(st.integers(0, 2 * SPANS))}"
    cost = draw(st.sampled_from([100 + number, 100 + number, 100, None])) if kind not in ("", "tool") else None
    fact = make_fact(
        f"s{draw(st.sampled_from([number, number, number, 0]))}",
        draw(st.sampled_from(["", *(f"s{parent}" for parent in range(SPANS))])),
        kind,
        cost,
        trace=draw(st.sampled_from(["t1", "t1", "t1", "t2"])),
        session=draw(st.sampled_from(["", "", "s", "s", "other"])),
        run=draw(st.sampled_from(["", "", "", "r", "q"])),
        start=draw(st.integers(0, 30)),
        **more,
    )
    if fact.call is not None and fact.call.usage is not None and draw(st.integers(0, 9)) == 0:
        fact.call.usage, fact.call.fallback = None, fact.call.usage
    return fact


@given(spans(), st.data())
def test_a_trace_that_is_remembered_is_accounted_for_as_one_that_is_read(
    facts: list[Fact], data: st.DataObject
) -> None:
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
                [make_fact("e", "", "llm", 7, response_id="r")],
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
def test_what_comes_later_may_change_what_is_remembered(requests: list[list[Fact]], counted: int) -> None:
    ledger = MemoryLedger()
    for facts in requests:
        ledger.take(facts)
    assert ledger.total.calls == counted


def _calls(first: int, number: int) -> Iterator[Fact]:
    for place in range(first, first + number):
        yield make_fact(f"c{place}", "agent", "llm", 1000 + place, session="s", start=place, response_id=f"r{place}")


def test_calls_that_are_added_to_a_long_trace_leave_its_spans_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles are decided for the first request only, and nothing that was written is read again."""
    store, remembered = MemoryStore(), Remembered(long=1)
    seen: list[int] = []

    def watched(trace: Trace) -> dict[bytes, str]:
        seen.append(len(trace.spans))
        return roles(trace)

    monkeypatch.setattr(books, "roles", watched)
    monkeypatch.setattr(books, "unpack", lambda _: pytest.fail("read again"))
    for first in range(0, 40, 10):
        with store.unit() as unit:
            unit.apply(account(Batch(TENANT, list(_calls(first, 10)), NOW), unit.get, remembered).changes, NOW)
    assert seen == [10]


def test_what_was_written_but_did_not_land_is_not_used() -> None:
    ledger, remembered = MemoryLedger(), Remembered(long=1)
    ledger.take(_calls(0, 2))
    lost = account(Batch(TENANT, list(_calls(2, 2)), NOW), ledger.records.get, remembered)
    again = account(Batch(TENANT, list(_calls(2, 2)), NOW), ledger.records.get, remembered)
    assert again == lost


def _known(length: int) -> Known:
    spans = {bytes((place,)): Span(bytes((place,))) for place in range(length)}
    return Known(Trace(spans), rows=dict.fromkeys(spans, b"row"))


def test_the_traces_that_were_written_last_are_remembered_within_the_bound() -> None:
    remembered = Remembered(most_spans=10)
    for name in (b"a", b"b", b"c"):
        remembered.put(name, b"as written", _known(4))
    assert remembered.take(b"a", b"as written") is None
    assert remembered.take(b"b", b"written later") is None
    assert remembered.take(b"c", b"as written") is not None
    assert remembered.take(b"c", b"as written") is None


def test_a_trace_of_packed_rows_is_written_as_any_other() -> None:
    spans = {bytes((place,)): Span(bytes((place,)), start_ns=place) for place in range(70)}
    rows = [pack_span(span) for span in spans.values()]
    assert pack_spans(rows, NOW) == pack(Trace(spans), NOW)
