"""Whatever the trace, however it is cut, ordered and repeated: the books balance and the ledger is the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from ledger_in_memory import MemoryLedger, make_fact
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.ledger.rows import row
from spanledger_processor.ledger.store import Table
from spanledger_processor.model import Granularity


@dataclass(frozen=True)
class Node:
    name: str
    parent: str
    kind: str
    cost: int | None
    session: str
    run: str
    trace: str
    granularity: Granularity


@st.composite
def traces(draw: st.DrawFn) -> list[Node]:
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 14))):
        above = draw(st.one_of(st.none(), st.sampled_from(nodes))) if nodes else None
        kind = draw(st.sampled_from(["", "agent", "workflow", "llm", "llm", "tool"]))
        cost = draw(st.integers(1, 1000)) if kind == "llm" or (kind and draw(st.booleans())) else None
        session = draw(st.sampled_from(["", "", "", "s1", "s2"]))
        run = draw(st.sampled_from(["", "", "", "r1", "r2"]))
        trace = above.trace if above else draw(st.sampled_from(["t1", "t2"]))
        grain: Granularity = draw(st.sampled_from(("per-message", "per-turn", "per-session-aggregate")))
        nodes.append(Node(f"n{number}", above.name if above else "", kind, cost, session, run, trace, grain))
    return nodes


def truth(nodes: list[Node]) -> int:
    """The simple reference accountant: a span counts if it has usage and nothing below it has."""
    spends = {node.name for node in nodes if node.cost}
    by_name = {node.name: node for node in nodes}
    repeated: set[str] = set()
    for name in spends:
        parent = by_name[name].parent
        while parent:
            repeated.add(parent)
            parent = by_name[parent].parent
    return sum(node.cost or 0 for node in nodes if node.name in spends - repeated)


def fact_of(node: Node) -> Fact:
    fact = make_fact(
        node.name, node.parent, node.kind, node.cost, session=node.session, run=node.run, trace=node.trace, length=1000
    )
    fact.first_token_ns = (node.cost or 0) * 10**6
    if fact.call is not None:
        fact.call.granularity = node.granularity
    return fact


def replay(nodes: list[Node], order: list[int], cuts: set[int]) -> MemoryLedger:
    """Take the nodes in `order`, cut into requests. That the traces hold GenAI spans is known from the start: plain
    spans of a trace of which that is not known leave no links.
    """
    ledger, batch = MemoryLedger(), list[Fact]()
    ledger.take([make_fact("first", kind="other", trace=trace) for trace in ("t1", "t2")])
    for place, index in enumerate(order):
        batch.append(fact_of(nodes[index]))
        if place in cuts:
            ledger.take(batch)
            batch = []
    ledger.take(batch)
    return ledger


def sessions(ledger: MemoryLedger) -> dict[str, int]:
    return {name: sums.cost for name, sums in ledger.table(Table.SESSION).items() if sums.cost}


def speeds(ledger: MemoryLedger) -> dict[str, dict[int, int]]:
    return {name: sums.speeds for name, sums in ledger.table(Table.DAY).items() if sums.speeds}


def granularities(ledger: MemoryLedger, table: Table) -> Counter[str]:
    """Over all of a table, how many counted spans are of which granularity."""
    return sum((Counter(row(sums)["granularities"]) for sums in ledger.table(table).values()), Counter[str]())


@given(traces(), st.data())
def test_books_balance_in_every_order(nodes: list[Node], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(nodes))))
    cuts = data.draw(st.sets(st.integers(0, len(nodes))))
    ledger = replay(nodes, list(order) + data.draw(st.lists(st.sampled_from(order), max_size=4)), cuts)
    whole = replay(nodes, list(range(len(nodes))), set())
    total = ledger.total.cost
    assert total == truth(nodes)
    assert sum(sums.cost for sums in ledger.table(Table.SESSION).values()) == total
    assert sum(sums.cost for sums in ledger.table(Table.RUN).values()) == total
    assert sum(sums.cost for sums in ledger.table(Table.DAY).values()) == total
    assert ledger.sent == total + ledger.correction
    for table in (Table.SESSION, Table.RUN, Table.DAY):
        assert granularities(ledger, table) == Counter(row(whole.total)["granularities"])
    assert sessions(ledger) == sessions(whole)
    assert speeds(ledger) == speeds(whole)
    assert all(sums.cost >= 0 for table in (Table.SESSION, Table.RUN) for sums in ledger.table(table).values())


@given(traces())
def test_a_request_sent_twice_gives_the_same_ledger_and_the_same_decisions(nodes: list[Node]) -> None:
    ledger = MemoryLedger()
    facts = [fact_of(node) for node in nodes]
    first = ledger.take(facts)
    before = dict(ledger.records)
    assert ledger.take([fact_of(node) for node in nodes]) == first
    assert {where: record for where, record in ledger.records.items() if where[0] != Table.TRACE} == {
        where: record for where, record in before.items() if where[0] != Table.TRACE
    }
