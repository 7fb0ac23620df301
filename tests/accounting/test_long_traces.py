"""A trace of more spans than are remembered: what decides on a later span is kept, and where it is not, that shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger_in_memory import MakeFact, MemoryLedger, make_fact
from spanledger_processor.accounting import trace
from spanledger_processor.accounting.facts import Fact

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
