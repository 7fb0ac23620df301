"""How often a session made one tool call, whoever tells of it and however often."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact, take_in_any_order
from spanledger_processor.accounting.facts import Fact, LoopRule
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.store import Table
from spanledger_processor.model import Signature, ToolCall
from spanledger_processor.units import NS_PER_DAY

MS = 1_000_000


def tool(
    name: str, *, at: int, signature: str = "h1:k:1", call_id: str = "", logged: bool = False, scope: str = "library"
) -> Fact:
    fact = make_fact(name, "", "tool", session="s", start=at * MS, length=0 if logged else 20 * MS, scope=scope)
    assert fact.call is not None
    fact.call.tool = ToolCall("get_weather", call_id=call_id)
    fact.call.source = "log:client" if logged else ""
    fact.signature = Signature(signature, "full")
    return fact


def test_the_same_call_again_counts_up_and_another_one_breaks_the_row() -> None:
    ledger = MemoryLedger(loop=LoopRule(consecutive=2, repeats=3))
    calls = [tool("a", at=0), tool("b", at=100), tool("c", at=200, signature="h1:k:2"), tool("d", at=300)]
    decisions = [ledger.take([call])[0] for call in calls]
    assert [(d.tool_repeats, d.tool_consecutive, d.tool_loop) for d in decisions] == [
        (1, 1, False),
        (2, 2, True),
        (1, 1, False),
        (3, 1, True),
    ]


def _loops(*results: bytes, every_ms: int = 100, rule: LoopRule | None = None) -> list[bool]:
    ledger = MemoryLedger(loop=rule or LoopRule(consecutive=3, repeats=5))
    calls = [tool(f"c{number}", at=number * every_ms) for number in range(len(results))]
    for call, result in zip(calls, results, strict=True):
        call.result = result
    return [ledger.take([call])[0].tool_loop for call in calls]


def test_only_calls_that_come_to_nothing_new_are_a_loop() -> None:
    assert _loops(b"a", b"a", b"a", b"a") == [False, False, True, True]
    assert _loops(b"a", b"b", b"c", b"d") == [False] * 4
    assert _loops(b"a", b"b", b"b", b"b") == [False, False, False, True]
    assert _loops(b"", b"", b"") == [False, False, True]
    assert _loops(b"a", b"", b"a") == [False, False, True]


def test_calls_at_long_intervals_are_no_loop() -> None:
    rule = LoopRule(consecutive=3, repeats=5, window_ns=250 * MS)
    assert _loops(b"a", b"a", b"a", every_ms=100, rule=rule) == [False, False, True]
    assert _loops(b"a", b"a", b"a", every_ms=200, rule=rule) == [False] * 3


DEFAULT = LoopRule(consecutive=3, repeats=0, cycles=3, calls=100)


def _of(sequence: str, rule: LoopRule = DEFAULT, every_ms: int = 100) -> list[int]:
    """The places of the calls that complete a loop. A step is a call's letter, its result after a colon, and a `!` in
    front if it was not allowed.
    """
    ledger, loops = MemoryLedger(loop=rule), list[int]()
    for place, step in enumerate(sequence.split()):
        letter, _, result = step.strip("!").partition(":")
        call = tool(f"c{place}", at=place * every_ms, signature=f"h1:k:{letter}")
        assert call.call is not None
        assert call.call.tool is not None
        call.call.tool.name, call.call.tool.denied = letter, step.startswith("!")
        call.result = result.encode()
        if ledger.take([call])[0].tool_loop:
            loops.append(place)
    return loops


@pytest.mark.parametrize(
    ("sequence", "loops"),
    [
        ("a:1 a:1 a:1", [2]),
        ("a a a", [2]),
        ("a:1 b:1 a:1 b:1 a:1 b:1", [5]),
        ("a b a b a b a", [5, 6]),
        ("a b c a b c a b c", [8]),
        ("a b c d e a b c d e a b c d e", [14]),
        ("a b c d e f a b c d e f a b c d e f", []),  # six calls are no cycle that is looked for
        ("a a b a a b a a b", [8]),
        ("wait poll:1 wait poll:2 wait poll:3 wait poll:4", []),  # polling: new results are progress
        ("poll:1 poll:2 poll:3 poll:4", []),
        ("edit1 test:bad edit2 test:bad edit3 test:bad edit4 test:bad edit5 test:bad", []),  # tests after edits
        ("edit:ok test:bad edit:ok test:bad edit:ok test:bad", [5]),  # the very same edit again is no new try
        ("!a !a !a !a", []),  # what was not allowed is no step
        ("a !b a !b a", [4]),
        ("a:1 b a:2 b a:3 b a:4 b", []),
    ],
)
def test_loops_and_what_only_looks_like_one(sequence: str, loops: list[int]) -> None:
    assert _of(sequence) == loops


def test_a_cycle_at_long_intervals_is_none() -> None:
    """`git status` and the like, with a quarter of an hour between."""
    assert _of("a b a b a b", every_ms=900_000) == []
    assert _of("a b a b a b", LoopRule(cycles=3, window_ns=10**18, gap_ns=10**18), every_ms=900_000) == [5]


def test_the_same_call_at_long_intervals_is_no_loop() -> None:
    """`git status` with the same result each quarter of an hour, and each ten minutes."""
    assert _of("a:1 a:1 a:1 a:1 a:1", every_ms=900_000) == []
    assert _of("a:1 a:1 a:1 a:1 a:1", every_ms=600_000) == [2, 3, 4]
    assert _of("a:1 a:1 a:1", LoopRule(consecutive=3, gap_ns=900_000 * MS), every_ms=900_000) == [2]


def _loops_of(calls: list[Fact]) -> int:
    """The loops of the calls' session."""
    ledger = MemoryLedger(loop=DEFAULT)
    for call in calls:
        ledger.take([call])
    facts = ledger.table(Table.SESSION)["s"].facts
    assert facts is not None
    return facts.loops


def _each_quarter_of_an_hour(number: int, length_s: int = 0, letter: str = "a") -> list[Fact]:
    calls = [tool(f"{letter}{at}", at=at * 900_000, signature=f"h1:k:{letter}") for at in range(number)]
    for call in calls:
        call.end_ns = call.start_ns + length_s * 10**9
    return calls


@pytest.mark.parametrize(("length_s", "loops"), [(880, 1), (200, 0)])
def test_a_gap_is_the_time_in_which_no_step_is_under_way(length_s: int, loops: int) -> None:
    """Tests that take a quarter of an hour, and that fail alike three times, one right after the other, are a loop."""
    assert _loops_of(_each_quarter_of_an_hour(3, length_s)) == loops


@pytest.mark.parametrize("first", [True, False])
def test_another_call_under_way_makes_no_gap_smaller(*, first: bool) -> None:
    """As of a server in the background, while the same status, or two in turn, are asked for now and then."""
    server = tool("server", at=-1, signature="h1:k:server")
    server.end_ns = server.start_ns + 7200 * 10**9
    status, other = _each_quarter_of_an_hour(8), _each_quarter_of_an_hour(8, letter="b")
    for call in other:
        call.start_ns, call.end_ns = call.start_ns + MS, call.end_ns + MS
    in_turn = sorted([*status, *other], key=lambda call: call.start_ns)
    for calls in (status, in_turn):
        assert _loops_of([server, *calls] if first else [*calls, server]) == 0


def test_an_end_that_no_clock_can_show_makes_no_gap_smaller() -> None:
    """More than a day ahead of the arrival; up to that the clocks of two machines may differ."""
    for end_ns, loops in ((NOW + NS_PER_DAY, 1), (NOW + NS_PER_DAY + 1, 0), (2**63 - 1, 0)):
        calls = _each_quarter_of_an_hour(6)
        calls[0].end_ns = end_ns
        assert _loops_of(calls) == loops


@given(st.data())
def test_the_number_of_loops_with_gaps_does_not_depend_on_order(data: st.DataObject) -> None:
    """Of calls minutes apart, against the same calls in the order in which they were made."""
    minutes = data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=8, unique=True))
    calls = [tool(f"c{at}", at=at * 60_000, signature="h1:k:a") for at in sorted(minutes)]
    numbers = []
    for order in (calls, data.draw(st.permutations(calls))):
        ledger = MemoryLedger(loop=DEFAULT)
        for call in order:
            ledger.take([call])
        facts = ledger.table(Table.SESSION)["s"].facts
        assert facts is not None
        numbers.append(facts.loops)
    assert numbers[0] == numbers[1]


def _of_agents(agents: str, letters: str = "", named: str = "id") -> list[Fact]:
    """The same call, or those of `letters`, by an agent each: a letter, none for a dash; named by its id or name."""
    calls = list[Fact]()
    for place, agent in enumerate(agents):
        letter = letters[place] if letters else "a"
        fact = tool(f"{letter}{place}", at=place * 100, signature=f"h1:k:{letter}", call_id=f"id{place}")
        assert fact.call is not None
        if named == "id":
            fact.call.agent_id, fact.agent = agent.strip("-"), "Explore"
        else:
            fact.agent = agent.strip("-")
        calls.append(fact)
    return calls


@pytest.mark.parametrize("named", ["id", "name"])
@pytest.mark.parametrize(
    ("agents", "letters", "loops"),
    [
        ("xyz", "", 0),  # three at once that each read one file
        ("xyxyx", "", 1),
        ("xxxyyy", "", 2),
        ("xxx", "", 1),
        ("xyxyxyxyxyxy", "aabbaabbaabb", 2),  # each of the two has a cycle of its own
        ("xyxyxy", "ababab", 2),  # each does the same three times
    ],
)
def test_the_steps_of_a_loop_are_of_one_agent(agents: str, letters: str, loops: int, named: str) -> None:
    assert _loops_of(_of_agents(agents, letters, named)) == loops


def test_calls_of_which_no_report_names_an_agent_are_of_one() -> None:
    assert _loops_of(_of_agents("---", named="name")) == 1
    assert _loops_of(_of_agents("-x-x-", named="name")) == 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(agents=st.text("xy", min_size=3, max_size=9), data=st.data())
def test_loops_of_agents_that_only_some_reports_name_do_not_depend_on_order(agents: str, data: st.DataObject) -> None:
    """As where a span has no agent and the log event of the same call has it, with the same or another signature."""
    wanted = _loops_of(_of_agents(agents))
    others = _of_agents(agents, named="name")
    for place, other in enumerate(others):
        other.span_id, other.scope, other.agent = f"other{place}".encode(), "other", ""
        if data.draw(st.booleans()):
            other.signature = Signature("h1:k:name", "name_only")
    assert _loops_of(data.draw(st.permutations([*_of_agents(agents), *others]))) == wanted


def test_what_many_calls_came_after_is_no_part_of_a_loop() -> None:
    """Status between other work: five times, with ten other calls between."""
    sequence = " ".join(f"status {' '.join(f'w{number}x{other}' for other in range(10))}" for number in range(5))
    assert _of(sequence, LoopRule(repeats=5, calls=100)) == [44]
    assert _of(sequence, LoopRule(repeats=5, calls=40)) == []


def test_tools_may_have_thresholds_of_their_own() -> None:
    rule = replace(DEFAULT, tools=(("po*", 5, 0, 0), ("b", 2, 0, 2)))
    assert _of("poll poll poll poll poll", rule) == [4]
    assert _of("b b c c c", rule) == [1, 4]
    assert _of("a b a b", rule) == [3]


def test_progress_of_another_call_of_the_session_is_progress() -> None:
    ledger = MemoryLedger(loop=LoopRule(consecutive=0, repeats=2))
    loops = []
    for number in range(3):
        wait, poll = tool(f"w{number}", at=number * 200), tool(f"p{number}", at=number * 200 + 100, signature="h1:k:2")
        poll.result = b"%d" % number
        loops += [ledger.take([wait])[0].tool_loop, ledger.take([poll])[0].tool_loop]
    assert loops[:2] == [False, False]
    assert loops[4:] == [False, False]


def test_a_second_report_brings_the_result_that_the_first_one_lacked() -> None:
    ledger = MemoryLedger(loop=LoopRule(consecutive=2, repeats=0))
    first, report, second = (
        tool("a", at=0, call_id="c1"),
        tool("b", at=1, call_id="c1", scope="other"),
        tool("d", at=100),
    )
    report.result, second.result = b"x", b"y"
    for fact in (first, report):
        ledger.take([fact])
    assert not ledger.take([second])[0].tool_loop


def test_a_denied_call_is_no_step_of_a_loop() -> None:
    ledger = MemoryLedger(loop=LoopRule(consecutive=2, repeats=3))
    calls = [tool("a", at=0), tool("b", at=100), tool("c", at=200)]
    denied = calls[1].call
    assert denied is not None
    assert denied.tool is not None
    denied.tool.denied = True
    decisions = [ledger.take([call])[0] for call in calls]
    assert [(d.tool_repeats, d.tool_loop) for d in decisions] == [(1, False), (0, False), (2, True)]


def test_log_events_that_all_arrive_before_the_spans_of_the_same_calls_count_once() -> None:
    ledger = MemoryLedger()
    for number in range(3):
        ledger.take([tool(f"log{number}", at=number * 100 + 21, call_id=f"c{number}", logged=True)])
    decisions = [ledger.take([tool(f"span{n}", at=n * 100, call_id=f"c{n}")])[0] for n in range(3)]
    assert [decision.tool_repeats for decision in decisions] == [1, 2, 3]


def test_a_log_event_without_the_call_id_joins_its_span_by_time_one_to_one() -> None:
    ledger = MemoryLedger()
    spans = [ledger.take([tool(f"span{n}", at=n * 100, call_id=f"c{n}")])[0] for n in range(2)]
    logs = [ledger.take([tool(f"log{n}", at=n * 100 + 25, logged=True)])[0] for n in range(2)]
    assert [decision.tool_repeats for decision in (*spans, *logs)] == [1, 2, 1, 2]


def test_two_libraries_around_one_execution_count_it_once() -> None:
    ledger = MemoryLedger()
    inner, outer = tool("inner", at=1, scope="one"), tool("outer", at=0, scope="two")
    inner.end_ns -= 2 * MS
    assert [decision.tool_repeats for decision in ledger.take([inner, outer])] == [1, 1]


def test_one_library_that_makes_the_call_twice_at_once_counts_both() -> None:
    ledger = MemoryLedger()
    decisions = ledger.take([tool("one", at=0), tool("other", at=0)])
    assert sorted(decision.tool_repeats for decision in decisions) == [1, 2]


def test_a_span_without_arguments_and_a_log_event_with_them_are_one_tool_call() -> None:
    """Claude Code's spans hold no arguments, its log events do; the call id is the same."""
    ledger = MemoryLedger()
    span = tool("span", at=0, call_id="c1", signature="h1:k:name")
    span.signature = Signature("h1:k:name", "name_only")
    (plain,) = ledger.take([span])
    (event,) = ledger.take([tool("log", at=21, call_id="c1", logged=True)])
    assert (plain.tool_repeats, event.tool_repeats) == (0, 1)
    assert ledger.total.tool_calls == 1


def _loops_of_session(ledger: MemoryLedger) -> tuple[int, int]:
    """The loops of the session, and those of its tools together."""
    with ledger.store.snapshot() as reader:
        row = queries.session(reader, TENANT, "s")
    assert row is not None
    return row["loops"], sum(tool["loops"] for tool in row["tools"])


def _executions(steps: list[tuple[str, str]], *, reported_twice: bool = False) -> list[Fact]:
    """An execution each, in a trace of its own, with a letter for its call and one for its result."""
    facts = list[Fact]()
    for place, (letter, result) in enumerate(steps):
        for scope in ("library", "other")[: 1 + reported_twice]:
            fact = tool(
                f"{scope}{place}", at=place * 1000, signature=f"h1:k:{letter}", call_id=f"id{place}", scope=scope
            )
            fact.trace_id = f"{scope} {place}".encode()
            fact.result = result.encode() if scope == "other" or not reported_twice else b""
            assert fact.call is not None
            assert fact.call.tool is not None
            fact.call.tool.name = letter
            facts.append(fact)
    return facts


def _named_by_another_span(facts: list[Fact]) -> list[Fact]:
    """The same executions; an agent's span above each names the session, and stands in front of it."""
    named = list[Fact]()
    for fact in facts:
        agent = make_fact(f"of {fact.span_id.decode()}", "", "agent", trace=fact.trace_id.decode(), session="s")
        agent.start_ns, agent.end_ns = fact.start_ns, fact.end_ns
        named += [agent, replace(fact, parent_id=agent.span_id, session=Named("", ""))]
    return named


_steps = st.lists(st.tuples(st.sampled_from("aab"), st.sampled_from(["", "1", "1", "2"])), min_size=1, max_size=14)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(steps=_steps, reported_twice=st.booleans(), data=st.data())
def test_how_many_loops_a_session_has_does_not_depend_on_the_order(
    steps: list[tuple[str, str]], data: st.DataObject, *, reported_twice: bool
) -> None:
    """Whatever of it came late: its span may lack the mark, the session has the number."""
    facts = _executions(steps, reported_twice=reported_twice)
    in_order = MemoryLedger(loop=DEFAULT)
    marks = sum(in_order.take([fact])[0].tool_loop for fact in _executions(steps))
    wanted = _loops_of_session(in_order)
    assert wanted == (marks, marks)
    ledger = MemoryLedger(loop=DEFAULT)
    take_in_any_order(ledger, facts, data)
    assert _loops_of_session(ledger) == wanted


@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=_steps, data=st.data())
def test_loops_of_calls_that_come_before_their_session_is_named(
    steps: list[tuple[str, str]], data: st.DataObject
) -> None:
    in_order = MemoryLedger(loop=DEFAULT)
    for fact in _executions(steps):
        in_order.take([fact])
    ledger = MemoryLedger(loop=DEFAULT)
    take_in_any_order(ledger, _named_by_another_span(_executions(steps)), data)
    assert _loops_of_session(ledger) == _loops_of_session(in_order)
