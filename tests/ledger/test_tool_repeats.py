"""Rows of tool calls that a session made again: of the session that they belong to, by all that came."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact
from spanledger_processor.accounting.facts import Fact, LoopRule
from spanledger_processor.ledger.keys import id_bytes, repeat_key, tool_call_key
from spanledger_processor.ledger.packing import pack
from spanledger_processor.ledger.store import Changes
from spanledger_processor.ledger.tool_repeats import WantedRepeats, repeated_calls
from spanledger_processor.model import Cost, Signature, ToolCall

DEFAULT = LoopRule(consecutive=3, repeats=0, cycles=3, calls=100)


def tool(name: str, start: int, letter: str = "a", *, parent: str = "", session: str = "", trace: str = "t1") -> Fact:
    fact = make_fact(name, parent, "tool", session=session, start=start * 10**9, trace=trace)
    assert fact.call is not None
    fact.call.tool, fact.signature = ToolCall("read", call_id=f"id {name}"), Signature(f"h1:k:{letter}", "full")
    return fact


def rows(ledger: MemoryLedger, *, loops: bool = False) -> list[tuple[str, str, int, int, bool]]:
    """Session, signature, times, times in a row, and whether it looped."""
    with ledger.store.snapshot() as reader:
        page = repeated_calls(reader, TENANT, WantedRepeats(100, loops=loops)).page
    return sorted((row["session"], row["signature"], row["times"], row["in_a_row"], row["loop"]) for row in page.rows)


def taken(facts: tuple[Fact, ...] | list[Fact]) -> MemoryLedger:
    ledger = MemoryLedger(loop=DEFAULT)
    for fact in facts:
        ledger.take([fact])
        ledger.store.cache.clear()
    return ledger


def test_calls_move_to_the_session_that_a_span_names_whenever_it_comes() -> None:
    facts = [tool("x", 0, parent="top"), tool("y", 1, parent="top"), tool("z", 2, parent="top")]
    for order in permutations([*facts, make_fact("top", "", "agent", session="s")]):
        assert rows(taken(order)) == [("s", "h1:k:a", 3, 3, True)]


@pytest.mark.parametrize("session", ["\0", "\0z", "\1s", "\0" + "t1"])
def test_a_session_whose_id_begins_with_a_control_character_has_rows_of_its_own(session: str) -> None:
    facts = [tool("x", 0, session=session), tool("y", 1, session=session)]
    ledger = taken([*facts, tool("z", 2, trace="t2"), tool("w", 3, trace="t2")])
    assert rows(ledger) == [("", "h1:k:a", 2, 2, False), (session, "h1:k:a", 2, 2, False)]
    with ledger.store.snapshot() as reader:
        page = repeated_calls(reader, TENANT, WantedRepeats(100, session=session)).page
    assert [row["session"] for row in page.rows] == [session]


def test_calls_leave_a_session_that_they_were_taken_to_belong_to() -> None:
    """The trace names one session, then two, and an agent below the top a third."""
    facts = [
        tool("x", 0),
        tool("y", 1),
        tool("w", 2, parent="agent"),
        tool("v", 3, parent="agent"),
        make_fact("one", kind="agent", session="s1"),
        make_fact("other", kind="agent", session="s2"),
        make_fact("agent", kind="agent", session="s3"),
    ]
    for order in [*permutations(facts)][::97]:
        assert rows(taken(order)) == [("", "h1:k:a", 2, 2, False), ("s3", "h1:k:a", 2, 2, False)]


def test_a_call_in_between_divides_a_row_whenever_it_comes() -> None:
    facts = [
        tool("x", 0, session="s"),
        tool("b", 1, "b", session="s"),
        tool("y", 2, session="s"),
        tool("z", 3, session="s"),
    ]
    for order in permutations(facts):
        assert rows(taken(order)) == [("s", "h1:k:a", 3, 2, False)]


def test_a_row_and_a_loop_that_many_calls_came_after_are_kept() -> None:
    facts = [tool(f"x{number}", number, session="s") for number in range(3)]
    facts += [tool(f"w{number}", 10 + number, f"w{number}", session="s") for number in range(60)]
    ledger = taken(facts)
    assert rows(ledger) == rows(ledger, loops=True) == [("s", "h1:k:a", 3, 3, True)]


def asks(name: str, start: int, **more: str) -> Fact:
    """A model call that asks for a tool, of whose results its client tells nothing."""
    fact = make_fact(name, more.pop("parent", ""), "llm", 100 + start, start=start * 10**9, **more)  # type: ignore[arg-type]
    fact.asked, fact.asked_signatures = (f"id {name}", "read"), ("h1:k:a",)
    return fact


def test_calls_without_results_move_to_the_session_that_a_span_names_whenever_it_comes() -> None:
    """Some of them in another trace, which has named it from the first."""
    facts = [asks("x", 0, parent="top"), asks("y", 1, parent="top"), asks("z", 2, trace="t2", session="s")]
    for order in permutations([*facts, make_fact("top", "", "agent", session="s")]):
        assert rows(taken(order)) == [("s", "h1:k:a", 3, 3, True)]


def test_calls_without_results_leave_a_session_that_they_were_taken_to_belong_to() -> None:
    facts = [asks("x", 0), asks("y", 1), make_fact("one", kind="agent", session="s1")]
    for order in permutations([*facts, make_fact("other", kind="agent", session="s2")]):
        assert rows(taken(order)) == [("", "h1:k:a", 2, 2, False)]


def test_a_session_with_spans_of_tools_has_no_rows_of_calls_without_results() -> None:
    facts = [asks("x", 0, parent="top"), asks("y", 1, session="s"), tool("z", 2, "b", session="s", trace="t2")]
    for order in permutations([*facts, make_fact("top", "", "agent", session="s")]):
        assert rows(taken(order)) == []


def left_for_another_session(fact: Fact) -> list[Fact]:
    """A span of a tool whose trace names s, as long as the span above it, of u, is not known."""
    fact.parent_id = b"top"
    trace = fact.trace_id.decode()
    return [fact, *(make_fact(name, kind="agent", session=of, trace=trace) for name, of in (("it", "s"), ("top", "u")))]


def test_a_session_that_a_span_of_a_tool_has_left_has_rows_of_calls_without_results() -> None:
    facts = [asks("x", 0, session="s"), asks("y", 1, session="s"), *left_for_another_session(tool("z", 2, trace="t2"))]
    for order in permutations(facts):
        assert rows(taken(order)) == [("s", "h1:k:a", 2, 2, False)]


def test_a_call_begins_with_the_first_report_of_it_that_its_session_has() -> None:
    """One that left for another session began between two calls, the other behind them."""
    reports = [*left_for_another_session(tool("b", 2, "b", trace="t2")), tool("b", 5, "b", trace="t3", session="s")]
    facts = [tool("x", 1, session="s"), tool("y", 3, session="s"), *reports]
    for order in [*permutations(facts)][::7]:
        assert rows(taken(order)) == [("s", "h1:k:a", 2, 2, False)]


def test_an_execution_whose_reports_name_two_sessions_counts_in_each_in_any_order() -> None:
    """Also where the one that came first turns out to be of another session than it was taken for."""
    reports = [tool("x", 0, trace="t1", parent="top"), tool("x", 0, trace="t2", session="s")]
    reports[1].scope = "other"
    more = [tool("y", 1, trace="t3", session="s"), make_fact("top", kind="agent", session="r", trace="t1")]
    named = make_fact("beside", kind="agent", session="s", trace="t1")
    ledgers = [taken(order) for order in permutations([*reports, *more, named])]
    for ledger in ledgers:
        assert rows(ledger) == [("s", "h1:k:a", 2, 2, False)]
        assert ledger.total.tool_calls == 3


@pytest.mark.parametrize("session", ["s", ""])
def test_what_an_earlier_release_told_of_a_call_stays_when_it_is_made_again(session: str) -> None:
    place = id_bytes(session) or b"\0" + tool("x", 0).trace_id
    ledger, key = MemoryLedger(), repeat_key(TENANT, place, b"h1:k:a")
    record = pack([1, 0, session, "read", "h1:k:a", 5, 4, True, NOW])
    with ledger.store.unit() as unit:
        unit.apply(Changes(replace={key: record}), NOW)
    assert rows(ledger) == [(session, "h1:k:a", 5, 4, True)]
    ledger.take([tool("x", 0, session=session), tool("y", 1, session=session)])
    assert rows(ledger) == [(session, "h1:k:a", 2, 4, True)]


@pytest.mark.parametrize("number", range(2, 7))
def test_a_call_whose_id_an_earlier_release_knew_counts_once(number: int) -> None:
    """Its row had six values at last: the fifth was whether it was a loop, the sixth whether it failed."""
    ledger, values = MemoryLedger(), [tool("x", 0).trace_id, True, NOW, b"", True, True][:number]
    with ledger.store.unit() as unit:
        unit.apply(Changes(replace={tool_call_key(TENANT, id_bytes("s"), "id y"): pack([1, 0, *values])}), NOW)
    ledger.take([tool("y", 1, session="s", trace="t2"), tool("z", 2, session="s", trace="t2")])
    assert ledger.total.tool_calls == 1


def test_an_own_cost_that_two_reports_were_sent_with_is_corrected_once_their_session_is_one() -> None:
    """Sent was what the ledger has, and the correction (docs/contract.md#promise-1-sums-are-true)."""
    reports = [tool("x", 0, trace="t1", parent="top"), tool("x", 0, trace="t2", session="s")]
    reports[1].scope = "other"
    for fact in reports:
        fact.fee = Cost(amount=7, source="computed", computed=7, price="tool")
    for order in permutations([*reports, make_fact("top", kind="agent", session="s", trace="t1")]):
        ledger = taken(order)
        assert (ledger.total.cost, ledger.total.tool_calls) == (7, 1)
        assert ledger.sent == ledger.total.cost + ledger.correction


def cycles(ledger: MemoryLedger) -> dict[str, tuple[list[str], int]]:
    """The tools of each loop of several calls in turn, and how often they came, by the signature that ends it."""
    with ledger.store.snapshot() as reader:
        found = repeated_calls(reader, TENANT, WantedRepeats(100, loops=True)).page.rows
    return {row["signature"]: (row["cycle"], row["rounds"]) for row in found if "cycle" in row}


@pytest.mark.parametrize("length", [2, 3, 4, 5])
@pytest.mark.parametrize("rounds", [3, 4])
def test_a_loop_of_several_calls_in_turn_tells_their_tools_in_order_and_how_often_they_came(
    length: int, rounds: int
) -> None:
    """From its first call on, after others; in any order of arrival, and whichever of them the row is of."""
    names = ["read", "grep", "edit", "test", "list"][:length]
    facts = [tool("before", 0, "before", session="s")]
    for at in range(length * rounds):
        facts.append(tool(f"x{at:02}", 1 + at, names[at % length], session="s"))
        assert facts[-1].call is not None
        facts[-1].call.tool = ToolCall(names[at % length], call_id=f"id {at}")
    expected = {"h1:k:" + names[-1]: (names, 3)}
    if rounds == 4:  # each call of the last round ends a loop; the earlier ones have gone round three whole times
        expected = {f"h1:k:{name}": (names, 3) for name in names[:-1]} | {"h1:k:" + names[-1]: (names, 4)}
    shuffled = Random(length).sample(facts, len(facts))
    for order in (facts, facts[::-1], shuffled):
        assert cycles(taken(order)) == expected


def test_a_loop_in_a_row_or_of_other_agents_is_no_cycle() -> None:
    row = [tool(f"x{at}", at, "a", session="s") for at in range(6)]
    assert cycles(taken(row)) == {}
    by_two = [tool(f"x{at}", at, "ab"[at % 2], session="s") for at in range(12)]
    for at, fact in enumerate(by_two):
        assert fact.call is not None
        fact.call.agent_id = ("one", "other")[at % 2]
    assert cycles(taken(by_two)) == {}


def test_a_tool_that_is_called_with_two_arguments_in_turn_is_a_cycle_of_its_calls() -> None:
    assert cycles(taken([tool(f"x{at}", at, "ab"[at % 2], session="s") for at in range(6)])) == {
        "h1:k:b": (["read", "read"], 3)
    }
