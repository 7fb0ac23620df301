"""Which of several reports of a tool call has it in the sums: the one that began first, in any order of arrival."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations, product
from typing import Any

import pytest

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact
from spanledger_processor.accounting import trace, trace_set
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.ledger import dimensions
from spanledger_processor.ledger.keys import session_key
from spanledger_processor.ledger.store import Table
from spanledger_processor.model import Cost, Signature, ToolCall

DAY = NOW // (86_400 * 10**9)
FEE = 7


def report(name: str, of: str, start: int, call_id: str = "x", **more: Any) -> Fact:
    """A report of the execution of a tool that has a price, in a trace."""
    fact = make_fact(name, more.pop("parent", ""), "tool", trace=of, start=start, length=100 - start, **more)
    assert fact.call is not None
    fact.call.tool, fact.day = ToolCall("read", call_id=call_id), DAY
    fact.signature = Signature("h1:k:a", "full")
    fact.fee = Cost(amount=FEE, source="computed", computed=FEE, price="tool")
    return fact


def names(name: str, of: str, **named: Any) -> Fact:
    """A span that tells the session or the run of a trace."""
    return make_fact(name, "", "agent", trace=of, **named)


def asks(name: str, of: str, *ids: str, **more: Any) -> Fact:
    fact = make_fact(name, "", "llm", trace=of, response_id=f"response {name}", **more)
    fact.day, fact.asked = DAY, tuple(text for one in ids for text in (one, "read"))
    return fact


def runs_in_any_order(facts: Iterable[Fact]) -> set[tuple[tuple[str, int, int], ...]]:
    """The runs with tool calls and cost, for many orders in which the facts come, each of which has the same sums."""
    told = set()
    for order in [*permutations(facts)][::5]:
        ledger = MemoryLedger()
        for fact in order:
            ledger.take([fact])
        runs = ledger.table(Table.RUN)
        sessions = ledger.table(Table.SESSION)
        for sums in (runs, sessions):
            assert sum(one.tool_calls for one in sums.values()) == ledger.total.tool_calls
            assert sum(one.cost for one in sums.values()) == ledger.total.cost
        assert ledger.sent == ledger.total.cost + ledger.correction
        with ledger.store.snapshot() as reader:
            for session in filter(None, sessions):
                known = reader.sums(session_key(TENANT, session))
                rows = dimensions.of_session(reader, TENANT, session, known)
                assert sum(row["calls"] for row in rows["tools"]) == known.tool_calls
        told.add(tuple(sorted((run, sums.tool_calls, sums.cost) for run, sums in runs.items())))
    return told


def test_a_call_of_two_runs_counts_in_that_of_the_report_that_began_first() -> None:
    facts = [
        report("outer", "t1", 0, session="s"),
        report("inner", "t2", 5, session="s", scope="other"),
        names("one", "t1", run="q"),
        names("two", "t2", run="r"),
    ]
    assert runs_in_any_order(facts) == {(("q", 1, FEE), ("r", 0, 0))}


def test_reports_without_an_id_are_one_call_by_their_times() -> None:
    facts = [
        report("outer", "t1", 0, "", session="s"),
        report("inner", "t2", 5, "", session="s", scope="other"),
        names("one", "t1", run="q"),
        names("two", "t2", run="r"),
    ]
    assert runs_in_any_order(facts) == {(("q", 1, FEE), ("r", 0, 0))}


@pytest.mark.parametrize("ids", [("x", "x", "x"), ("", "x", "x"), ("x", "", "x"), ("x", "x", ""), ("", "", "")])
def test_the_next_report_takes_a_call_over_where_the_first_one_leaves_the_session(ids: tuple[str, str, str]) -> None:
    """The first one's trace names no session of its own until it comes: by then its call is in that of the others."""
    facts = [
        report("first", "t1", 0, ids[0], parent="top"),
        report("second", "t2", 5, ids[1], session="s", run="q", scope="other"),
        report("third", "t3", 9, ids[2], session="s", run="r", scope="third"),
        names("beside", "t1", session="s", run="p"),
        names("top", "t1", session="u"),
    ]
    assert runs_in_any_order(facts) == {(("p", 1, FEE), ("q", 1, FEE), ("r", 0, 0))}


def test_an_agent_has_the_calls_of_the_reports_that_began_first() -> None:
    facts = [report("outer", "t1", 0, session="s"), report("inner", "t2", 5, session="s", scope="other")]
    for fact, agent in zip(facts, ("lead", "helper"), strict=True):
        fact.agent = agent
    for order in permutations(facts):
        ledger = MemoryLedger()
        for fact in order:
            ledger.take([fact])
        with ledger.store.snapshot() as reader:
            sums = reader.sums(session_key(TENANT, "s"))
            agents = dimensions.of_session(reader, TENANT, "s", sums)["agents"]
        assert {row["id"]: row["tool_calls"] for row in agents} == {"lead": 1, "helper": 0}


@pytest.mark.parametrize("ids", [("x", "x", "x"), ("", "x", "x"), ("x", "", "x"), ("", "", "")])
@pytest.mark.parametrize("failed", [*product([False, True], repeat=3)])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_failure_stands_with_the_report_that_began_first_of_its_session(
    ids: tuple[str, str, str], failed: tuple[bool, bool, bool], *, leaves: bool
) -> None:
    """The first report may prove to be of another session: it fails there if it says so itself, and the next one has
    what the others say.
    """
    facts = [
        report("first", "t1", 0, ids[0], parent="top"),
        report("second", "t2", 5, ids[1], session="s", scope="other"),
        report("third", "t3", 9, ids[2], session="s", scope="third"),
        names("beside", "t1", session="s"),
        names("top", "t1", session="u" if leaves else "s"),
    ]
    for fact, agent, one in zip(facts, ("lead", "helper", "critic"), failed, strict=False):
        fact.agent, fact.failed = agent, one
    there = {("u", "lead"): failed[0], ("s", "helper"): any(failed[1:])}
    expected = there if leaves else {("s", "lead"): any(failed)}
    for order in [*permutations(facts)][::7]:
        ledger = MemoryLedger()
        for fact in order:
            ledger.take([fact])
        assert failures(ledger) == {place: 1 for place, one in expected.items() if one}, [one.span_id for one in order]


def failures(ledger: MemoryLedger) -> dict[tuple[str, str], int]:
    """Failed tool calls by session and agent; those of a session are as many as its agents'."""
    told: dict[tuple[str, str], int] = {}
    with ledger.store.snapshot() as reader:
        for session in filter(None, ledger.table(Table.SESSION)):
            sums = reader.sums(session_key(TENANT, session))
            rows = dimensions.of_session(reader, TENANT, session, sums)
            of_agents = {(session, row["id"]): row["failures"] for row in rows["agents"] if row["failures"]}
            failed = 0 if sums.facts is None else sums.facts.failed
            assert failed == sum(of_agents.values()) == sum(row["failures"] for row in rows["tools"])
            told |= of_agents
    return told


def test_what_another_trace_executes_counts_there_whichever_came_first() -> None:
    """Also where another tool, with an id of its own, might have stood for what the model asked for."""
    facts = [
        asks("ask", "t1", "x", session="s", run="q"),
        report("framework", "t1", 1, "own id", session="s", run="q"),
        report("server", "t2", 5, "x", parent="top"),
        names("top", "t2", session="s", run="r"),
    ]
    assert runs_in_any_order(facts) == {(("q", 1, FEE), ("r", 1, FEE))}


def test_what_no_trace_executes_any_more_counts_where_it_was_asked_for() -> None:
    facts = [
        asks("ask", "t1", "x", session="s", run="q"),
        report("server", "t2", 5, "x", parent="top"),
        names("beside", "t2", session="s", run="r"),
        names("top", "t2", session="u"),
    ]
    assert runs_in_any_order(facts) == {(("q", 1, 0), ("r", 1, FEE))}


def test_what_moves_with_its_session_is_looked_up_there() -> None:
    facts = [
        asks("ask", "t1", "x"),
        report("server", "t2", 5, "x", session="s", run="r"),
        names("other", "t1", session="s", run="q"),
        names("top", "t1", session="u"),
    ]
    facts[0].parent_id = b"top"
    assert runs_in_any_order(facts) == {(("q", 1, 0), ("r", 1, FEE))}


def test_a_forgotten_report_keeps_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MAX_SPANS", 8)
    monkeypatch.setattr(trace, "_SLACK", 4)
    ledger = MemoryLedger()
    ledger.take([report("inner", "t2", 5, session="s", run="r")])
    for number in range(100):
        ledger.take([make_fact(f"call {number}", "", "llm", number + 1, trace="t2", session="s", run="r")])
    ledger.take([report("outer", "t1", 0, session="s", run="q", scope="other")])
    assert ledger.total.tool_calls == 1
    assert {run: sums.tool_calls for run, sums in ledger.table(Table.RUN).items()} == {"q": 0, "r": 1}


def test_a_request_loads_a_bounded_number_of_spans_of_other_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """128 spans of tools that began earlier than reports in as many long traces held the ledger for seconds."""
    monkeypatch.setattr(trace_set, "_MOST_OF_OTHERS", 20)
    ledger = MemoryLedger()
    for number in range(10):
        calls = [make_fact(f"c{number} {one}", trace=f"t{number}") for one in range(4)]
        ledger.take([report(f"r{number}", f"t{number}", 5, f"x{number}", session="s", run="r"), *calls])
    ledger.take(
        [report(f"e{number}", "early", 0, f"x{number}", session="s", run="q", scope="two") for number in range(10)]
    )
    assert {run: sums.tool_calls for run, sums in ledger.table(Table.RUN).items()} == {"q": 4, "r": 6}
    assert ledger.total.tool_calls == 10
    assert ledger.sent == ledger.total.cost + ledger.correction
