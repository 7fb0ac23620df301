"""Whose totals an amount stands in, and that it moves when later spans tell more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_in_memory import TENANT, MakeFact, MemoryLedger, make_fact, take_in_any_order
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.ledger import pages
from spanledger_processor.ledger import queries as questions
from spanledger_processor.ledger.keys import bounded_id
from spanledger_processor.ledger.rows import exact_usd
from spanledger_processor.ledger.runs import each_session_of_run, sessions_under
from spanledger_processor.ledger.store import Key, Table
from spanledger_processor.ledger.sums import Sums


def costs(ledger: MemoryLedger, table: Table) -> dict[str, int]:
    return {name: sums.cost for name, sums in ledger.table(table).items() if sums.cost}


def test_the_only_session_of_a_trace_is_learnt_late_and_takes_what_came_before(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    ledger.take([fact("c", "root", "llm", 30)])
    assert costs(ledger, Table.SESSION) == {"": 30}
    ledger.take([fact("root", session="s")])
    assert costs(ledger, Table.SESSION) == {"s": 30}


def test_a_second_session_makes_what_was_attributed_by_trace_unattributed(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c", kind="llm", cost=30), fact("other", session="s1")])
    assert costs(ledger, Table.SESSION) == {"s1": 30}
    ledger.take([fact("another", session="s2")])
    assert costs(ledger, Table.SESSION) == {"": 30}


def test_the_parents_session_beats_the_traces(ledger: MemoryLedger, fact: MakeFact) -> None:
    (decision,) = ledger.take([fact("c", "p", "llm", 30), fact("p", session="s1"), fact("other", session="s2")])
    assert (decision.session_id, decision.session_source) == ("s1", "parent")


def test_without_a_named_run_the_session_is_its_own_run(ledger: MemoryLedger, fact: MakeFact) -> None:
    (decision,) = ledger.take([fact("c", kind="llm", cost=30, session="s")])
    assert (decision.run_id, decision.run_source) == ("s", "session_id")
    assert costs(ledger, Table.RUN) == {"s": 30}


def test_a_run_named_later_in_the_session_takes_what_floats(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c1", kind="llm", cost=30, session="s", trace="t1")])
    ledger.take([fact("c2", kind="llm", cost=5, session="s", run="r", trace="t2")])
    assert costs(ledger, Table.RUN) == {"r": 35}
    ledger.take([fact("c3", kind="llm", cost=7, session="s", run="r2", trace="t3")])
    assert costs(ledger, Table.RUN) == {"r": 5, "r2": 7, "s": 30}


def _runs_of(ledger: MemoryLedger, *runs: str) -> dict[str, list[str]]:
    with ledger.store.snapshot() as reader:
        return {run: sorted(one.labels["id"] for one in each_session_of_run(reader, TENANT, run)) for run in runs}


def test_a_run_is_a_sessions_as_long_as_a_span_of_the_session_names_it(fact: MakeFact) -> None:
    """An agent names a run, and its trace a second session and run only later: then it is of no session."""
    apart = fact("apart", kind="llm", cost=7, session="s1", trace="t2")
    facts = [
        fact("agent", kind="agent", run="r"),
        fact("c", kind="llm", cost=5, session="s1"),
        apart,
        fact("other", kind="llm", cost=3, session="s2", run="q"),
    ]
    for order in permutations(facts):
        ledger = MemoryLedger()
        for one in order:
            ledger.take([one])
        assert costs(ledger, Table.RUN) == {"s1": 12, "q": 3}
    facts = [
        fact("agent", kind="agent", cost=1, run="r", session="s3"),
        fact("c", "agent", kind="llm", cost=5),
        replace(apart, session=Named("s3", "attribute")),
        fact("step", "top", kind="workflow"),
        fact("own", "step", kind="llm", cost=11, session="s3"),
        fact("top", kind="workflow", run="q"),
    ]
    ledgers = []
    for order in permutations(facts):
        ledger = MemoryLedger()
        for one in order:
            ledger.take([one])
        ledgers.append((costs(ledger, Table.RUN), _runs_of(ledger, "r", "q", "s3")))
    assert ledgers[0] == ({"r": 5, "q": 11, "s3": 7}, {"r": ["s3"], "q": ["s3"], "s3": ["s3"]})
    assert all(one == ledgers[0] for one in ledgers)


def test_a_session_that_two_are_named_to_have_spawned_counts_in_the_run_of_the_first_by_name(fact: MakeFact) -> None:
    facts = [
        fact("a", kind="llm", cost=5, session="child", parent_session="one", trace="t1"),
        fact("b", kind="llm", cost=7, session="child", parent_session="other", trace="t2"),
        fact("c", kind="llm", cost=9, session="other", trace="t3"),
    ]
    for order in permutations(facts):
        ledger = MemoryLedger()
        for one in order:
            ledger.take([one])
        assert costs(ledger, Table.RUN) == {"one": 12, "other": 9}


def test_a_session_of_more_runs_than_are_told_apart_is_listed_under_each(ledger: MemoryLedger, fact: MakeFact) -> None:
    runs = [f"r{number}" for number in range(20)]
    for number, run in enumerate(runs):
        ledger.take([fact(f"c{number}", kind="llm", cost=1, session="s", run=run, trace=f"t{number}")])
    ledger.take([fact("own", kind="llm", cost=1, session="s", trace="t")])
    assert costs(ledger, Table.RUN) == dict.fromkeys([*runs, "s"], 1)
    assert _runs_of(ledger, *runs) == {run: ["s"] for run in runs}


def test_a_sub_sessions_run_is_its_parents(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c1", kind="llm", cost=5, session="parent", run="r", trace="t1")])
    (decision,) = ledger.take([fact("c2", kind="llm", cost=7, session="child", parent_session="parent", trace="t2")])
    assert (decision.run_id, decision.run_source) == ("r", "parent_session")
    assert costs(ledger, Table.RUN) == {"r": 12}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_sub_sessions_run_is_its_parents_whichever_is_seen_first(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[int, ...]
) -> None:
    """Also where none names a run, and for what a sub-agent spawns itself (docs/contract.md: a sub-agent's run)."""
    facts = [
        fact("p", kind="llm", cost=5, session="parent", trace="t1"),
        fact("c", kind="llm", cost=7, session="child", parent_session="parent", trace="t2"),
        fact("g", kind="llm", cost=11, session="grandchild", parent_session="child", trace="t3"),
    ]
    decisions = {place: ledger.take([facts[place]])[0] for place in order}
    assert costs(ledger, Table.RUN) == {"parent": 23}
    assert (decisions[1].run_id, decisions[1].run_source) == ("parent", "parent_session")
    with ledger.store.snapshot() as reader:
        row = questions.run(reader, TENANT, "parent")
    assert row is not None
    assert row["cost_usd_exact"] == exact_usd(23)


def test_sessions_that_spawned_each_other_end(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("a", kind="llm", cost=5, session="a", parent_session="b", trace="t1")])
    ledger.take([fact("b", kind="llm", cost=7, session="b", parent_session="a", trace="t2")])
    assert sum(costs(ledger, Table.RUN).values()) == 12


def test_a_runs_running_total_holds_what_its_sessions_and_theirs_spent(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c1", kind="llm", cost=5, session="parent", run="r", trace="t1")])
    ledger.take([fact("c2", kind="llm", cost=7, session="child", parent_session="parent", trace="t2")])
    ledger.take([fact("c3", kind="llm", cost=11, session="parent", trace="t3")])
    (decision,) = ledger.take([fact("c4", kind="llm", cost=13, session="child", trace="t4")])
    assert (decision.run_id, decision.run_cost, decision.session_cost) == ("r", 36, 20)


def test_of_a_run_with_more_sessions_than_are_added_up_no_more_links_are_read(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    """Otherwise each request of a run costs as much as the run has sessions, and all of them the square of it."""
    for number in range(40):
        ledger.take([fact(f"c{number}", kind="llm", cost=5, session=f"s{number}", run="r", trace=f"t{number}")])
    read: list[Key] = []
    with ledger.store.snapshot() as reader:

        class Watched:
            def scan(self, *of: Any, **more: Any) -> Iterator[tuple[Key, bytes]]:
                for row in reader.scan(*of, **more):
                    read.append(row[0])
                    yield row

        watched: Any = Watched()
        assert sessions_under(watched, TENANT, "r", most=8) is None
    assert len(read) == 8


@pytest.mark.parametrize("length", [512, 513, 1024, 4000])
def test_ids_of_any_length_can_be_asked_for(fact: MakeFact, length: int) -> None:
    """By the id that was sent, and by the one that lists show; ids that begin alike stay two."""
    ledger, one, other = MemoryLedger(), "s" * length, "s" * length + "2"
    for number, (session, cost) in enumerate(((one, 5), (other, 7))):
        ledger.take(
            [fact(f"c{number}", kind="llm", cost=cost, session=session, task_id="t", task_kind="k", trace=session)]
        )
    with ledger.store.snapshot() as reader:
        assert len(questions.sessions(reader, TENANT)) == 2
        for session, cost in ((one, 5), (other, 7)):
            shown = bounded_id(session)
            assert len(shown.encode()) <= 512
            for asked in (session, shown):
                row, run = questions.session(reader, TENANT, asked), questions.run(reader, TENANT, asked)
                assert row is not None
                assert (row["id"], row["cost_usd_exact"]) == (shown, exact_usd(cost))
                assert [task["cost_usd_exact"] for task in row["tasks"]] == [exact_usd(cost)]
                assert run is not None
                assert run["cost_usd_exact"] == exact_usd(cost)


def test_a_sessions_tasks_are_found_without_those_of_others(ledger: MemoryLedger, fact: MakeFact) -> None:
    for number in range(50):
        ledger.take([fact(f"c{number}", kind="llm", cost=1, session=f"s{number}", task_id="t", trace=f"t{number}")])
    with ledger.store.snapshot() as reader:
        rows: list[Key] = []

        class Watched:
            def get(self, key: Key) -> bytes | None:
                return reader.get(key)

            def sums(self, key: Key) -> Sums:
                return reader.sums(key)

            def scan(self, *where: Any, **how: Any) -> Iterator[tuple[Key, bytes]]:
                for row in reader.scan(*where, **how):
                    rows.append(row[0])
                    yield row

        found = questions.session(Watched(), TENANT, "s7")
    assert found is not None
    assert len(found["tasks"]) == len(rows) == 1


def test_tenants_of_amounts_by_model_and_day(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c1", kind="llm", cost=5, model="m1"), fact("c2", kind="llm", cost=7, model="m2")])
    assert costs(ledger, Table.DAY) == {"0/openai/m1": 5, "0/openai/m2": 7}


def test_tasks_are_summed_by_kind(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take(
        [
            fact("c1", kind="llm", cost=5, session="s", task_id="t", task_kind="worker"),
            fact("c2", kind="llm", cost=7, session="s", task_id="t", task_kind="judge"),
        ]
    )
    kinds = {sums.labels["kind"]: sums.cost for sums in ledger.table(Table.TASK).values()}
    assert sum(kinds.values()) in (5, 7, 12)
    assert ledger.total.cost == 12


PARENTS = ("a", "b", "c", "d", "e", "f")


def run_by_the_rule(session: str, parents: dict[str, str], runs: dict[str, str]) -> str:
    """The reference: up to a session that names a run, else to the top; of a ring the first by id."""
    above = [session]
    while not runs.get(above[-1]):
        parent = parents.get(above[-1], "")
        if parent in ("", above[-1]):
            return above[-1]
        if parent in above:
            return min(above[above.index(parent) :])
        above.append(parent)
    return runs[above[-1]]


@given(
    st.dictionaries(st.sampled_from(PARENTS), st.sampled_from(PARENTS)),
    st.dictionaries(st.sampled_from(PARENTS), st.sampled_from(["a", "r"]), max_size=1),
    st.data(),
)
def test_parents_in_a_ring_are_one_run_in_any_order(
    parents: dict[str, str], runs: dict[str, str], data: st.DataObject
) -> None:
    """Also below a ring, and where a session names itself, which is no parent; sums stay sums."""
    facts = [
        make_fact(name, kind="llm", cost=10**at, session=name, trace=name, parent_session=parents.get(name, ""))
        for at, name in enumerate(PARENTS)
    ]
    facts += [
        make_fact(f"r{name}", kind="llm", cost=10**6, session=name, trace=f"r{name}", run=run)
        for name, run in runs.items()
    ]
    ledger = MemoryLedger()
    take_in_any_order(ledger, facts, data)
    expected: dict[str, int] = {}
    for fact in facts:
        assert fact.cost is not None
        assert fact.cost.amount is not None
        run = fact.run.id or run_by_the_rule(fact.session.id, parents, runs)
        expected[run] = expected.get(run, 0) + fact.cost.amount
    assert costs(ledger, Table.RUN) == expected
    assert sum(expected.values()) == ledger.total.cost
    with ledger.store.snapshot() as reader:
        for session in PARENTS:
            assert questions.session(reader, TENANT, session)["run_id"] == run_by_the_rule(session, parents, runs)  # type: ignore[index]
        for run, cost in expected.items():
            row = questions.run(reader, TENANT, run)
            assert row is not None
            assert row["cost_usd_exact"] == exact_usd(cost)
        listed = {row["id"] for row in pages.runs(reader, TENANT, pages.Wanted(100), all_runs=False).rows}
        grouped = {*runs, *(one for one, parent in parents.items() if one != parent)}
        assert listed == {*runs.values(), *(run_by_the_rule(one, parents, runs) for one in grouped)}
    (decision,) = ledger.take([make_fact("last", kind="llm", cost=1, session="a", trace="last")])
    assert decision.run_cost == expected.get(decision.run_id, 0) + 1


def test_a_session_that_names_itself_as_its_parent_has_none(ledger: MemoryLedger, fact: MakeFact) -> None:
    (decision,) = ledger.take([fact("c", kind="llm", cost=30, session="s", parent_session="s")])
    assert (decision.session_parent_id, decision.run_id, decision.run_source) == ("", "s", "session_id")
    with ledger.store.snapshot() as reader:
        row = questions.session(reader, TENANT, "s")
        assert row is not None
        assert "parent_id" not in row
        assert not pages.runs(reader, TENANT, pages.Wanted(100), all_runs=False).rows
