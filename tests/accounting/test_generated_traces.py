"""Made-up agents whose calls are reported in every way seen in the field: the ledger equals what was billed.

The reference accountant is the list of calls itself. Each call is told by one library or by two (the second with the
response id or without, knowing the cache split or not, in the same trace or in one of its own, or as a log event),
below agents and steps that repeat their sums or do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from ledger_in_memory import MemoryLedger, make_fact
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.ledger.store import Table
from spanledger_processor.model import Cost, Usage

CALL_NS = 1_000_000_000
CACHED, UNCACHED, OUTPUT = 1, 10, 50


@dataclass(frozen=True)
class Billed:
    """One call: what the provider charged for."""

    number: int
    input: int
    cached: int
    output: int

    @property
    def cost(self) -> int:
        return CACHED * self.cached + UNCACHED * (self.input - self.cached) + OUTPUT * self.output

    @property
    def cost_without_split(self) -> int:
        return UNCACHED * self.input + OUTPUT * self.output

    @property
    def start(self) -> int:
        return self.number * 20 * CALL_NS


@dataclass(frozen=True)
class SecondReport:
    """How a call is told a second time; `trace` is "same", "own" or "log"."""

    trace: str
    by_id: bool
    split: bool


@st.composite
def agents(draw: st.DrawFn) -> tuple[list[Billed], list[Fact]]:
    calls = [
        Billed(number, 100 + number * 7, draw(st.integers(0, 50)), draw(st.integers(16, 60)))
        for number in range(draw(st.integers(1, 5)))
    ]
    facts: list[Fact] = []
    length = len(calls) * 20 * CALL_NS
    facts.append(make_fact("agent", kind="agent", start=0, length=length, session="s"))
    if draw(st.booleans()):
        _repeat(facts[0], calls)
    for call in calls:
        facts += draw(_told(call))
    return calls, facts


@st.composite
def _told(draw: st.DrawFn, call: Billed) -> list[Fact]:
    parent, facts = "agent", []
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["workflow", "", "other"]))
        parent = f"step{call.number}"
        facts.append(make_fact(parent, "agent", kind, start=call.start, length=15 * CALL_NS))
        if kind and draw(st.booleans()):
            _repeat(facts[-1], [call])
    second = draw(
        st.none() | st.builds(SecondReport, st.sampled_from(["same", "own", "log"]), st.booleans(), st.booleans())
    )
    first_knows = second is None or not second.split or draw(st.booleans())
    response = f"r{call.number}"
    facts.append(_fact(call, f"c{call.number}", parent, "one", split=first_knows, response=response))
    if second is not None:
        facts.append(_again(call, second, f"c{call.number}" if draw(st.booleans()) else parent, response))
    return facts


def _again(call: Billed, reported: SecondReport, parent: str, response: str) -> Fact:
    name, response = f"d{call.number}", response if reported.by_id else ""
    if reported.trace == "same":
        return _fact(call, name, parent, "two", split=reported.split, response=response)
    fact = _fact(call, name, "", "two", split=reported.split, response=response, trace=f"own{call.number}")
    if reported.trace == "log":
        fact.start_ns = fact.end_ns
        assert fact.call is not None
        fact.call.source = "log:client"
    return fact


def _fact(call: Billed, name: str, parent: str, scope: str, *, split: bool, response: str, trace: str = "t1") -> Fact:
    fact = make_fact(
        name, parent, "llm", call.cost, trace=trace, scope=scope, start=call.start, length=CALL_NS, response_id=response
    )
    assert fact.call is not None
    fact.call.usage = Usage(call.input, call.output, call.cached if split else None)
    amount = call.cost if split else call.cost_without_split
    fact.cost = Cost(amount, "computed", amount, price="p")
    return fact


def _repeat(fact: Fact, calls: list[Billed]) -> None:
    """Let an agent's or a step's span carry the sum of its calls, as its library adds it up."""
    assert fact.call is not None
    fact.call.usage = Usage(sum(call.input for call in calls), sum(call.output for call in calls))
    amount = sum(call.cost_without_split for call in calls)
    fact.cost = Cost(amount, "computed", amount, price="p")


def _requests(facts: list[Fact], data: st.DataObject) -> Iterator[list[Fact]]:
    order = data.draw(st.permutations(facts))
    size = data.draw(st.integers(1, len(order)))
    for begin in range(0, len(order), size):
        request = list(order[begin : begin + size])
        yield request
        if data.draw(st.booleans()):
            yield request


def _best(calls: list[Billed], facts: list[Fact]) -> tuple[int, int, int, int]:
    """Money and tokens as far as anybody told them: a split that no span of a call knows cannot be entered."""
    cost = cached = 0
    for call in calls:
        reports = [fact for fact in facts if fact.span_id in (f"c{call.number}".encode(), f"d{call.number}".encode())]
        split = any(fact.call and fact.call.usage and fact.call.usage.cache_read is not None for fact in reports)
        cost += call.cost if split else call.cost_without_split
        cached += call.cached if split else 0
    return cost, sum(call.input for call in calls), sum(call.output for call in calls), cached


@given(agents(), st.data())
def test_the_ledger_is_what_was_billed_whatever_tells_it_in_whatever_order(
    agent: tuple[list[Billed], list[Fact]], data: st.DataObject
) -> None:
    calls, facts = agent
    ledger = MemoryLedger()
    for request in _requests(facts, data):
        ledger.take(request)
    total = ledger.total
    assert (total.cost, *total.usage[:3]) == _best(calls, facts)
    assert total.calls == len(calls)
    assert ledger.sent == total.cost + ledger.correction
    for table in (Table.SESSION, Table.RUN, Table.DAY):
        assert sum(sums.cost for sums in ledger.table(table).values()) == total.cost


@given(agents())
def test_children_before_parents_and_all_spans_of_a_call_together_need_no_correction(
    agent: tuple[list[Billed], list[Fact]],
) -> None:
    """The order in which libraries export: a call's spans in one request, what holds them later."""
    calls, facts = agent
    ledger = MemoryLedger()
    for call in calls:
        ledger.take(
            [fact for fact in facts if fact.span_id in (f"c{call.number}".encode(), f"d{call.number}".encode())]
        )
    ledger.take([fact for fact in facts if fact.span_id[:1] == b"s"])
    ledger.take([fact for fact in facts if fact.span_id == b"agent"])
    assert ledger.correction == 0
    assert ledger.sent == ledger.total.cost
