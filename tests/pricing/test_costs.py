"""Which amount counts, why there may be none, and when it is an estimate."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from spanledger_processor.model import Call, Cost, ReportedCost, Usage
from spanledger_processor.pricing import Override, Pricer, describe, explain
from spanledger_processor.units import USD

AT = int(datetime(2026, 11, 3, 12, tzinfo=UTC).timestamp()) * 10**9
KNOWN = Usage(1000, 100, 0, 0, 0, 0)


def at(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 10**9  # type: ignore[arg-type, misc]


def call(model: str = "claude-sonnet-4-5", usage: Usage | None = KNOWN, **rest: Any) -> Call:
    return Call("otel", **{"kind": "llm", "request_model": model, "usage": usage, **rest})


def price(*args: Any, when: int = AT, **rest: Any) -> Cost:
    return Pricer().cost(call(*args, **rest), when)


def usd(text: str) -> int:
    return int(Decimal(text) * USD)


@pytest.mark.parametrize(
    ("model", "usage", "context", "expected"),
    [
        ("claude-sonnet-4-5", Usage(100_000, 2_000, 80_000, 10_000, 0, 0), (), "0.1215"),
        ("claude-sonnet-4-5", Usage(100_000, 2_000, 80_000, 10_000, 10_000, 0), (), "0.144"),
        ("claude-sonnet-4-5", Usage(250_000, 2_000, 0, 0, 0, 0), (), "1.545"),
        ("gpt-5.1", Usage(10_000, 5_000, 8_000, 0, 0, 4_000), (), "0.0535"),
        ("gpt-5.1", Usage(10_000, 5_000, 8_000, 0, 0, 6_000), (), "0.0535"),
        ("o3", Usage(10**6, 10**6, 0, 0, 0, 0), (), "10"),
        ("o3", Usage(10**6, 10**6, 0, 0, 0, 0), (("service_tier", "flex"),), "5"),
        ("o3", Usage(10**6, 10**6, 0, 0, 0, 0), (("service_tier", "priority"),), "17.5"),
        ("claude-opus-4-6", Usage(10**6, 10**6, 0, 0, 0, 0), (("processing", "batch"),), "15"),
        ("claude-opus-4-6", Usage(10**6, 10**6, 0, 0, 0, 0), (("service_tier", "batch"),), "15"),
        ("claude-opus-4-6", Usage(10**6, 10**6, 0, 0, 0, 0), (), "30"),
    ],
)
def test_measured_amounts(model: str, usage: Usage, context: tuple[tuple[str, str], ...], expected: str) -> None:
    cost = price(model, usage, price_context=context)
    assert cost.amount == usd(expected)
    assert cost.source == "computed"
    assert cost.estimate is (usage.reasoning == 6_000)


def test_a_price_is_that_of_the_day() -> None:
    usage = Usage(10**6, 0, 0, 0, 0, 0)
    assert price("o3", usage, when=at(2024, 12, 31)).amount == usd("10")
    assert price("o3", usage, when=at(2025, 9, 1)).amount == usd("2")


def test_a_price_may_change_with_the_hour() -> None:
    pricer, busy = Pricer(), call("deepseek-v4-pro", Usage(10**6, 0, 0, 0, 0, 0), provider="deepseek")
    hours = [pricer.cost(busy, at(2026, 11, 3, hour)).amount for hour in (0, 1, 3, 4, 6, 9, 10, 23)]
    low, high = usd("0.66"), usd("1.32")
    assert hours == [low, high, high, low, high, high, low, low]


def reported(text: str, *, billed: bool = False) -> ReportedCost:
    return ReportedCost(usd(text), billed, "gen_ai.usage.cost")


def test_what_the_one_who_charges_says_counts_before_what_we_compute() -> None:
    cost = price(reported=reported("0.5", billed=True), estimate=True)
    assert (cost.amount, cost.source, cost.computed, cost.reported) == (usd("0.5"), "billed", usd("0.0045"), usd("0.5"))
    assert not cost.estimate


def test_what_we_compute_counts_before_a_librarys_estimate() -> None:
    cost = price(reported=reported("0.5"))
    assert (cost.amount, cost.source, cost.reported) == (usd("0.0045"), "computed", usd("0.5"))


def test_a_files_own_sum_counts_before_ours() -> None:
    cost = price(reported=reported("0.5"), granularity="per-session-aggregate")
    assert (cost.amount, cost.source, cost.computed) == (usd("0.5"), "reported", usd("0.0045"))
    assert price(reported=reported("0"), granularity="per-session-aggregate").amount == 0
    assert price(reported=reported("0.5", billed=True), granularity="per-session-aggregate").source == "billed"


@pytest.mark.parametrize(
    "unpriceable", [{"model": "my-llama"}, {"usage": None}, {"problem": "negative"}, {"model": ""}]
)
def test_an_estimate_by_another_counts_where_we_have_no_price(unpriceable: dict[str, Any]) -> None:
    cost = price(**unpriceable, reported=reported("0.5"))
    assert cost == Cost(amount=usd("0.5"), source="reported", reported=usd("0.5"))
    assert price(**unpriceable).amount is None


def test_a_librarys_zero_for_a_model_it_does_not_know_is_no_price() -> None:
    cost = price("my-llama", reported=reported("0"))
    assert (cost.amount, cost.unpriced, cost.reported) == (None, "unknown_model", 0)
    assert price("my-llama", reported=reported("0", billed=True)).amount == 0


def test_a_negative_cost_is_not_a_cost() -> None:
    assert price("my-llama", reported=reported("-1", billed=True)) == Cost(unpriced="unknown_model")
    assert price(reported=reported("-1", billed=True)).source == "computed"


def test_a_cost_without_usage_is_what_was_reported() -> None:
    assert price(usage=None, granularity="cost-only", reported=reported("0.5")).source == "reported"
    assert price(usage=None, granularity="cost-only", reported=reported("0.5", billed=True)).source == "billed"
    assert price(granularity="cost-only").unpriced == "no_usage"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": ""}, "no_model"),
        ({"usage": None}, "no_usage"),
        ({"usage": Usage()}, "no_usage"),
        ({"usage": Usage(input=10)}, "no_usage"),
        ({"usage": Usage(output=10)}, "no_usage"),
        ({"usage": Usage(input=10), "kind": "embedding"}, None),
        ({"usage": Usage(output=10), "kind": "embedding"}, "no_usage"),
        ({"provider": "ibm.watsonx.ai"}, "unknown_provider"),
        ({"model": "my-llama"}, "unknown_model"),
        ({"problem": "cache larger than input"}, "inconsistent_usage"),
        ({"problem": "negative count", "usage": None}, "inconsistent_usage"),
        ({"usage": Usage(3, 1, 0, 12_304, 0, 0)}, "inconsistent_usage"),
        ({"usage": Usage(100, 1, 60, 60, 0, 0)}, "inconsistent_usage"),
        ({"usage": Usage(100, 1, 0, None, 10, 0)}, "inconsistent_usage"),
        ({"usage": Usage(100, 1, 0, 5, 10, 0)}, "inconsistent_usage"),
        ({"usage": Usage(100, -1, 0, 0, 0, 0)}, "inconsistent_usage"),
        ({"usage": Usage(-1, 1, 0, 0, 0, 0)}, "inconsistent_usage"),
        ({"usage": Usage(100, 1, -5, 0, 0, 0)}, "inconsistent_usage"),
        (
            {"model": "sonar-deep-research", "provider": "perplexity", "usage": Usage(10, 10, 0, 0, 0, 20)},
            "inconsistent_usage",
        ),
        # sold by the character, the second or not at all: tokens say nothing of the money
        ({"model": "tts-1"}, "unknown_model"),
        ({"model": "whisper-1"}, "unknown_model"),
        # a price for the input alone
        ({"model": "text-embedding-3-small", "provider": "openai"}, "unknown_model"),
        ({"model": "text-embedding-3-small", "provider": "openai", "kind": "embedding"}, None),
        ({"model": "text-embedding-3-small", "provider": "", "kind": "embedding"}, None),  # one maker lists the name
        ({"model": "text-embedding-nobody", "provider": "", "kind": "embedding"}, "unknown_model"),
    ],
)
def test_unknown_is_never_zero(fields: dict[str, Any], reason: str | None) -> None:
    cost = price(**fields)
    assert cost.unpriced == reason
    assert (cost.amount is None) is (reason is not None)
    if reason:
        assert cost == Cost(unpriced=cost.unpriced)


def test_an_entry_without_prices_is_free_only_where_its_name_says_so() -> None:
    assert price("gpt-4o", provider="github-copilot").unpriced == "unknown_model"
    assert price("gemma-3-27b-it", provider="gcp.gemini").unpriced == "unknown_model"
    free = price("deepseek/deepseek-r1:free", provider="openrouter")
    assert (free.amount, free.source, free.unpriced) == (0, "computed", None)


@pytest.mark.parametrize(
    ("fields", "estimate"),
    [
        ({}, False),
        ({"estimate": True}, True),
        # an unknown class whose rate is another one
        ({"usage": Usage(1000, 100, None, 0, 0, 0)}, True),
        ({"usage": Usage(1000, 100, 0, None, None, 0)}, True),
        ({"usage": Usage(1000, 100, 0, 500, None, 0)}, True),
        # an unknown class on which no money hangs
        ({"usage": Usage(1000, 100, 0, 0, None, None)}, False),
        ({"model": "gpt-4", "usage": Usage(1000, 100)}, False),
        ({"model": "gpt-4o", "usage": Usage(1000, 100, 0)}, False),
        ({"model": "gpt-4o", "usage": Usage(1000, 100)}, True),
        ({"usage": Usage(0, 100)}, False),
        # more reasoning than output
        ({"usage": Usage(1000, 100, 0, 0, 0, 200)}, True),
        # sums
        ({"granularity": "per-turn"}, False),
        ({"granularity": "per-turn", "usage": Usage(200_001, 100, 0, 0, 0, 0)}, True),
        # the fee of a request, which goes by how much it may search: $5 to $12 for 1,000, and the list has one of them
        ({"model": "sonar", "provider": "perplexity"}, True),
        ({"model": "sonar", "provider": "perplexity", "granularity": "per-turn"}, True),
        # a way to be served that has no listed price, and ways to ask for the standard one
        ({"price_context": (("service_tier", "flex"),)}, True),
        ({"model": "o3", "price_context": (("service_tier", "flex"),)}, False),
        ({"price_context": (("service_tier", "standard"),)}, False),
        # another seller's price: the list's comment says so; Azure asks $1.35 and $5.40 for DeepSeek-R1
        ({"model": "gpt-oss-120b", "provider": "openai"}, True),
        ({"model": "gpt-oss-120b", "provider": "cerebras"}, False),
        ({"model": "gpt-chat-latest", "provider": "openai"}, False),  # compared with the seller's, says the comment
        ({"model": "DeepSeek-R1", "provider": "azure.ai.inference"}, True),
        ({"model": "gpt-4o", "provider": "azure.ai.openai"}, False),
        ({"model": "claude-sonnet-4-5@20250929", "provider": "gcp.vertex_ai"}, False),
        # a model that searches or draws, of whose searches and pictures nothing is told, and that have no price
        ({"model": "perplexity/sonar-pro", "provider": "openrouter"}, True),
        ({"model": "google/gemini-2.5-flash-image", "provider": "openrouter"}, True),
        ({"model": "openai/gpt-5-image-mini", "provider": "openrouter"}, True),
        ({"model": "google/gemini-2.5-flash", "provider": "openrouter"}, False),
        # pictures among the output
        ({"model": "gemini-2.5-flash-image"}, True),
    ],
)
def test_an_estimate_says_so(fields: dict[str, Any], estimate: bool) -> None:  # noqa: FBT001
    cost = price(**fields)
    assert cost.amount is not None
    assert cost.estimate is estimate


def test_a_price_context_that_nobody_could_list_has_no_price() -> None:
    assert price(price_context=(("service_tier", "x" * 1000),)).unpriced == "unknown_model"


def test_a_turn_never_pays_the_long_context_rate() -> None:
    usage = Usage(3_000_000, 0, 0, 0, 0, 0)
    assert price(usage=usage, granularity="per-turn").amount == usd("9")
    assert price(usage=usage).amount == usd("18")


@pytest.mark.parametrize(
    ("model", "provider", "tokens"),
    [
        ("claude-sonnet-4-5", "anthropic", 200_001),  # beyond the threshold of a tier
        ("claude-sonnet-4-5", "anthropic", 200_000),
        ("gpt-4o", "openai", 1000),  # one price for every call
        ("sonar", "perplexity", 1000),  # a fee for each request
    ],
)
def test_an_aggregate_whose_cost_nobody_told_has_no_price(model: str, provider: str, tokens: int) -> None:
    """A turn of the same usage is exact, and has one; so has an aggregate that its file knows the cost of."""
    usage = Usage(tokens, 0, 0, 0, 0, 0)
    cost = price(model, usage, provider=provider, granularity="per-session-aggregate")
    assert (cost.amount, cost.unpriced, cost.source, cost.estimate) == (None, "no_usage", "", False)
    assert cost.computed is not None
    assert "single calls" in cost.note
    result = price(model, usage, provider=provider, granularity="per-session-aggregate", reported=reported("0.9"))
    assert (result.amount, result.unpriced) == (usd("0.9"), None)
    assert price(model, usage, provider=provider, granularity="per-turn").amount is not None


def test_an_aggregate_has_the_price_that_the_user_states_for_its_model() -> None:
    """One price a token, whenever and however large the calls were."""
    found = Pricer([ACME]).cost(call("acme-1", Usage(10**6, 0, 0, 0, 0, 0), granularity="per-session-aggregate"), AT)
    assert (found.amount, found.unpriced, found.estimate) == (usd("2"), None, True)


def test_a_time_that_is_not_known_makes_an_estimate() -> None:
    assert Pricer().cost(call(), AT, time_known=False).estimate
    assert not Pricer().cost(call(reported=reported("1", billed=True)), AT, time_known=False).estimate


@pytest.mark.parametrize("when", [-(10**18), 0, 2**64 - 1, 10**21])
def test_no_time_is_too_strange(when: int) -> None:
    assert price(when=when).amount == usd("0.0045")


def test_the_model_that_answered_is_the_one_that_is_paid() -> None:
    assert price("gpt-4o", response_model="gpt-4o-mini-2024-07-18").price.endswith("openai/gpt-4o-mini")


ACME = Override("acme-*", input=Decimal(2), output=Decimal(10))
FULL = Override(
    "gpt-4o",
    provider="azure",
    input=Decimal("2.5"),
    output=Decimal(10),
    cache_read=Decimal("0.0000001"),
    cache_write=Decimal(3),
    cache_write_1h=Decimal(5),
    name="our contract",
)


def test_an_override_goes_before_the_list_and_the_first_that_matches_is_the_one() -> None:
    pricer = Pricer([ACME, Override("*", input=Decimal(1), output=Decimal(1)), FULL])
    cost = pricer.cost(call("acme-large"), AT)
    assert (cost.amount, cost.price, cost.estimate) == (usd("0.003"), "override/acme-*", False)
    assert pricer.cost(call("gpt-4o", provider="azure"), AT).price == "override/*"
    assert pricer.cost(call("gpt-4o", provider="never-heard-of"), AT).price == "override/*"
    assert pricer.cost(call(""), AT).unpriced == "no_model"


@pytest.mark.parametrize(
    ("provider", "model", "matches"),
    [
        ("azure", "gpt-4o", True),
        ("azure.ai.openai", "GPT-4o", True),
        ("microsoft.foundry", "gpt-4o", True),
        ("azure", "openai/gpt-4o", True),
        ("", "azure/gpt-4o", True),
        ("openai", "gpt-4o", False),
        ("azure", "gpt-4o-mini", False),
        ("", "gpt-4o", False),
    ],
)
def test_an_override_for_a_provider(provider: str, model: str, matches: bool) -> None:  # noqa: FBT001
    cost = Pricer([FULL]).cost(call(model, provider=provider), AT)
    assert (cost.price == "override/our contract") is matches
    assert cost.unpriced is None


def test_an_override_for_a_provider_and_a_model_that_nobody_lists() -> None:
    own = Override("large", provider="our_platform", input=Decimal(1), output=Decimal(1))
    assert Pricer([own]).cost(call("large", provider="Our-Platform"), AT).amount == usd("0.0011")
    assert Pricer([own]).cost(call("large", provider="other-platform"), AT).unpriced == "unknown_provider"


def test_an_override_named_with_brackets_is_exact() -> None:
    tagged = Override("claude-opus-4-6[1m]", input=Decimal(1), output=Decimal(1))
    assert Pricer([tagged]).cost(call("claude-opus-4-6[1m]"), AT).price.startswith("override/")
    assert Pricer([tagged]).cost(call("claude-opus-4-6"), AT).price.startswith("genai-prices@")


def test_an_override_holds_from_its_day() -> None:
    pricer = Pricer([Override("gpt-4o", input=Decimal(1), output=Decimal(1), valid_from=date(2026, 11, 3))])
    assert pricer.cost(call("gpt-4o"), at(2026, 11, 2, 23, 59)).price.startswith("genai-prices@")
    assert pricer.cost(call("gpt-4o"), at(2026, 11, 3)).price.startswith("override/")


def test_a_rate_that_an_override_lacks_is_neither_free_nor_silent() -> None:
    pricer = Pricer([ACME, FULL, Override("half", input=Decimal(1))])
    cached = pricer.cost(call("acme", Usage(0, 0, 0, 0, 0, 0)), AT)
    assert cached.unpriced == "unknown_model"  # "acme" is not "acme-*"
    cached = pricer.cost(call("acme-1", Usage(3_000_000, 0, 1_000_000, 2_000_000, 1_000_000, 0)), AT)
    assert (cached.cache_read, cached.cache_write, cached.estimate) == (usd("2"), usd("4"), True)
    assert not pricer.cost(call("acme-1", Usage(10, 10)), AT).estimate
    assert pricer.cost(call("half"), AT).unpriced == "unknown_model"
    assert pricer.cost(call("half", Usage(10, 0, 0, 0, 0, 0)), AT).amount == usd("0.00001")
    exact = pricer.cost(call("gpt-4o", Usage(35, 0, 25, 10, 0, 0), provider="azure"), AT)
    assert (exact.cache_read, exact.cache_write, exact.estimate) == (2, 30_000_000, False)


@pytest.mark.parametrize(
    "rates", [{}, {"input": Decimal(-1)}, {"input": Decimal("NaN")}, {"output": Decimal("Infinity")}]
)
def test_a_rate_is_a_number_of_dollars(rates: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rate"):
        Override("m", **rates)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"usage": Usage(250_000, 2_000, 80_000, 10_000, 4_000, 100)},
        {"model": "sonar-deep-research", "provider": "perplexity", "usage": Usage(100, 50, 0, 0, 0, 20)},
        {"model": "sonar", "provider": "perplexity"},
        {"reported": reported("0.5", billed=True)},
        {"model": "my-llama", "provider": "together"},
        {"granularity": "cost-only", "reported": reported("0.5")},
        {"model": "deepseek/deepseek-r1:free", "provider": "openrouter"},
        {"price_context": (("service_tier", "flex"),)},
        {"model": ""},
        {"model": "x" * 10_000},
    ],
)
def test_an_explanation_has_the_same_numbers(fields: dict[str, Any]) -> None:
    pricer = Pricer()
    explanation = explain(call(**fields), AT, pricer)
    cost = pricer.cost(call(**fields), AT)
    assert explanation.cost == cost
    assert sum(line.amount for line in explanation.lines) == (cost.computed or 0)
    for line in explanation.lines:
        unit = 1000 if line.label == "requests" else 10**6
        assert abs(line.tokens * line.rate / unit * USD - line.amount) <= 1
    text = "\n".join(explanation.text())
    assert (cost.price or cost.unpriced or "") in text
    assert cost.source in text


def test_an_explanation_reads_like_this() -> None:
    cached = call(usage=Usage(100_000, 2_000, 80_000, 10_000, None, 0), provider="anthropic")
    assert explain(cached, AT, Pricer()).text() == [
        'model "claude-sonnet-4-5" of provider "anthropic"',
        f"{Pricer().cost(cached, AT).price} on 2026-11-03: the provider was named",
        "input                  10,000 x $3.00 / MTok = $0.03",
        "cache read             80,000 x $0.30 / MTok = $0.024",
        "cache write            10,000 x $3.75 / MTok = $0.0375",
        "output                  2,000 x $15.00 / MTok = $0.03",
        "computed $0.1215",
        "counts: $0.1215 (computed, an estimate)",
    ]


def test_a_model_is_described() -> None:
    (start, rates), (large, _) = describe("claude-sonnet-4-5", "", AT, Pricer()).tiers
    assert "output           $15.00 / MTok" in map(str, rates)
    assert (start, large) == (0, 200_000)
    unlisted = describe("my-llama", "together", AT, Pricer())
    assert unlisted.names[1:] == ('not listed: "my-llama" at together (the provider was named)',)
    assert (unlisted.unpriced, unlisted.tiers) == ("unknown_model", ())
    misspelt = describe("gpt-4o-minii", "", AT, Pricer())
    assert misspelt.names[1:] == (
        'not listed: "gpt-4o-minii" at openai (names like "gpt-4o-minii" are taken for its models)',
    )
    assert describe("deepseek-v4-pro", "deepseek", AT, Pricer()).changes
    acme = describe("acme-1", "", AT, Pricer([ACME]))
    assert acme.names[1] == "override/acme-* on 2026-11-03: an override matches"


@pytest.mark.parametrize(("means_zero", "estimate"), [(True, True), (False, False)])
def test_a_zero_that_somebody_meant_makes_our_price_unsure(*, means_zero: bool, estimate: bool) -> None:
    result = ReportedCost(0, False, "langfuse.observation.cost_details", means_zero=means_zero)
    cost = price(reported=result)
    assert (cost.amount, cost.source, cost.estimate) == (usd("0.0045"), "computed", estimate)
