"""What one value of a dimension spent: the figures that the list of all values has of it, by day and model."""

from __future__ import annotations

from spanledger_processor.ledger import budgets, dimensions
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.keys import dimension_key, total_key
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.of_value import days_of_value
from spanledger_processor.ledger.store import Changes, Key, Table, record_key
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.units import NS_PER_DAY
from stores import START_NS, TENANT

DAY = START_NS // NS_PER_DAY
USD = 10**12


def ledger_of(*records: tuple[Key, Sums]) -> MemoryStore:
    store = MemoryStore()
    whole = Sums(arrival_ms=START_NS // 10**6)
    with store.unit() as unit:
        unit.apply(Changes(add=dict(records) | {total_key(TENANT): whole}), START_NS)
    return store


def of_day(day: int, provider: str, model: str, cost: int, calls: int, **reasons: int) -> tuple[Key, Sums]:
    labels = {"day": str(day), "provider": provider, "model": model}
    key = record_key(Table.DAY, TENANT, day.to_bytes(4, "big"), provider.encode(), model.encode())
    return key, Sums(cost * USD, calls, unpriced=sum(reasons.values()), labels=labels, reasons=reasons)


def of_team(
    day: int, team: str | None, models: dict[str, int], calls: int, cost: int | None = None, **reasons: int
) -> tuple[Key, Sums]:
    labels = {"day": str(day), "dimension": "team", **({} if team is None else {"value": team})}
    costs = {model: amount * USD for model, amount in models.items()}
    sums = Sums(sum(costs.values()) if cost is None else cost * USD, calls, unpriced=sum(reasons.values()))
    sums.labels, sums.models, sums.reasons = labels, costs, reasons
    return dimension_key(TENANT, "team", day, team), sums


def test_a_value_has_what_the_list_of_values_says_of_it() -> None:
    store = ledger_of(
        of_day(DAY - 1, "openai", "gpt", 10, 10),
        of_day(DAY, "openai", "gpt", 20, 20, unknown_model=3),
        of_team(DAY - 1, "red", {"openai/gpt": 2, "acme/own": 3}, 2),
        of_team(DAY, "red", {"openai/gpt": 1}, 5, unknown_model=2, no_usage=1),
        of_team(DAY, "blue", {"openai/gpt": 7}, 1),
    )
    with store.snapshot() as reader:
        days, others = days_of_value(reader, TENANT, "team", "red")
        rows, _ = dimensions.values(reader, TENANT, "team")
        (row,) = [one for one in rows if one["value"] == "red"]
        total = days.total()
        assert {name: row[name] for name in total} == total
        assert total["cost_usd_exact"] == "6"
        assert [(one["cost_usd_exact"], one["calls"]) for one in days.by("day")] == [("5", 2), ("1", 5)]
        by_model = [(one["model"], one["cost_usd_exact"]) for one in days.by("model")]
        assert by_model == [("acme/own", "3"), ("openai/gpt", "3")]
        assert [one["cost_usd_exact"] for one in days.by("day_model")] == ["3", "2", "1"]
        assert [one.get("other") for one in days.by("model", 1)] == [None, True]
        assert [(one["reason"], one["calls"]) for one in days.unpriced()] == [("unknown_model", 2), ("no_usage", 1)]
        assert others == {"cost_usd": 0, "cost_usd_exact": "0", "calls": 0}
        some, _ = days_of_value(reader, TENANT, "team", "red", DAY, DAY)
        assert some.total()["cost_usd_exact"] == "1"
        assert days_of_value(reader, TENANT, "team", "nobody")[0].total()["calls"] == 0


def test_what_is_not_distinguished_on_its_day_is_said() -> None:
    """Also what was taken out of a value after a part of it had joined the others."""
    store = ledger_of(
        of_day(DAY - 1, "openai", "gpt", 10, 10),
        of_day(DAY, "openai", "gpt", 10, 10),
        of_team(DAY - 1, "red", {"openai/gpt": 2}, 2),
        of_team(DAY - 1, None, {"openai/gpt": 3}, 3),
        of_team(DAY, "red", {"openai/gpt": -1}, -1),
        of_team(DAY, None, {"openai/gpt": 4}, 4),
    )
    with store.snapshot() as reader:
        days, others = days_of_value(reader, TENANT, "team", "red")
        assert (days.total()["cost_usd_exact"], others["cost_usd_exact"], others["calls"]) == ("2", "6", 6)
        rows, _ = dimensions.values(reader, TENANT, "team")
        assert [(row["cost_usd_exact"], row["calls"]) for row in rows if row.get("other")] == [("6", 6)]


def test_no_model_of_a_value_has_cost_less_than_nothing() -> None:
    """A part of what is taken back of it may have joined the others before."""
    store = ledger_of(
        of_day(DAY, "openai", "gpt", 10, 10),
        of_team(DAY, "red", {"openai/gpt": -1}, -1),
        of_team(DAY, None, {"other": 4, "acme/own": 2}, 4),
    )
    with store.snapshot() as reader:
        (row, _), _ = dimensions.values(reader, TENANT, "team")
    models = [(model["model"], model["cost_usd_exact"]) for model in row["models"]]
    assert (row["cost_usd_exact"], models) == ("5", [("other", "3"), ("acme/own", "2")])


def test_a_model_or_provider_has_its_records_by_day() -> None:
    store = ledger_of(
        of_day(DAY - 1, "openai", "gpt", 1, 1, unknown_model=1),
        of_day(DAY - 1, "acme", "gpt", 2, 2),
        of_day(DAY - 1, "acme", "other", 4, 4),
        of_day(DAY, "", "other", 8, 8),
        of_day(DAY, "acme", "own", 16, 16),
    )
    with store.snapshot() as reader:

        def cost(name: str, value: str) -> tuple[str, str]:
            days, others = days_of_value(reader, TENANT, name, value)
            return days.total()["cost_usd_exact"], others["cost_usd_exact"]

        assert cost("model", "gpt") == ("3", "12")
        assert cost("model", "acme/gpt") == ("2", "12")
        assert cost("provider", "acme") == ("22", "8")
        days, _ = days_of_value(reader, TENANT, "provider", "acme")
        assert [(row["model"], row["calls"]) for row in days.by("model")] == [("own", 16), ("other", 4), ("gpt", 2)]
        assert [row["model"] for row in days_of_value(reader, TENANT, "model", "gpt")[0].unpriced()] == ["gpt"]


def test_a_budget_of_a_value_of_which_more_was_taken_back_than_is_left_has_used_nothing() -> None:
    store = ledger_of(
        of_day(DAY, "openai", "gpt", 3, 3),
        of_team(DAY, "red", {"openai/gpt": -1}, -1, unknown_model=-1),
        of_team(DAY, None, {"openai/gpt": 4}, 4),
    )
    rules = [BudgetRule("each", USD, "day", dimension="team"), BudgetRule("red", USD, "day", 0, "team", "red")]
    with store.snapshot() as reader:
        rows = budgets.rows(reader, TENANT, rules, START_NS, None)
    assert [(row["value"], row["used_usd_exact"], row["used"], row["unpriced_calls"]) for row in rows] == [
        ("red", "0", 0, 0)
    ] * 2
