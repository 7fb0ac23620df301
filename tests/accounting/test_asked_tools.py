"""Tool calls that exist only in what models asked for: each once, whichever spans tell of it, in any order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captures import captures
from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact, take_in_any_order
from spanledger_processor.accounting import trace, trace_set
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Fact, LoopRule
from spanledger_processor.config import load
from spanledger_processor.ledger import dimensions
from spanledger_processor.ledger.keys import session_key
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.model import Signature, ToolCall
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing.signer import Signer

LATER = NOW + 20 * 86_400 * 10**9
"""After the recordings."""
DAY = NOW // (86_400 * 10**9)


def call(name: str, *ids: str, start: int = 0, stuck: tuple[str, ...] = (), **more: Any) -> Fact:
    """A model call that asks for tools with these ids."""
    more = {"session": "s", "response_id": f"r-{name}"} | more
    fact = make_fact(name, more.pop("parent", ""), "llm", 1000 + start, start=start, **more)
    fact.day = DAY
    fact.asked = tuple(text for one in ids for text in (one, "read"))
    fact.stuck = tuple(text for one in stuck for text in (one, "read"))
    return fact


def tool(name: str, call_id: str = "", *, start: int = 0, **more: Any) -> Fact:
    fact = make_fact(name, more.pop("parent", ""), "tool", start=start, session=more.pop("session", "s"), **more)
    assert fact.call is not None
    fact.call.tool, fact.day = ToolCall("read", call_id=call_id), DAY
    fact.signature = Signature(f"h1:0:{call_id or name}", "full")
    return fact


def counted(ledger: MemoryLedger) -> tuple[int, int]:
    """Tool calls and loops, which the total, the session, its tools and the tools of the days agree on."""
    with ledger.store.snapshot() as reader:
        session = reader.sums(session_key(TENANT, "s"))
        of_session = dimensions.of_session(reader, TENANT, "s", session)["tools"]
        of_days, _ = dimensions.tools(reader, TENANT, 0, None, 100)
    facts = session.facts
    assert facts is not None
    calls, loops = session.tool_calls, facts.loops
    assert ledger.total.tool_calls == calls
    for rows in (of_session, of_days):
        assert sum(row["calls"] for row in rows) == calls
        assert sum(row["loops"] for row in rows) == loops
    return calls, loops


@pytest.mark.parametrize("most", [1, 2, 3])
def test_tools_beyond_the_limit_are_one_row(most: int) -> None:
    ledger, facts = MemoryLedger(), [tool(f"t{number}", f"i{number}", start=number) for number in range(6)]
    for number, fact in enumerate(facts):
        assert fact.call is not None
        fact.call.tool = ToolCall(("a", "b", "b", "c", "c", "c")[number], call_id=f"i{number}")
    ledger.take(facts)
    with ledger.store.snapshot() as reader:
        rows, more = dimensions.tools(reader, TENANT, 0, None, most)
    shown = [("c", 3), ("b", 2), ("a", 1)]
    beyond = sum(calls for _, calls in shown[most:])
    assert [(row["id"], row["calls"]) for row in rows] == [*shown[:most], *([("", beyond)] if beyond else [])]
    assert (rows[-1].get("other", False), more) == (bool(beyond), 3 - most)


@pytest.mark.parametrize(
    ("spans", "calls"),
    [
        ([call("c", "x", "y")], 2),
        ([call("c", "x"), call("d", "x", start=5)], 1),
        ([call("c", "x", "y"), tool("t", "x")], 2),
        ([call("c", "x", "y"), tool("t", "x"), tool("u", "y")], 2),
        ([call("c", "x", "y"), tool("t")], 2),
        ([call("c", "x"), tool("t"), tool("u")], 2),
        ([call("c", "x"), tool("t", "x", trace="t2")], 1),
        ([call("c", "x"), tool("t", "z")], 1),
        ([call("c", "x"), call("d", "y", trace="t2")], 2),
    ],
    ids=[
        "two",
        "asked for again by the same id",
        "one has a span",
        "both have spans",
        "a span without an id is one of them",
        "spans without ids are more than were asked for",
        "its span stands in another trace",
        "a framework has ids of its own",
        "calls of two traces",
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_each_is_counted_once(spans: list[Fact], calls: int, *, reverse: bool, apart: bool) -> None:
    ledger = MemoryLedger()
    ordered = spans[::-1] if reverse else spans
    for batch in [[span] for span in ordered] if apart else [ordered]:
        ledger.take(batch)
    assert counted(ledger)[0] == calls


@pytest.mark.parametrize(
    ("spans", "loops"),
    [
        ([call("c", "x"), call("d", "y", start=5, stuck=("x",))], 1),
        ([call("c", "x"), tool("t", "x"), call("d", "y", start=5, stuck=("x",))], 0),
        ([call("c", "x"), call("d", "y", start=5, stuck=("x",)), call("e", start=9, stuck=("x",))], 1),
        ([call("c", "x"), call("d", "y", start=5, stuck=("x",), trace="t2")], 1),
        ([call("c", "x"), tool("t", "x"), call("d", "y", start=5, stuck=("x",), trace="t2")], 0),
    ],
    ids=["told by the next call", "it has a span", "told twice", "in another trace", "it has a span in another trace"],
)
def test_a_loop_is_told_once_where_no_span_of_a_tool_tells_it(spans: list[Fact], loops: int) -> None:
    ledger = MemoryLedger()
    decisions = [decision for span in spans for decision in ledger.take([span])]
    assert counted(ledger)[1] == loops
    assert sum(decision.tool_loop for decision in decisions if decision.kind == "llm") == loops


@pytest.mark.parametrize("ids", [("x", "x", "x"), ("", "", ""), ("x", "", "x")])
@pytest.mark.parametrize("failing", [(), (0,), (1,), (0, 2), (0, 1, 2)])
def test_an_execution_failed_once_whichever_of_its_reports_told_so(
    ids: tuple[str, ...], failing: tuple[int, ...]
) -> None:
    """As Claude Code's log events tell of a failure that its spans of tools do not."""
    reports = []
    for number, call_id in enumerate(ids):
        fact = tool(f"t{number}", call_id, scope=f"source {number}")
        fact.signature, fact.failed = Signature("h1:0:a", "full"), number in failing
        reports.append(fact)
    for order in permutations(reports):
        for batches in ([[fact] for fact in order], [[*order]]):
            ledger = MemoryLedger()
            for batch in batches:
                ledger.take(batch)
            with ledger.store.snapshot() as reader:
                session = reader.sums(session_key(TENANT, "s"))
                (of_session,) = dimensions.of_session(reader, TENANT, "s", session)["tools"]
                (of_day,), _ = dimensions.tools(reader, TENANT, 0, None, 100)
            assert session.facts is not None
            failures = {session.facts.failed, of_session["failures"], of_day["failures"]}
            assert (of_day["calls"], failures) == (1, {int(bool(failing))})


HOUR = 3600 * 10**9
UNTOLD = LoopRule(consecutive=3, cycles=3, window_ns=HOUR)


def unanswered(name: str, identifier: str, signature: str = "a", **more: Any) -> Fact:
    """A model call that asks for a tool, where nothing tells results."""
    fact = call(name, identifier, **more)
    fact.asked_signatures = (signature,)
    return fact


@pytest.mark.parametrize(
    ("spans", "loops"),
    [
        ([unanswered(f"c{n}", f"x{n}", start=n) for n in range(2)], 0),
        ([unanswered(f"c{n}", f"x{n}", start=n) for n in range(3)], 1),
        ([unanswered(f"c{n}", f"x{n}", start=n) for n in range(4)], 2),
        ([unanswered(f"c{n}", f"x{n}", start=n, trace=f"t{n}") for n in range(3)], 1),
        ([unanswered(f"c{n}", f"x{n}", start=n, session=f"s{n}") for n in range(3)], 0),
        ([unanswered(f"c{n}", "x", start=n) for n in range(3)], 0),
        ([replace(unanswered(f"c{n}", f"x{n}", start=n), agent=f"g{n}") for n in range(3)], 0),
        ([replace(unanswered(f"c{n}", f"x{n}", start=n), agent=f"g{n % 2}") for n in range(5)], 1),
        ([unanswered(f"c{n}", f"x{n}", "aba"[n], start=n) for n in range(3)], 0),
        ([unanswered(f"c{n}", f"x{n}", "ababab"[n], start=n) for n in range(6)], 1),
        ([unanswered(f"c{n}", f"x{n}", "", start=n) for n in range(3)], 0),
        ([unanswered(f"c{n}", f"x{n}", start=n * HOUR) for n in range(3)], 0),
        ([call(f"c{n}", f"x{n}", start=n) for n in range(3)], 0),
    ],
    ids=[
        "too few",
        "three",
        "one more",
        "in three traces",
        "of three sessions",
        "one call told thrice",
        "of three agents",
        "of two agents in turn",
        "another between",
        "a cycle",
        "arguments are not known",
        "seldom",
        "results can be told",
    ],
)
def test_calls_of_which_nothing_tells_results_are_a_loop_by_themselves(spans: list[Fact], loops: int) -> None:
    for batches in ([[span] for span in spans], [spans], [[span] for span in spans for _ in range(2)]):
        ledger = MemoryLedger(loop=UNTOLD)
        reported = sum(bool(decision.tool_loop) for batch in batches for decision in ledger.take(batch))
        if {span.session.id for span in spans} == {"s"}:
            assert counted(ledger)[1] == loops
        assert reported == loops * (2 if len(batches) > len(spans) else 1)


def test_calls_are_no_loop_by_themselves_where_spans_of_tools_tell_of_executions() -> None:
    """As polling with new results, which the spans of tools hold, with an id or without one."""
    for call_id in ("x{}", ""):
        ledger = MemoryLedger(loop=UNTOLD)
        for number in range(5):
            asking = unanswered(f"c{number}", f"x{number}", start=number * 100)
            running = tool(f"t{number}", call_id.format(number), start=number * 100 + 50, scope="tools")
            running.signature, running.result = Signature("h1:0:a", "full"), b"%d" % number
            reported = [decision.tool_loop for fact in (asking, running) for decision in ledger.take([fact])]
            assert not any(reported)
        assert counted(ledger)[1] == 0


def test_a_loop_stands_where_the_tool_was_executed_once_its_span_comes() -> None:
    """The spans of tools come behind all calls that ask for them, and are a loop themselves."""
    ledger = MemoryLedger(loop=UNTOLD)
    asking = [unanswered(f"c{n}", f"x{n}", start=n * 100) for n in range(3)]
    running = [tool(f"t{n}", f"x{n}", start=n * 100 + 50) for n in range(3)]
    for fact in running:
        fact.signature = Signature("h1:0:a", "full")
    for facts in (asking, running):
        ledger.take(facts)
    assert counted(ledger) == (3, 1)


def calls_in_every_order(facts: Iterable[Fact]) -> set[tuple[int, int]]:
    """The calls of models and of tools, for each order in which the facts come."""
    told = set()
    for order in permutations(facts):
        ledger = MemoryLedger()
        for fact in order:
            ledger.take([fact])
        told.add((ledger.total.calls, counted(ledger)[0]))
    return told


def test_what_a_model_asks_for_counts_also_where_its_call_is_reported_again_elsewhere() -> None:
    """As by Gemini CLI's spans of models and tools, in traces of their own, and its log events, in any order."""
    asking, running = call("c", "x", response_id="same"), tool("t", "x", trace="t2")
    again = call("l", trace="t3", response_id="same", scope="log events")
    assert calls_in_every_order((asking, running, again)) == {(1, 1)}


def test_of_two_traces_that_report_a_call_of_a_model_that_asks_for_tools_which_counts() -> None:
    """As where one library writes each call into a trace of its own, beside another that writes all into one."""
    asking, other = call("c", "x", response_id="same"), call("l", trace="t2", response_id="same", scope="other")
    assert other.cost is not None
    other.cost.amount, other.cost.unpriced = None, "unknown_model"
    assert calls_in_every_order((asking, other)) == {(1, 1)}


def test_what_two_traces_tell_that_a_model_asks_for_counts_once() -> None:
    reports = [
        call("c", "x", response_id="same"),
        call("l", "x", trace="t2", response_id="same", scope="other"),
        call("m", "x", trace="t3", response_id="same", scope="third"),
    ]
    assert calls_in_every_order(reports) == {(1, 1)}


@pytest.mark.parametrize(("beside", "calls"), [("t1", 2), ("t2", 1)])
def test_of_two_reports_alike_the_one_with_the_greatest_id_asks_for_tools(beside: str, calls: int) -> None:
    """A tool's span without an id there stands for what it asks for; whichever came last is the duplicate."""
    reports = [call("c", "x", response_id="same"), call("l", "x", trace="t2", response_id="same", scope="other")]
    facts = [*reports, tool("t", trace=beside)]
    assert calls_in_every_order(facts) == {(1, calls)}
    for order in permutations(facts):
        ledger = MemoryLedger()
        decisions = {fact.span_id: ledger.take([fact])[0] for fact in order}
        told = [decisions[fact.span_id].duplicate_of for fact in order if fact in reports]
        assert [bool(other) for other in told] == [False, True]


def test_what_a_model_asks_for_counts_again_where_the_other_report_proves_to_be_above_others() -> None:
    asking = call("c", "x", response_id="same")
    above = call("a", trace="t2", response_id="same", scope="other")
    assert calls_in_every_order((asking, above, call("b", trace="t2", parent="a", start=50))) == {(2, 1)}


@pytest.mark.parametrize(
    ("spans", "calls"),
    [
        ([call("c", "x"), tool("t", "x"), tool("u", "x", trace="t2")], 1),
        ([call("c", "x", "y"), tool("t", "x"), tool("u", "x", trace="t2")], 2),
        ([call("c", "x"), tool("t", "x", scope="one"), tool("v", "x", scope="two"), tool("u", "x", trace="t2")], 1),
    ],
    ids=["by each trace once", "another beside it", "twice here"],
)
def test_a_call_whose_tool_two_traces_tell_of_counts_once(spans: list[Fact], calls: int) -> None:
    """As of a server of tools that writes a trace of its own, beside the client's, in any order."""
    for order in permutations(spans):
        ledger = MemoryLedger()
        for fact in order:
            ledger.take([fact])
        assert counted(ledger)[0] == calls, [fact.span_id for fact in order]


def test_what_is_asked_for_beside_a_tool_that_changes_its_session_does_not_depend_on_the_order() -> None:
    """Two traces tell of one execution, until a call that names another session leaves one of them without any."""
    spans = [
        make_fact("p", session="s"),
        make_fact("q", session="s", trace="t2"),
        tool("t", "x", session=""),
        tool("u", "x", session="", trace="t2"),
        call("c", "y", session="other"),
    ]
    for order in permutations(spans):
        for batches in ([[fact] for fact in order], [[*order]]):
            ledger = MemoryLedger()
            for batch in batches:
                ledger.take(batch)
            assert ledger.total.tool_calls == 2, [fact.span_id for fact in order]


def test_a_loop_is_told_once_whichever_report_of_a_call_knows_its_arguments() -> None:
    """As by Codex's spans, that tell no arguments, and its log events, that do; what came first told of no loop."""
    for first, second in (("name_only", "full"), ("full", "name_only")):
        ledger = MemoryLedger(loop=LoopRule(consecutive=3))
        loops = []
        for scope in (first, second):
            for number in range(3):
                fact = tool(f"{scope}{number}", f"id{number}", start=number * 100, scope=scope)
                fact.signature = Signature(f"h1:0:{scope}", scope)
                loops += [decision.tool_loop for decision in ledger.take([fact])]
        assert counted(ledger) == (3, 1)
        assert sum(map(bool, loops)) == 1


def test_a_second_report_says_of_its_call_what_the_first_one_did() -> None:
    """Not what is true when it arrives: the log events of three calls in a row come after all three spans."""
    ledger = MemoryLedger(loop=LoopRule(consecutive=3))
    said = []
    for scope in ("spans", "log events"):
        for number in range(3):
            fact = tool(f"{scope}{number}", start=number * 100, scope=scope)
            fact.signature = Signature("h1:0:same", "full")
            fact.call.source = "" if scope == "spans" else "log:agent"  # type: ignore[union-attr]
            (decision,) = ledger.take([fact])
            said.append((decision.tool_repeats, decision.tool_consecutive, decision.tool_loop))
    assert said == [(1, 1, False), (2, 2, False), (3, 3, True)] * 2
    assert counted(ledger) == (3, 1)


@pytest.mark.parametrize(("window_s", "gap_s"), [(3600, 3600), (10**6, 1800)])
def test_what_began_before_the_window_or_a_gap_is_no_part_of_a_loop_of_a_conversation(
    window_s: int, gap_s: int
) -> None:
    """As `git status` at long intervals: of steps whose ids were seen before it is known when they were asked for."""
    for pause_s, loops in ((1700, 1), (1801, 0)):
        rule = LoopRule(consecutive=3, window_ns=window_s * 10**9, gap_ns=gap_s * 10**9)
        ledger = MemoryLedger(loop=rule)
        starts = [number * pause_s * 10**9 for number in range(4)]
        steps = [call(f"c{number}", f"id{number}", start=start) for number, start in enumerate(starts)]
        steps[3].stuck, steps[3].stuck_steps = ("id2", "read"), (("id0", "id1", "id2"),)
        for step in steps:
            ledger.take([step])
        assert counted(ledger)[1] == loops


def test_a_conversation_that_tells_no_time_is_counted() -> None:
    """A span whose start is zero (OTLP: not known), and whose input shows a loop that nothing else tells of."""
    ledger = MemoryLedger(loop=LoopRule(consecutive=3))
    step = call("c")
    step.start_ns, step.stuck, step.stuck_steps = 0, ("id2", "read"), (("id0", "id1", "id2"),)
    (decision,) = ledger.take([step])
    assert (decision.tool_loop, counted(ledger)[1]) == (True, 1)


def test_of_a_long_trace_the_same_stands_in_memory_as_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`MemoryLedger` compares: spans of tools without an id that are forgotten are the execution of no later call."""
    monkeypatch.setattr(trace, "MAX_SPANS", 8)
    monkeypatch.setattr(trace, "_SLACK", 2)
    monkeypatch.setattr(trace_set, "SEGMENT_SPANS", 2)
    ledger = MemoryLedger()
    for number in range(20):
        ledger.take([tool(f"t{number}", start=number)])
    ledger.take([call("c", *(f"i{number}" for number in range(12)), start=30)])
    assert counted(ledger) == (20 + 12 - 8, 0), "eight tools are remembered"


@dataclass(frozen=True)
class Step:
    name: str
    kind: str
    parent: str
    ids: tuple[str, ...]
    stuck: tuple[str, ...]
    start: int


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """Calls and tools of one trace."""
    ids, result = st.lists(st.sampled_from("uvwxyz"), max_size=3, unique=True), list[Step]()
    for number in range(draw(st.integers(1, 10))):
        kind = draw(st.sampled_from(["llm", "llm", "tool", "tool", "agent", ""]))
        asked = tuple(draw(ids))
        above = draw(st.sampled_from(["", *(step.name for step in result)]))
        result.append(Step(f"n{number}", kind, above, asked, tuple(draw(ids))[:1], draw(st.integers(0, 9))))
    return result


def fact_of(step: Step) -> Fact:
    if step.kind == "llm":
        return call(step.name, *step.ids, start=step.start, stuck=step.stuck, parent=step.parent)
    if step.kind == "tool":
        return tool(step.name, "".join(step.ids[:1]), start=step.start, parent=step.parent)
    return make_fact(step.name, step.parent, step.kind, session="s", start=step.start)


@given(steps(), st.data())
def test_the_order_of_arrival_repeats_and_restarts_change_nothing(spans: list[Step], data: st.DataObject) -> None:
    ledger, whole = MemoryLedger(), MemoryLedger()
    first = make_fact("first", kind="other", session="s")
    whole.take([first, *map(fact_of, spans)])
    ledger.take([first])
    take_in_any_order(ledger, [*map(fact_of, spans)], data)
    assert counted(ledger) == counted(whole)


@pytest.mark.parametrize(
    "name", ["openinference-js/openai-chat", "langchain-openinference/S3-plus-openai", "gemini-cli/tools"]
)
def test_recordings_have_the_calls_that_the_model_server_asked_for(name: str) -> None:
    """Without spans of tools; with spans of two libraries in two traces; with those of tools in traces of their own."""
    stage = make_stage(load(None, (), {"HOME": "/nowhere"}), Signer(b"k" * 32))
    store, ids = MemoryStore(), set[str]()
    for signal, body in next(one.requests for one in captures() if one.name == name):
        for batch in stage.read(body, {}, LATER).batches if signal == "traces" else ():
            ids.update(identifier for fact in batch.facts for identifier in fact.asked[::2])
            with store.unit() as unit:
                enter(batch, unit)
    with store.snapshot() as reader:
        rows, _ = dimensions.tools(reader, TENANT, 0, None, 100)
    assert len(ids) in (3, 4)
    assert sum(row["calls"] for row in rows) == len(ids)
    assert sum(row["loops"] for row in rows) == 1
