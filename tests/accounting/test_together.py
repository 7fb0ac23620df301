"""Small requests that wait together are accounted for as one: each gets the decisions on its own spans."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact
from spanledger_processor.accounting.account import account, are_alike, enter_together
from spanledger_processor.accounting.facts import Batch, Fact, LoopRule
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.model import Decision


def batch(*facts: Fact, **more: object) -> Batch:
    return Batch(TENANT, list(facts), NOW, **more)  # type: ignore[arg-type]


@st.composite
def spans(draw: st.DrawFn) -> Fact:
    number = draw(st.integers(0, 7))
    parent = draw(st.sampled_from(["", "", f"n{draw(st.integers(0, 7))}"]))
    kind = draw(st.sampled_from(["", "llm", "llm", "agent", "tool"]))
    cost = 1000 + number if kind in ("llm", "agent") else None
    return make_fact(f"n{number}", parent if parent != f"n{number}" else "", kind, cost, session="s", length=number)


@settings(max_examples=60)
@given(st.lists(st.lists(spans(), max_size=4), min_size=1, max_size=4))
def test_each_request_gets_what_one_request_of_all_their_spans_says(drawn: list[list[Fact]]) -> None:
    store, whole = MemoryStore(), MemoryLedger()
    whole_batch = batch(*(fact for facts in drawn for fact in facts))
    with whole.store.unit() as unit:
        expected = account(whole_batch, unit)
    with store.unit() as unit:
        rulings = enter_together([batch(*facts) for facts in drawn], unit)
    decisions: dict[int, Decision] = {}
    first, fresh = 0, list[int]()
    for facts, ruling in zip(drawn, rulings, strict=True):
        assert all(0 <= index < len(facts) for index in (*ruling.decisions, *ruling.fresh))
        decisions.update((first + index, decision) for index, decision in ruling.decisions.items())
        fresh += [first + index for index in ruling.fresh]
        first += len(facts)
    assert decisions == expected.decisions
    assert sorted(fresh) == sorted(expected.fresh)
    for name in ("replays", "conflicts", "corrections", "correction", "cut_traces"):
        assert sum(getattr(ruling, name) for ruling in rulings) == getattr(expected, name)


def test_a_known_span_changes_no_order_of_the_new_ones() -> None:
    """Running totals go by traces in the order of their first new spans: as in a request without the known one."""
    known, *new = (
        make_fact(name, "", "llm", cost, trace=trace, session="s")
        for name, cost, trace in (("a", 1, "t1"), ("b", 10, "t2"), ("c", 100, "t1"))
    )
    for again in ([], [known]):
        ledger = MemoryLedger()
        ledger.take([known])
        *_, second, third = ledger.take([*again, *new])
        assert (second.session_cost, third.session_cost) == (11, 111)


def test_requests_of_one_kind_are_alike() -> None:
    one = make_fact("a", "", "llm", 5)
    assert are_alike(batch(one), batch(make_fact("b", "", "llm", 6)))
    for other in (
        Batch(b"another1", [one], NOW),
        batch(one, loop=LoopRule(repeats=3)),
        batch(one, aliases=("gen_ai.usage.cost",)),
        batch(one, watched=True),
        batch(one, is_part=True),
    ):
        assert not are_alike(batch(one), other)
