"""Requests that are accounted for at once, each in a unit that is run again when another changed what it decided on."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, make_fact
from spanledger_processor.accounting.account import account
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.trace_state import Memory
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.runs import all_runs
from spanledger_processor.ledger.store import Table, UnitConflictError
from spanledger_processor.ledger.sums import Sums


@st.composite
def requests(draw: st.DrawFn) -> list[list[Fact]]:
    """Requests of two traces and two sessions, with runs named and not, tools, and agents above calls."""
    facts = []
    for number in range(draw(st.integers(2, 12))):
        kind = draw(st.sampled_from(["llm", "llm", "llm", "agent", "tool"]))
        facts.append(
            make_fact(
                f"n{number}",
                draw(st.sampled_from(["", "n0", "n1", "n2"])),
                kind,
                draw(st.integers(1, 5)) if kind != "tool" else None,
                trace=draw(st.sampled_from(["t1", "t2"])),
                session=draw(st.sampled_from(["", "s1", "s2"])),
                run=draw(st.sampled_from(["", "", "r1", "r2"])),
                response_id=f"x{draw(st.integers(0, 6))}" if kind == "llm" else "",
                scope=draw(st.sampled_from(["one", "two"])),
                start=10 * number,
            )
        )
    cuts = sorted(draw(st.sets(st.integers(1, len(facts)), max_size=4)) | {0, len(facts)})
    return [facts[first:last] for first, last in pairwise(cuts)]


def _enter(store: MemoryStore, facts: list[Fact], over: list[list[Fact]]) -> None:
    """Account for `facts` in a unit; before it lands, others land. Run it again while it does not."""
    while True:
        try:
            with ExitStack() as ends:
                unit = ends.enter_context(store.unit())
                unit.apply(account(Batch(TENANT, facts, NOW), unit, Memory.of(unit)).changes, NOW)
                for other in over:
                    _enter(store, other, [])
                over = []
            return
        except UnitConflictError:
            continue


def _views(store: MemoryStore) -> list[object]:
    with store.snapshot() as reader:
        tables = [Table.TOTAL, Table.SESSION, Table.DAY]
        rows = [[Sums.unpack(record) for _, record in reader.scan(table, TENANT)] for table in tables]
        costs = [sorted((str(sorted(sums.labels.items())), sums.cost, sums.calls) for sums in found) for found in rows]
        runs = sorted((name, sums.cost, sums.calls) for name, sums in all_runs(reader, TENANT).items())
        total = sum(sums.cost for sums in rows[1])
        assert total == sum(sums.cost for sums in rows[2]) == sum(cost for _, cost, _ in runs)
    return [*costs, runs]


@given(requests())
def test_requests_at_once_end_in_the_ledger_of_one_after_the_other(given_requests: list[list[Fact]]) -> None:
    """The first is overtaken by all others, so it lands last: what it did not decide on needs no second run."""
    first, *others = given_requests
    at_once, in_turn = MemoryStore(), MemoryStore()
    _enter(at_once, first, others)
    for facts in [*others, first]:
        _enter(in_turn, facts, [])
    assert _views(at_once) == _views(in_turn)
