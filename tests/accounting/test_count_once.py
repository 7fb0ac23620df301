"""Which span is counted, and what the ledger says, in every order of arrival."""

from __future__ import annotations

import itertools

import pytest

from ledger_in_memory import MakeFact, MemoryLedger
from spanledger_processor.decisions import Cost


def test_agent_span_that_repeats_its_children_adds_nothing(ledger: MemoryLedger, fact: MakeFact) -> None:
    agent, one, two = fact("a", kind="agent", cost=70), fact("c1", "a", "llm", 30), fact("c2", "a", "llm", 40)
    decisions = ledger.take([one, two, agent])
    assert ledger.total.cost == 70
    assert decisions[2].repeats_children
    assert decisions[2].cost is None
    assert decisions[2].subtree == 70


def test_agent_span_with_the_only_usage_of_its_subtree_counts(ledger: MemoryLedger, fact: MakeFact) -> None:
    decisions = ledger.take([fact("step", "a", "tool"), fact("a", kind="agent", cost=70)])
    assert ledger.total.cost == 70
    assert not decisions[1].repeats_children


def test_links_between_may_be_plain_spans(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c", "plain", "llm", 30), fact("plain", "a"), fact("a", kind="agent", cost=30)])
    assert ledger.total.cost == 30


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_every_order_gives_the_same_ledger_and_the_books_balance(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[int, ...]
) -> None:
    spans = [
        fact("a", kind="agent", cost=75, length=100),
        fact("p", "a", start=1, length=50),
        fact("c1", "p", "llm", 30, start=2),
        fact("c2", "p", "llm", 40, start=20),
    ]
    for place in order:
        ledger.take([spans[place]])
    assert ledger.total.cost == 70
    assert ledger.sent == 70 + ledger.correction


def test_children_before_parents_need_no_correction(ledger: MemoryLedger, fact: MakeFact) -> None:
    for span in (fact("c1", "a", "llm", 30), fact("c2", "a", "llm", 40), fact("a", kind="agent", cost=70)):
        ledger.take([span])
    assert ledger.correction == 0


def test_a_parent_sent_first_takes_its_cost_off_its_children(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("a", kind="agent", cost=70)])
    (child,) = ledger.take([fact("c1", "a", "llm", 30)])
    assert child.cost is not None
    assert (child.cost.amount, child.cost.computed) == (0, 30)
    assert (ledger.total.cost, ledger.correction) == (30, 40)
    ledger.take([fact("c2", "a", "llm", 40)])
    assert (ledger.total.cost, ledger.correction, ledger.sent) == (70, 0, 70)


def test_an_agent_whose_links_are_not_known_is_judged_by_time(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c", "unseen", "llm", 30, start=10, length=5), fact("a", kind="agent", cost=30, length=100)])
    assert ledger.total.cost == 30


def test_a_response_reported_by_two_libraries_is_counted_once(ledger: MemoryLedger, fact: MakeFact) -> None:
    outer = fact("outer", kind="llm", cost=30, response_id="r1", scope="one", length=100)
    inner = fact("inner", "outer", "llm", 30, response_id="r1", scope="two", start=5)
    decisions = ledger.take([outer, inner])
    assert ledger.total.cost == 30
    assert sorted(bool(d.duplicate_of) for d in decisions) == [False, True]


def test_a_response_reported_in_two_traces_is_counted_once(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("one", kind="llm", cost=30, response_id="r1", scope="one", trace="t1")])
    (second,) = ledger.take([fact("two", kind="llm", cost=30, response_id="r1", scope="two", trace="t2")])
    assert ledger.total.cost == 30
    assert second.duplicate_of == b"one".hex()


def test_a_server_that_reuses_one_id_for_every_call_loses_none(ledger: MemoryLedger, fact: MakeFact) -> None:
    calls = [fact(f"c{n}", kind="llm", cost=30, response_id="chatcmpl-1", start=n * 100) for n in range(3)]
    ledger.take(calls)
    assert ledger.total.cost == 90


def test_a_wrapper_that_carries_the_id_of_its_last_call_repeats_all_its_calls(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    wrapper = fact("w", kind="llm", cost=70, response_id="r2", scope="wrapper", length=100)
    ledger.take([wrapper, fact("c1", "w", "llm", 30, response_id="r1"), fact("c2", "w", "llm", 40, response_id="r2")])
    assert ledger.total.cost == 70


def test_a_failed_call_without_usage_does_not_hide_its_parents_usage(ledger: MemoryLedger, fact: MakeFact) -> None:
    failed = fact("c", "a", "llm", 0)
    assert failed.call is not None
    failed.call.usage, failed.cost = None, Cost(unpriced="no_usage")
    ledger.take([failed, fact("a", kind="agent", cost=70)])
    assert ledger.total.cost == 70


def test_a_retried_request_adds_nothing_and_gets_the_same_attributes(ledger: MemoryLedger, fact: MakeFact) -> None:
    spans = [fact("c1", kind="llm", cost=30, session="s"), fact("c2", kind="llm", cost=40, session="s")]
    first = ledger.take(spans)
    again = ledger.take(spans)
    assert again == first
    assert ledger.total.cost == 70
    assert (ledger.replays, ledger.conflicts) == (2, 0)


def test_a_span_twice_in_one_request_is_counted_once(ledger: MemoryLedger, fact: MakeFact) -> None:
    decisions = ledger.take([fact("c1", kind="llm", cost=30), fact("c1", kind="llm", cost=30)])
    assert ledger.total.cost == 30
    assert decisions[0] == decisions[1]


def test_same_ids_with_other_usage_is_a_conflict_and_the_first_wins(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c1", kind="llm", cost=30)])
    (again,) = ledger.take([fact("c1", kind="llm", cost=99)])
    assert again.cost is not None
    assert again.cost.amount == 30
    assert (ledger.total.cost, ledger.conflicts) == (30, 1)


def test_aliases_are_written_beside_the_cost_but_never_over_one_that_came_in(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    ledger.aliases = ("gen_ai.usage.cost", "operation.cost")
    (plain,) = ledger.take([fact("c1", kind="llm", cost=30)])
    (taken,) = ledger.take([fact("c2", kind="llm", cost=30, present=frozenset({"operation.cost"}))])
    assert plain.aliases == ("gen_ai.usage.cost", "operation.cost")
    assert taken.aliases == ("gen_ai.usage.cost",)


def test_running_totals_count_up_span_by_span(ledger: MemoryLedger, fact: MakeFact) -> None:
    decisions = ledger.take([fact(f"c{n}", kind="llm", cost=10, session="s") for n in range(3)])
    assert [d.session_cost for d in decisions] == [10, 20, 30]
    (later,) = ledger.take([fact("c9", kind="llm", cost=5, session="s", trace="t2")])
    assert (later.session_cost, later.run_cost) == (35, 35)
