"""Sums by dimension: each value gets what its calls cost, in any order of arrival, and nothing is lost between them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from ledger_in_memory import TENANT, MemoryLedger, make_fact
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.ledger import dimensions
from spanledger_processor.ledger.of_value import days_of_value
from spanledger_processor.ledger.rows import date_of, exact_usd


@dataclass(frozen=True)
class Node:
    name: str
    parent: str
    kind: str
    cost: int | None
    agent: str
    team: str
    day: int


@st.composite
def traces(draw: st.DrawFn) -> list[Node]:
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 12))):
        above = draw(st.one_of(st.none(), st.sampled_from(nodes))) if nodes else None
        kind = draw(st.sampled_from(["", "agent", "agent", "llm", "llm", "tool"]))
        cost = draw(st.integers(1, 1000)) if kind == "llm" or (kind == "agent" and draw(st.booleans())) else None
        agent = draw(st.sampled_from(["", "", "lead", "helper"])) if kind else ""
        team = draw(st.sampled_from(["", "red", "blue"])) if kind else ""
        nodes.append(
            Node(f"n{number}", above.name if above else "", kind, cost, agent, team, draw(st.sampled_from([1, 2])))
        )
    return nodes


def truth(nodes: list[Node], name: str) -> dict[tuple[int, str], int]:
    """The simple reference: what counts (usage, and none below), by day and value; an agent is the nearest above."""
    by_name = {node.name: node for node in nodes}
    repeated: set[str] = set()
    for node in nodes:
        parent = node.parent if node.cost else ""
        while parent:
            repeated.add(parent)
            parent = by_name[parent].parent
    found: dict[tuple[int, str], int] = defaultdict(int)
    for node in nodes:
        if node.cost and node.name not in repeated:
            found[node.day, node.team if name == "team" else agent_of(node, by_name)] += node.cost
    return dict(found)


def agent_of(node: Node, by_name: dict[str, Node]) -> str:
    while not node.agent and node.parent:
        node = by_name[node.parent]
    return node.agent


def fact_of(node: Node) -> Fact:
    fact = make_fact(node.name, node.parent, node.kind, node.cost, length=1000)
    if fact.call is not None:
        fact.call.agent_id = node.agent
    fact.day = node.day
    fact.dimensions = ("team", node.team) if node.team else ()
    return fact


def by_value(ledger: MemoryLedger, name: str) -> dict[tuple[int, str], int]:
    """What the ledger answers for each day by itself, in 1e-12 USD."""
    found: dict[tuple[int, str], int] = {}
    with ledger.store.snapshot() as reader:
        for day in (1, 2):
            for row in dimensions.values(reader, TENANT, name, day, day)[0]:
                assert not row.get("other")
                found[day, row["value"]] = round(row["cost_usd"] * 10**12)
                assert row["cost_usd_exact"] == exact_usd(found[day, row["value"]])
    return found


def of_value(ledger: MemoryLedger, name: str, value: str) -> list[tuple[str, str]]:
    """What the ledger answers of one value, by day."""
    with ledger.store.snapshot() as reader:
        days, _ = days_of_value(reader, TENANT, name, value)
        rows = days.by("day")
        for one in (days.by("model"), days.by("day_model")):
            assert sum(Decimal(row["cost_usd_exact"]) for row in one) == Decimal(days.total()["cost_usd_exact"])
    return [(row["day"], row["cost_usd_exact"]) for row in rows]


@given(traces(), st.data())
def test_values_have_what_their_calls_cost_in_every_order(nodes: list[Node], data: st.DataObject) -> None:
    """Cut anywhere, in any order, some of it sent again, by a process that remembers nothing of the last request."""
    order = data.draw(st.permutations(range(len(nodes))))
    cuts = data.draw(st.sets(st.integers(0, len(nodes))))
    ledger, batch = MemoryLedger(), list[Fact]()
    ledger.take([make_fact("first", kind="other")])
    for place, index in enumerate([*order, *data.draw(st.lists(st.sampled_from(order), max_size=4))]):
        batch.append(fact_of(nodes[index]))
        if place in cuts:
            ledger.take(batch)
            ledger.store.cache.clear()
            batch = []
    ledger.take(batch)
    for name in ("team", "agent"):
        expected = truth(nodes, name)
        assert by_value(ledger, name) == expected
        for value in {value for _, value in expected if value}:
            days = [(day, cost) for (day, of), cost in sorted(expected.items()) if of == value]
            assert of_value(ledger, name, value) == [(date_of(day), exact_usd(cost)) for day, cost in days]


def test_a_plain_span_that_comes_later_links_a_call_to_its_agent() -> None:
    """With what is kept of a trace in memory as without."""
    ledger = MemoryLedger()
    ledger.take([make_fact("agent", "", "tool", agent_id="lead"), make_fact("call", "step", "llm", 5)])
    ledger.take([make_fact("step", "agent")])
    with ledger.store.snapshot() as reader:
        ((row,), _) = dimensions.values(reader, TENANT, "agent")
    assert (row["value"], row["cost_usd_exact"]) == ("lead", "0.000000000005")


def test_an_agent_that_ends_after_its_calls_takes_them_over() -> None:
    """Spans of agents end last; what is below one without a name is the agent's above it."""
    ledger = MemoryLedger()
    ledger.take([make_fact("call", "tool", "llm", 5)])
    ledger.take([make_fact("tool", "agent", "tool")])
    ledger.take([make_fact("agent", "", "agent", agent_id="lead")])
    with ledger.store.snapshot() as reader:
        ((row,), _) = dimensions.values(reader, TENANT, "agent")
    assert (row["value"], row["calls"], row["cost_usd_exact"]) == ("lead", 1, "0.000000000005")
    assert row["models"] == [{"model": "openai/gpt", "cost_usd": 5e-12, "cost_usd_exact": "0.000000000005"}]


def test_what_was_spent_before_a_dimension_was_named_belongs_to_no_value() -> None:
    ledger = MemoryLedger()
    ledger.take([make_fact("a", kind="llm", cost=5)])
    later = make_fact("b", kind="llm", cost=7, trace="t2")
    later.dimensions = ("team", "red")
    ledger.take([later])
    with ledger.store.snapshot() as reader:
        rows, _ = dimensions.values(reader, TENANT, "team")
    assert [(row["value"], row["cost_usd_exact"]) for row in rows] == [
        ("red", "0.000000000007"),
        ("", "0.000000000005"),
    ]
    assert rows[1]["unattributed"] is True
    named, rest = (row["days"] for row in rows)
    assert [(day["day"], day["calls"], day["cost_usd_exact"]) for day in rest] == [
        (named[0]["day"], 1, "0.000000000005")
    ], "both are of one day"
