"""Which reports of a tool call are of one execution: by id, or by source and time, in any order of arrival."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact, take_in_any_order
from spanledger_processor.accounting.facts import Fact, LoopRule
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.store import Table
from spanledger_processor.model import Cost, Signature, ToolCall

MS = 1_000_000
DAY = NOW // (86_400 * 10**9)
FEE = 7
RULE = LoopRule(consecutive=2)


class Report(NamedTuple):
    """A report of a tool's execution, from `start` to `end` (ms). `leaves`: once all spans came, it is of session u."""

    call_id: str
    start: int
    end: int
    scope: str = "one"
    logged: bool = False
    failed: bool = False
    result: str = ""
    leaves: bool = False


def facts_of(reports: Iterable[Report]) -> list[Fact]:
    """Each report in a trace of its own; one that leaves is below a span that names another session."""
    facts = []
    for number, one in enumerate(reports):
        trace = f"t{number}"
        fact = make_fact(f"r{number}", "top" if one.leaves else "", "tool", trace=trace, start=one.start * MS)
        fact.end_ns, fact.scope = NOW + one.end * MS, one.scope
        fact.failed, fact.result, fact.day = one.failed, one.result.encode(), DAY
        assert fact.call is not None
        fact.call.tool, fact.call.source = ToolCall("read", call_id=one.call_id), "log:client" if one.logged else ""
        fact.signature = Signature("h1:k:a", "full")
        fact.fee = Cost(amount=FEE, source="computed", computed=FEE, price="tool")
        facts += [fact, make_fact(f"beside {number}", "", "agent", trace=trace, session="s")]
        if one.leaves:
            facts.append(make_fact("top", "", "agent", trace=trace, session="u"))
    return facts


def is_together(one: Report, other: Report) -> bool:
    """By docs/counting.md: one holds the other but for 5 ms, or an event follows a span within 5 s, or is 1 s early."""
    if one.logged != other.logged:
        span, event = (other, one) if one.logged else (one, other)
        return span.start - 1_000 <= event.end <= span.end + 5_000
    outer, inner = (one, other) if one.end - one.start >= other.end - other.start else (other, one)
    return outer.start - 5 <= inner.start and inner.end <= outer.end + 5


def executions_of(reports: list[Report]) -> list[list[Report]]:
    """By docs/views.md, "Tool calls without a span"."""
    by_id: dict[str, list[Report]] = {}
    for one in sorted(reports, key=lambda one: (one.start, one.call_id)):
        if one.call_id:
            by_id.setdefault(one.call_id, []).append(one)
    executions = [*by_id.values()]
    for one in sorted((one for one in reports if not one.call_id), key=lambda one: one.start):  # traces in order, too
        for execution in executions:
            sources = {(other.scope, other.logged) for other in execution}
            if (one.scope, one.logged) not in sources and any(is_together(one, other) for other in execution):
                execution.append(one)
                break
        else:
            executions.append([one])
    return executions


def told(ledger: MemoryLedger) -> dict[str, tuple[int, int, int, int]]:
    """What each session has of tool calls: how many, their cost, how many failed, and how many completed a loop."""
    sessions = ledger.table(Table.SESSION)
    assert ledger.sent == ledger.total.cost + ledger.correction
    rows = dict[str, tuple[int, int, int, int]]()
    with ledger.store.snapshot() as reader:
        for name, sums in sessions.items():
            if name and sums.spans:
                row = queries.session(reader, TENANT, name)
                assert row is not None
                assert sum(tool["loops"] for tool in row["tools"]) == row["loops"]
                rows[name] = sums.tool_calls, sums.cost, row["failures"], row["loops"]
    return rows


_reports = st.builds(
    lambda call_id, start, length, *more: Report(call_id, start, start + length, *more),
    st.sampled_from(["", "", "x", "y"]),
    st.sampled_from([0, 3, 400, 1_000, 4_000, 9_000]),
    st.sampled_from([10, 500, 6_000]),
    st.sampled_from(["one", "two", "three"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "1", "2"]),
    st.sampled_from([False, False, True]),
)


@settings(max_examples=100, deadline=None)
@given(reports=st.lists(_reports, min_size=2, max_size=5, unique_by=lambda one: one[:5]), data=st.data())
def test_executions_are_a_function_of_the_set_of_reports(reports: list[Report], data: st.DataObject) -> None:
    ledger, in_order, facts = MemoryLedger(loop=RULE), MemoryLedger(loop=RULE), facts_of(reports)
    take_in_any_order(ledger, facts, data)
    in_order.take(facts)
    assert told(ledger) == told(in_order)
    for session, (calls, cost, failures, _) in told(ledger).items():
        executions = executions_of([one for one in reports if one.leaves == (session == "u")])
        failed = sum(any(one.failed for one in execution) for execution in executions)
        assert (calls, cost, failures) == (len(executions), FEE * len(executions), failed)


@pytest.mark.parametrize(
    ("reports", "calls"),
    [
        ([Report("x", 0, 5_000, "two"), Report("", 1_000, 1_500), Report("x", 5_100, 5_600)], 2),
        ([Report("x", 0, 5_000, "two"), Report("", 1_000, 1_500), Report("x", 5_100, 5_600, "three")], 1),
        ([Report("x", 0, 50), Report("x", 4_000, 9_000), Report("", 5_000, 5_500, "two")], 1),
        ([Report("x", 0, 50), Report("x", 4_000, 9_000, leaves=True), Report("", 5_000, 5_500, "two")], 3),
    ],
)
def test_a_report_without_an_id_beside_reports_of_one_id_far_apart(reports: list[Report], calls: int) -> None:
    """Each with the price of the tool once an execution; the last one leaves the session with one of the reports."""
    orders = [*permutations(facts_of(reports))]
    for order in orders[:: len(orders) // 40]:
        ledger = MemoryLedger()
        for fact in order:
            ledger.take([fact])
        assert (ledger.total.tool_calls, ledger.total.cost) == (calls, FEE * calls)
        assert ledger.sent == ledger.total.cost + ledger.correction


def test_a_report_that_is_forgotten_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other report can tell where it is; the sums stay those of what is sent."""
    monkeypatch.setattr("spanledger_processor.accounting.trace.MAX_SPANS", 8)
    monkeypatch.setattr("spanledger_processor.accounting.trace._SLACK", 4)
    reports = [Report("x", 0, 5_000, "two"), Report("", 1_000, 1_500), Report("x", 5_100, 5_600)]
    first, loose, last = facts_of(reports)[::2]
    for fact in (first, loose, last):
        fact.session = Named("s", "attribute")
    ledger = MemoryLedger()
    ledger.take([first])
    ledger.take([loose])
    for number in range(100):
        ledger.take([make_fact(f"call {number}", "", "llm", 1, trace="t1", start=number)])
    sent = ledger.total.cost
    ledger.take([last])
    assert ledger.total.tool_calls == 1
    assert ledger.total.cost == sent
