"""A session by agent and tool, its turns and failures: what its spans say, in any order of arrival."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact, take_in_any_order
from spanledger_processor.accounting.facts import Fact, LoopRule
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.dimensions import tools as tools_by_day
from spanledger_processor.ledger.rows import Row, exact_usd
from spanledger_processor.ledger.runs import INSTANCE, linked
from spanledger_processor.model import Cost, Signature, ToolCall, Usage
from spanledger_processor.units import NS_PER_DAY


@dataclass(frozen=True)
class Node:
    name: str
    parent: str
    kind: str
    agent: str
    tool: str
    failed: bool


@st.composite
def traces(draw: st.DrawFn) -> list[Node]:
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 12))):
        above = draw(st.one_of(st.none(), st.sampled_from(nodes))) if nodes else None
        kind = draw(st.sampled_from(["", "agent", "agent", "llm", "tool", "tool"]))
        agent = draw(st.sampled_from(["", "lead", "helper"])) if kind == "agent" else ""
        tool = draw(st.sampled_from(["read", "write"])) if kind == "tool" else ""
        failed = bool(kind) and draw(st.booleans())
        nodes.append(Node(f"n{number}", above.name if above else "", kind, agent, tool, failed))
    return nodes


def fact_of(node: Node) -> Fact:
    """A node in session `s`; model calls cost by their place in the trace."""
    cost = 100 + int(node.name[1:]) if node.kind == "llm" else None
    fact = make_fact(node.name, node.parent, node.kind, cost, session="s", start=int(node.name[1:]) * 10**9)
    fact.failed = node.failed
    if fact.call is not None:
        fact.call.agent_id = node.agent
        fact.call.tool = ToolCall(node.tool) if node.tool else None
    return fact


def above(node: Node, by_name: dict[str, Node]) -> list[Node]:
    found: list[Node] = []
    while node.parent:
        node = by_name[node.parent]
        found.append(node)
    return found


def truth(nodes: list[Node]) -> Row:
    """The simple reference, over all spans at once."""
    by_name = {node.name: node for node in nodes}
    repeated = {one.name for node in nodes if node.kind == "llm" for one in above(node, by_name)}
    agents: dict[str, int] = defaultdict(int)
    tools: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    parents: dict[str, set[str]] = defaultdict(set)
    for node in nodes:
        names = [one.agent for one in (node, *above(node, by_name)) if one.agent]
        if node.kind == "llm" and node.name not in repeated:
            agents[names[0] if names else ""] += 100 + int(node.name[1:])
        if node.agent:
            parents[node.agent] |= {*[name for name in names if name != node.agent][:1]}
        if node.tool:
            tools[node.tool][0] += 1
            tools[node.tool][1] += node.failed
    turns = sum(node.kind == "agent" and all(one.kind != "agent" for one in above(node, by_name)) for node in nodes)
    return {
        "agents": dict(agents),
        "parents": parents,
        "tools": dict(tools),
        "turns": turns or None,
        "failures": sum(node.failed for node in nodes),
    }


def check(found: Row, wanted: Row) -> None:
    spent = {row["id"]: row["cost_usd_exact"] for row in found["agents"] if row["calls"]}
    if set(wanted["agents"]) != {""}:
        assert spent == {name: exact_usd(cost) for name, cost in wanted["agents"].items()}
    for row in found["agents"]:
        assert row.get("parent_id", "") in (wanted["parents"][row["id"]] or {""})
    assert {row["id"]: [row["calls"], row["failures"]] for row in found["tools"]} == wanted["tools"]
    assert (found["turns"], found["failures"]) == (wanted["turns"], wanted["failures"])


@given(traces(), st.data())
def test_a_session_says_what_its_spans_say_in_every_order(nodes: list[Node], data: st.DataObject) -> None:
    """Cut anywhere, in any order, some of it sent again, by a process that remembers nothing of the last request."""
    order = data.draw(st.permutations(range(len(nodes))))
    cuts = data.draw(st.sets(st.integers(0, len(nodes))))
    ledger, batch = MemoryLedger(), list[Fact]()
    ledger.take([make_fact("first", kind="other", session="s")])
    for place, index in enumerate([*order, *data.draw(st.lists(st.sampled_from(order), max_size=4))]):
        batch.append(fact_of(nodes[index]))
        if place in cuts:
            ledger.take(batch)
            ledger.store.cache.clear()
            batch = []
    ledger.take(batch)
    with ledger.store.snapshot() as reader:
        found = queries.session(reader, TENANT, "s")
    assert found is not None
    check(found, truth(nodes))


def test_an_agent_above_a_link_that_came_before_it_takes_the_turn() -> None:
    """With what is kept of a trace in memory as without: three requests, from below."""
    ledger = MemoryLedger()
    ledger.take([make_fact("inner", "step", "agent", session="s")])
    ledger.take([make_fact("step", "outer")])
    ledger.take([make_fact("outer", "", "agent")])
    with ledger.store.snapshot() as reader:
        found = queries.session(reader, TENANT, "s")
    assert found is not None
    assert found["turns"] == 1


def test_context_grows_by_the_calls_of_models_alone() -> None:
    """An agent's span that repeats its calls, and an aggregate, are no size of a context."""
    ledger = MemoryLedger()
    ledger.take(
        [
            make_fact("agent", "", "agent", 700, session="s"),
            make_fact("a", "agent", "llm", 300, session="s", start=10**9),
            make_fact("b", "agent", "llm", 400, session="s", start=2 * 10**9),
            make_fact("c", "", "llm", 9000, session="s", granularity="per-session-aggregate"),
        ]
    )
    with ledger.store.snapshot() as reader:
        found = queries.session(reader, TENANT, "s")
    assert found is not None
    assert [size["input_tokens"] for size in found["context"]] == [300, 400]


def test_the_rest_of_a_session_is_by_no_agent() -> None:
    ledger = MemoryLedger()
    ledger.take(
        [
            make_fact("a", kind="llm", cost=5, session="s", agent_id="lead"),
            make_fact("b", kind="llm", cost=7, session="s"),
        ]
    )
    with ledger.store.snapshot() as reader:
        found = queries.session(reader, TENANT, "s")
    assert found is not None
    assert [(row["id"], row["cost_usd_exact"]) for row in found["agents"]] == [
        ("lead", "0.000000000005"),
        ("", "0.000000000007"),
    ]


def test_the_rest_of_a_session_may_be_tools_alone() -> None:
    """What no named agent did has a row where it cost nothing, too: calls of tools and failures add up."""
    for kind in ("tool", "other"):
        ledger = MemoryLedger()
        by_none = make_fact("b", kind=kind, session="s")
        by_none.failed = True
        if kind == "tool" and by_none.call is not None:
            by_none.call.tool = ToolCall("read")
        ledger.take([make_fact("a", kind="llm", cost=5, session="s", agent_id="lead"), by_none])
        with ledger.store.snapshot() as reader:
            found = queries.session(reader, TENANT, "s")
        assert found is not None
        assert (found["tool_calls"], found["failures"]) == (int(kind == "tool"), 1)
        for field in ("tool_calls", "failures"):
            assert sum(row[field] for row in found["agents"]) == found[field]


def test_no_tool_has_fewer_than_no_loops() -> None:
    """A call that comes late between three others shows that they were no loop: its own tool never had one."""
    ledger, day = MemoryLedger(loop=LoopRule(consecutive=3)), NOW // NS_PER_DAY
    for name, tool, start in [("a", "search", 3), ("b", "search", 1), ("c", "search", 0), ("d", "read", 2)]:
        fact = make_fact(name, kind="tool", session="s", start=start * 10**9)
        assert fact.call is not None
        fact.call.tool, fact.signature, fact.day = ToolCall(tool), Signature(tool, "full"), day
        ledger.take([fact])
    with ledger.store.snapshot() as reader:
        found = queries.session(reader, TENANT, "s")
        by_day, _ = tools_by_day(reader, TENANT, 0, None, 10)
    assert found is not None
    assert found["loops"] == 0
    for rows in (found["tools"], by_day):
        assert [(row["id"], row["calls"], row["loops"]) for row in rows] == [("search", 3, 0), ("read", 1, 0)]


def test_a_session_with_more_agents_than_are_shown_adds_up() -> None:
    ledger = MemoryLedger()
    facts = [
        make_fact(f"n{number}", kind="llm", cost=number + 1, session="s", agent_id=f"agent {number}")
        for number in range(100)
    ]
    ledger.take(facts)
    with ledger.store.snapshot() as reader:
        found = queries.session(reader, TENANT, "s")
    assert found is not None
    assert len(found["agents"]) == 65
    assert found["agents"][0]["id"] == "agent 99"
    assert found["agents"][-1]["other"] is True
    assert sum(round(row["cost_usd"] * 10**12) for row in found["agents"]) == 5050


def test_sessions_are_found_by_their_process() -> None:
    ledger = MemoryLedger()
    for session, instance in (("s1", "shell-1"), ("s2", "shell-1"), ("s3", "shell-2")):
        fact = make_fact(session, kind="llm", cost=1, session=session, trace=session)
        fact.instance = instance
        ledger.take([fact])
    with ledger.store.snapshot() as reader:
        assert sorted(linked(reader, TENANT, INSTANCE, "shell-1")) == ["s1", "s2"]
        found = queries.session(reader, TENANT, "s3", now_ns=NOW + 600 * 10**9)
    assert found is not None
    assert (found["instances"], found["state"]) == (["shell-2"], "idle")


_MODELS = ("gpt", "sonnet", "haiku")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    calls=st.lists(st.tuples(st.sampled_from(_MODELS), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=7),
    data=st.data(),
)
def test_a_session_tells_tokens_by_model_in_every_order(calls: list[tuple[str, int, int]], data: st.DataObject) -> None:
    """Every second call has the agent above it that repeats its usage; some have no price; some are sent again."""
    facts = list[Fact]()
    wanted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for number, (model, tokens, output) in enumerate(calls):
        trace = {"trace": f"t{number}", "session": "s", "start": number * 10**12}
        fact = make_fact(f"c{number}", f"a{number}", "llm", 7, model=model, response_id=f"r{number}", **trace)  # type: ignore[arg-type]
        agent = make_fact(f"a{number}", "", "agent", 7, model=model, length=1000, **trace)  # type: ignore[arg-type]
        for one in (fact, agent):
            assert one.call is not None
            one.call.usage = Usage(tokens, output)
            if model == "haiku":
                one.cost = Cost(unpriced="unknown_model")
        facts += [fact, agent] if number % 2 else [fact]
        for place, count in enumerate((1, tokens, output)):
            wanted[f"openai/{model}"][place] += count
    ledger = MemoryLedger()
    take_in_any_order(ledger, facts, data)
    with ledger.store.snapshot() as reader:
        row = queries.session(reader, TENANT, "s")
    assert row is not None
    by_model = {
        one["model"]: [one["calls"], one["tokens"]["input"], one["tokens"]["output"]] for one in row["usage_by_model"]
    }
    assert by_model == dict(wanted)
    costs = {one["model"]: one.get("cost_usd_exact") for one in row["usage_by_model"]}
    assert costs == {
        name: None if name.endswith("haiku") else exact_usd(7 * calls[0]) for name, calls in wanted.items()
    }
