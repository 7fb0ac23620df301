"""Questions to a ledger: every view of it adds up to the same, and what is in it is found."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ledger_in_memory import NOW, TENANT, make_fact
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.ledger import queries as questions
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.rows import Row
from spanledger_processor.ledger.store import tenant_hash

TODAY = NOW // (86_400 * 10**9)


def _fact(number: int, cost: int | None, *, day: int = TODAY, model: str = "m", **more: object) -> Fact:
    fact = make_fact(f"span{number:04}", "", "llm", cost, trace=f"trace{number}", model=model, **more)  # type: ignore[arg-type]
    fact.day = day
    return fact


@pytest.fixture
def store() -> MemoryStore:
    """Two sessions of one run, one that spawned another, and a call that belongs to none."""
    store = MemoryStore()
    facts = [
        _fact(1, 10, session="a", run="r", day=TODAY - 1),
        _fact(2, 20, session="b", run="r", start=5),
        _fact(3, 30, session="b", run="r", model="n", start=9),
        _fact(4, 40, session="child", parent_session="b", start=20),
        _fact(5, 50, start=30),
    ]
    with store.unit() as unit:
        enter(Batch(TENANT, facts, NOW), unit)
    return store


def _total(rows: list[Row]) -> Decimal:
    return sum((Decimal(row["cost_usd_exact"]) for row in rows), Decimal(0))


def test_every_view_adds_up(store: MemoryStore) -> None:
    with store.snapshot() as reader:
        total = Decimal(questions.total(reader, TENANT)["cost_usd_exact"])
        assert total == Decimal(150).scaleb(-12)
        for rows in (
            questions.sessions(reader, TENANT),
            questions.runs(reader, TENANT),
            questions.models(reader, TENANT),
            questions.days(reader, TENANT),
        ):
            assert _total(rows) == total
        assert Decimal(questions.Days(reader, TENANT).total()["cost_usd_exact"]) == total


def test_order_and_what_belongs_to_none(store: MemoryStore) -> None:
    """Last active first; the unattributed last, whenever it was active."""
    with store.snapshot() as reader:
        sessions = questions.sessions(reader, TENANT)
        assert [row["id"] for row in sessions] == ["child", "b", "a", ""]
        assert [row["id"] for row in questions.runs(reader, TENANT)][-1] == ""


def test_a_child_session_runs_in_its_parents_run(store: MemoryStore) -> None:
    with store.snapshot() as reader:
        child = questions.session(reader, TENANT, "child")
        run = questions.run(reader, TENANT, "r")
    assert child is not None
    assert child["parent_id"] == "b"
    assert run is not None
    assert run["calls"] == 4


def test_from_a_day_on(store: MemoryStore) -> None:
    with store.snapshot() as reader:
        assert questions.Days(reader, TENANT, TODAY).total()["calls"] == 4
        assert [day["calls"] for day in questions.days(reader, TENANT, TODAY)] == [4]
        assert [day["calls"] for day in questions.days(reader, TENANT, TODAY - 1)] == [1, 4]
        models = questions.models(reader, TENANT, TODAY)
        assert [(model["model"], model["calls"]) for model in models] == [("m", 3), ("n", 1)]
        assert questions.days(reader, TENANT, TODAY + 1) == []


def test_what_is_not_there(store: MemoryStore) -> None:
    with store.snapshot() as reader:
        assert questions.session(reader, TENANT, "nope") is None
        assert questions.run(reader, TENANT, "nope") is None
        assert questions.sessions(reader, tenant_hash("another")) == []
        assert questions.total(reader, tenant_hash("another"))["calls"] == 0
