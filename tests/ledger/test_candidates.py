"""Which agents are worth a look, by the rules, and what their tokens cost elsewhere, by the providers' price pages."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact
from spanledger_processor.ledger.queries import candidates
from spanledger_processor.model import Cost, Usage
from spanledger_processor.pricing import Pricer
from spanledger_processor.units import USD

OPUS, HAIKU = "claude-opus-4-1", "claude-haiku-4-5"
PRICES = {OPUS: (15, 75), HAIKU: (1, 5)}
"""USD a million input and output tokens, from https://claude.com/pricing."""


def _ledger(model: str, inputs: int, outputs: int, *, calls: int = 1, tools: int = 0) -> MemoryLedger:
    """A session of one agent, `calls` of one size and so many tool calls."""
    ledger = MemoryLedger()
    for number in range(calls):
        fact = make_fact(f"c{number}", kind="llm", trace=f"t{number}", session="s", agent_id="helper", model=model)
        assert fact.call is not None
        fact.call.provider, fact.call.usage = "anthropic", Usage(input=inputs, output=outputs)
        rates = PRICES[model]
        fact.cost = Cost((inputs * rates[0] + outputs * rates[1]) * USD // 10**6, "computed")
        ledger.take([fact])
    ledger.take([make_fact(f"x{n}", kind="tool", trace=f"x{n}", session="s", agent_id="helper") for n in range(tools)])
    return ledger


def _found(ledger: MemoryLedger) -> list[dict[str, Any]]:
    with ledger.store.snapshot() as reader:
        return candidates(reader, TENANT, "s", Pricer(), NOW)


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ({"model": OPUS, "inputs": 10_000, "outputs": 500}, ["over_powered"]),
        ({"model": OPUS, "inputs": 10_000, "outputs": 500, "tools": 5}, ["over_powered"]),
        ({"model": OPUS, "inputs": 10_000, "outputs": 500, "tools": 6}, []),
        ({"model": OPUS, "inputs": 10_000, "outputs": 2_000}, []),
        ({"model": OPUS, "inputs": 1_000, "outputs": 100}, []),  # 0.0225 USD
        ({"model": HAIKU, "inputs": 49_000, "outputs": 400, "calls": 2}, []),
        ({"model": HAIKU, "inputs": 60_000, "outputs": 600, "calls": 2}, ["over_provisioned"]),
        ({"model": HAIKU, "inputs": 60_000, "outputs": 601, "calls": 2}, []),
        ({"model": OPUS, "inputs": 60_000, "outputs": 600}, ["over_powered", "over_provisioned"]),
    ],
)
def test_who_is_a_candidate(given: dict[str, Any], kinds: list[str]) -> None:
    found = _found(
        _ledger(
            given["model"],
            given["inputs"],
            given["outputs"],
            **{name: value for name, value in given.items() if name in ("calls", "tools")},
        )
    )
    assert [row["kinds"] for row in found] == ([kinds] if kinds else [])


def test_what_the_same_tokens_cost_elsewhere() -> None:
    (row,) = _found(_ledger(OPUS, 10_000, 500, calls=3))
    assert row["cost_usd_exact"] == "0.5625"
    assert (row["agent"], row["calls"], row["input_tokens_a_call"], row["output_tokens"]) == ("helper", 3, 10_000, 1500)
    haiku = next(one for one in row["same_tokens_on"] if one["model"] == HAIKU)
    inputs, outputs = (Decimal(rate) for rate in PRICES[HAIKU])
    assert Decimal(haiku["cost_usd_exact"]) == 3 * (10_000 * inputs + 500 * outputs) / 10**6
    assert [one["cost_usd"] for one in row["same_tokens_on"]] == sorted(
        one["cost_usd"] for one in row["same_tokens_on"]
    )


def test_what_tools_cost_is_not_compared() -> None:
    """They would cost the same beside any other model."""
    ledger = _ledger(OPUS, 10_000, 500)
    paid = make_fact("paid", kind="tool", trace="paid", session="s", agent_id="helper")
    paid.fee = Cost(USD, "computed", USD, price="tool/search")
    ledger.take([paid])
    (row,) = _found(ledger)
    assert row["cost_usd_exact"] == "1.1875"
    (alone,) = _found(_ledger(OPUS, 10_000, 500))
    assert row["same_tokens_on"] == alone["same_tokens_on"]


def test_a_session_that_is_not_there_has_none() -> None:
    assert _found(MemoryLedger()) == []
