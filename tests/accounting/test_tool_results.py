"""What results of tools brought into model calls: a function of the set of spans, whatever their order and repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact, take_in_any_order
from spanledger_processor.accounting import trace, trace_set
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.accounting.trace import MAX_SPANS
from spanledger_processor.accounting.trace_record import unpack_head
from spanledger_processor.ledger import dimensions
from spanledger_processor.ledger.keys import session_key, trace_key
from spanledger_processor.ledger.rows import Row
from spanledger_processor.model import Cost, ToolCall, Usage

Brought: TypeAlias = dict[str, tuple[int, int, int, int]]
"""By tool: results, tokens, 1e-12 USD, and results of which the cost is not known."""

DAY = NOW // (86_400 * 10**9)


def call(name: str, start: int, length: int, usage: Usage, cost: Cost | None, *, agent: str = "", **more: Any) -> Fact:
    fact = make_fact(
        name, more.pop("parent", ""), "llm", session="s", start=start, length=length, agent_id=agent, **more
    )
    assert fact.call is not None
    fact.call.usage, fact.day = usage, DAY
    fact.cost = cost or Cost(unpriced="unknown_model")
    return fact


def tool(name: str, start: int, length: int, what: str, *, call_id: str = "", agent: str = "", **more: Any) -> Fact:
    reported = ToolCall(what, call_id=call_id)
    fact = make_fact(
        name, more.pop("parent", ""), "tool", session="s", start=start, length=length, agent_id=agent, **more
    )
    assert fact.call is not None
    fact.call.tool, fact.day = reported, DAY
    return fact


def priced(fresh: int, rest: int = 0) -> Cost:
    """So much for input that was not read from the cache, and for all else."""
    return Cost(fresh + rest, "computed", fresh + rest, input=fresh, output=rest, price="p")


def brought(ledger: MemoryLedger) -> Brought:
    """What the session's answer says, which is that of its day."""
    with ledger.store.snapshot() as reader:
        session = reader.sums(session_key(TENANT, "s"))
        of_session = dimensions.of_session(reader, TENANT, "s", session)["tools"]
        of_days, left_out = dimensions.tools(reader, TENANT, 0, None, 100)
    assert not left_out
    result = _brought(of_session)
    assert _brought(of_days) == result
    return result


def _brought(rows: list[Row]) -> Brought:
    result: Brought = {}
    for row in rows:
        if (fed := row["fed"]) is not None:
            assert fed["estimate"]
            cost = round(fed.get("cost_usd", 0) * 10**12)
            result[row["id"]] = fed["results"], fed["input_tokens"], cost, fed["unpriced"]
    return result


LOOP = [
    call("c1", 0, 10, Usage(1000, 50, cache_read=0), priced(1000)),
    tool("t1", 10, 5, "read"),
    call("c2", 20, 10, Usage(3050, 50, cache_read=1000), priced(2050, 700)),
    tool("t2", 30, 5, "read", call_id="x"),
    tool("t3", 30, 7, "grep", call_id="y"),
    call("c3", 40, 10, Usage(4100, 10, cache_read=3100), priced(2000)),
]


def test_the_growth_of_an_input_is_divided_among_the_tools_that_ended_before_it() -> None:
    """3,050 tokens after 1,000 in and 50 out: 2,000 are of the one tool, at 1 each; then 1,000 of two, at 2 each."""
    ledger = MemoryLedger()
    ledger.take(LOOP)
    assert brought(ledger) == {"read": (2, 2500, 3000, 0), "grep": (1, 500, 1000, 0)}


@pytest.mark.parametrize(
    ("spans", "result"),
    [
        ([LOOP[0], LOOP[1]], {}),
        ([LOOP[1], LOOP[2]], {}),
        ([LOOP[0], LOOP[1], call("c2", 5, 10, Usage(3050, 50), priced(1))], {}),
        ([LOOP[0], LOOP[1], call("c2", 20, 10, Usage(1050, 50), priced(1))], {}),
        ([LOOP[0], LOOP[1], call("c2", 20, 10, Usage(2050, 50), None)], {"read": (1, 1000, 0, 1)}),
        ([LOOP[0], LOOP[1], call("c2", 20, 10, Usage(2050, 5), Cost(9, "billed", None))], {"read": (1, 1000, 0, 1)}),
        (
            [LOOP[0], LOOP[1], call("c2", 20, 10, Usage(2050, 5), Cost(50, "billed", 100, input=50, output=50))],
            {"read": (1, 1000, 25 * 1000 // 2050, 0)},
        ),
        ([LOOP[0], LOOP[1], call("c2", 20, 10, Usage(2050, 5), priced(9), agent="helper")], {}),
        ([LOOP[0], tool("t1", 10, 5, "read", agent="lead"), call("c2", 20, 10, Usage(2050, 5), priced(9))], {}),
        (
            [LOOP[0], tool("t1", 10, 9, "ask"), call("inner", 12, 3, Usage(40, 5), priced(9), parent="t1"), LOOP[2]],
            {"ask": (1, 2000, 2000, 0)},
        ),
        (
            [*LOOP[:2], tool("again", 10, 6, "read", scope="another"), LOOP[2]],
            {"read": (1, 2000, 2000, 0)},
        ),
        (
            [*LOOP[:4], tool("again", 30, 6, "read", call_id="x", scope="another"), *LOOP[4:]],
            {"read": (2, 2500, 3000, 0), "grep": (1, 500, 1000, 0)},
        ),
    ],
    ids=[
        "no call follows",
        "no call is known before",
        "calls overlap",
        "the input did not grow",
        "a call without a price",
        "a charge without a list price",
        "a charge of half the list price",
        "the next call is another agent's",
        "the tool is another agent's",
        "what a tool asks of a model is another context",
        "another library tells of the execution",
        "another library tells of the execution by its id",
    ],
)
def test_only_what_is_seen_is_told(spans: list[Fact], result: Brought) -> None:
    ledger = MemoryLedger()
    ledger.take(spans)
    assert brought(ledger) == result


@dataclass(frozen=True)
class Step:
    name: str
    parent: str
    kind: str
    agent: str
    start: int
    length: int
    tokens: int
    what: str
    source: str


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """Calls and tools of a trace, some of which stand below others, of up to two agents."""
    result: list[Step] = []
    for number in range(draw(st.integers(2, 12))):
        above = draw(st.sampled_from(["", "", "", *(step.name for step in result[:3])]))
        result.append(
            Step(
                f"n{number}",
                above,
                draw(st.sampled_from(["llm", "llm", "llm", "tool", "tool", "tool", "agent", ""])),
                draw(st.sampled_from(["", "", "", "lead"])),
                10 * draw(st.integers(0, 9)),
                draw(st.sampled_from([2, 5, 10, 15])),
                draw(st.sampled_from([1000, 1000, 1500, 5000])),
                draw(st.sampled_from(["read", "grep"])),
                draw(st.sampled_from(["library", "library", "another"])),
            )
        )
    return result


def fact_of(step: Step) -> Fact:
    more: dict[str, Any] = {"parent": step.parent, "scope": step.source}
    if step.kind == "llm":
        usage, response = Usage(step.tokens + 50 * step.start, 20), f"r{step.name}"
        return call(
            step.name,
            step.start,
            step.length,
            usage,
            priced(step.tokens, 7),
            agent=step.agent,
            response_id=response,
            **more,
        )
    if step.kind == "tool":
        return tool(step.name, step.start, step.length, step.what, agent=step.agent, **more)
    agent: dict[str, Any] = {"agent_id": step.agent} if step.kind else {}
    return make_fact(step.name, step.parent, step.kind, session="s", start=step.start, length=step.length, **agent)


@given(steps(), st.data())
def test_it_is_the_same_in_every_order_after_repeats_and_restarts(spans: list[Step], data: st.DataObject) -> None:
    """`MemoryLedger` also compares what is kept of a trace in memory with what is read again."""
    ledger, whole = MemoryLedger(), MemoryLedger()
    first = make_fact("first", kind="other")  # of a trace without GenAI spans no links are kept
    whole.take([first, *map(fact_of, spans)])
    ledger.take([first])
    take_in_any_order(ledger, [*map(fact_of, spans)], data)
    assert brought(ledger) == brought(whole)


@given(steps(), st.data())
def test_what_is_kept_in_memory_of_a_long_trace_with_tools_is_what_is_read(
    spans: list[Step], data: st.DataObject
) -> None:
    """`MemoryLedger` compares, also once calls and tools are forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "MAX_SPANS", 4)
        patch.setattr(trace, "_SLACK", 1)
        patch.setattr(trace_set, "SEGMENT_SPANS", 1)
        ledger, sizes, facts = MemoryLedger(), st.integers(1, 4), [*map(fact_of, spans)]
        while facts:
            size = data.draw(sizes)
            ledger.take(facts[:size])
            facts = facts[size:]


def test_what_a_forgotten_span_brought_stays() -> None:
    """Beyond the bound of a trace what was found is kept, also where late spans have all of it decided anew."""
    ledger = MemoryLedger()
    ledger.take(LOOP)
    before = brought(ledger)
    for first in range(0, MAX_SPANS + 512, 512):
        spans = [make_fact(f"x{first + place}", kind="other", session="s", start=100) for place in range(512)]
        ledger.take(spans)
    ledger.take(
        [make_fact("late", "", "agent", agent_id="lead", session="s"), make_fact("c9", "late", "llm", 5, session="s")]
    )
    with ledger.store.snapshot() as reader:
        record = reader.get(trace_key(TENANT, b"t1"))
    assert record is not None
    assert unpack_head(record)[0].forgotten >= 512
    assert brought(ledger) == before
