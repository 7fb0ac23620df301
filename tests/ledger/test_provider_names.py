"""Sums by provider have one name for each, also of what an earlier version stored as spans had it."""

from __future__ import annotations

import pytest

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact
from spanledger_processor.accounting import decide
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.config.model import Config
from spanledger_processor.ledger import budgets, dimensions, pages, queries
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.of_value import days_of_value
from spanledger_processor.ledger.store import Reader
from spanledger_processor.model import Cost
from spanledger_processor.pricing import Pricer
from spanledger_processor.server import answers
from spanledger_processor.server.answers import Question
from spanledger_processor.server.routes import read_parameters, route_of
from spanledger_processor.server.wiring import make_budgets
from spanledger_processor.units import NS_PER_DAY

TODAY = NOW // NS_PER_DAY
SPELT = ("openai", "openai.responses", "openai.chat", "OpenAI")


def call(
    span_id: str, provider: str, cost: int | None, model: str = "gpt", kind: str = "llm", parent: str = ""
) -> Fact:
    fact = make_fact(span_id, parent, kind, cost, trace=span_id, session="s", model=model)
    assert fact.call is not None
    fact.call.provider, fact.day = provider, TODAY
    fact.call.task_id, fact.call.task_kind = "t", "worker"
    if cost is None:
        fact.cost = Cost(unpriced="unknown_model")
    return fact


def _question(reader: Reader, path: str, **ids: str) -> Question:
    return Question(reader, TENANT, Pricer(), NOW, read_parameters(route_of(path), []), ids)


@pytest.fixture(params=["as it is", "of an earlier version"])
def ledger(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    """A call of each spelling, and one without a price."""
    ledger = MemoryLedger()
    with monkeypatch.context() as patch:
        if request.param != "as it is":
            patch.setattr(decide, "sold_by", lambda provider, *_: provider)
        ledger.take([call(f"{at:08}", provider, 10**at) for at, provider in enumerate(SPELT)])
        ledger.take([call("unpriced", "openai.chat", None)])
    return ledger


def test_every_list_has_one_row_for_a_provider(ledger: MemoryLedger) -> None:
    ledger.take([call("new call", "openai.responses", 10_000)])
    with ledger.store.snapshot() as reader:
        days = queries.Days(reader, TENANT)
        for by in ("model", "day_model"):
            rows = days.by(by)
            assert [(row["provider"], row["model"], row["calls"]) for row in rows] == [("openai", "gpt", 6)]
        assert [(row["provider"], row["calls"]) for row in days.unpriced()] == [("openai", 1)]
        (row,), _ = dimensions.values(reader, TENANT, "provider")
        assert (row["value"], row["calls"], row["cost_usd_exact"]) == ("openai", 6, "0.000000011111")
        assert [model["model"] for model in row["models"]] == ["openai/gpt"]
        of_value, _ = days_of_value(reader, TENANT, "provider", "openai")
        assert [row["calls"] for row in of_value.by("model")] == [6]
        session = queries.session(reader, TENANT, "s")
        assert session is not None
        assert [(one["model"], one["cost_usd_exact"]) for one in session["models"]] == [
            ("openai/gpt", "0.000000011111")
        ]
        assert [(one["model"], one["calls"], one["tokens"]["output"]) for one in session["usage_by_model"]] == [
            ("openai/gpt", 6, 500)
        ]
        assert [(one["provider"], one["calls"]) for one in session["by_model"]] == [("openai", 6)]
        assert {one["provider"] for one in pages.tasks(reader, TENANT, {}, 10, None).rows} == {"openai"}
        timeline = answers.timeline(_question(reader, "/api/v1/timeline/{id}", id="s"))
        assert timeline is not None
        assert {span["provider"] for span in timeline["spans"]} == {"openai"}
        ids = {name: timeline["spans"][0][name] for name in ("trace_id", "span_id")}
        span = answers.span(_question(reader, "/api/v1/spans/{trace_id}/{span_id}", **ids))
        assert span is not None
        assert span["provider"] == "openai"
        sums = queries.stored_session(reader, TENANT, "s")
        assert sums is not None
        for name, value in (("provider", "openai"), ("model", "openai/gpt"), ("model", "gpt")):
            assert dimensions.has_value(reader, TENANT, sums, name, value)


def test_a_budget_takes_in_all_that_its_provider_sold_in_any_spelling(ledger: MemoryLedger) -> None:
    ledger.take([call("new call", "openai.responses", 10_000)])
    values = [("provider", spelt) for spelt in SPELT] + [("model", f"{spelt}/gpt") for spelt in SPELT]
    config = [
        {"name": f"{period} {value}", "amount": 1, "period": period, "dimension": dimension, "value": value}
        for period in ("day", "session")
        for dimension, value in values
    ]
    rules = make_budgets(Config.model_validate({"processor": {"budgets": config}}).processor)
    with ledger.store.snapshot() as reader:
        rows = budgets.rows(reader, TENANT, rules, NOW, None)
        assert [row["used_usd_exact"] for row in rows if row["period"] == "day"] == ["0.000000011111"] * 8
        rows = budgets.rows(reader, TENANT, rules, NOW, "s")
        assert [row["used_usd_exact"] for row in rows if row["period"] == "session"] == ["0.000000011111"] * 8
        for rule in (BudgetRule("each", 100, "day", dimension="provider"), rules[0]):
            (row,) = budgets.rows(reader, TENANT, [rule], NOW, "openai.chat")
            assert (row["value"], row["used_usd_exact"]) == ("openai", "0.000000011111")


def test_what_is_taken_back_is_taken_out_under_the_name_that_it_was_added_under(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = MemoryLedger()
    agent, child = call("agent", "openai.chat", 100, kind="agent"), call("child", "openai.chat", 70, parent="agent")
    child.trace_id = agent.trace_id
    with monkeypatch.context() as patch:
        patch.setattr(decide, "sold_by", lambda provider, *_: provider)
        ledger.take([agent])
    ledger.take([child])
    with ledger.store.snapshot() as reader:
        (row,) = queries.models(reader, TENANT)
        assert (row["provider"], row["cost_usd_exact"], row["calls"]) == ("openai", "0.00000000007", 1)
        (by_value,), _ = dimensions.values(reader, TENANT, "provider")
        assert (by_value["value"], by_value["cost_usd_exact"]) == ("openai", "0.00000000007")
    assert ledger.total.cost == 70


def test_a_call_that_names_a_library_or_nobody_is_of_the_seller_whose_price_it_has() -> None:
    ledger = MemoryLedger()
    for at, (provider, model) in enumerate(
        [("strands-agents", "gpt-4o"), ("", "gpt-4o"), ("openai", "gpt-4o"), ("our platform", "gpt-4o")]
    ):
        ledger.take([call(f"{at:08}", provider, 100, model=model)])
    with ledger.store.snapshot() as reader:
        rows, _ = dimensions.values(reader, TENANT, "provider")
    assert [(row["value"], row["calls"]) for row in rows] == [("openai", 3), ("our platform", 1)]
