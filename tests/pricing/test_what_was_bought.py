"""Sound, pictures, searches, plans, caches and other people's money: each changes the amount, or marks it.

Rates are genai-prices 0.2.3's, read on 2026-11-03; the sums are worked out beside them.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.data_units import unit_data
from genai_prices.types import ModelInfo, Provider
from genai_prices.types import Usage as ReferenceUsage

from spanledger_processor.model import USAGE_CLASSES, Call, Cost, ReportedCost, Usage
from spanledger_processor.pricing import Override, Pricer, explain
from spanledger_processor.pricing.model_names import Candidate
from spanledger_processor.pricing.price_list import Listing, cards
from spanledger_processor.pricing.providers import PROVIDERS
from spanledger_processor.pricing.rate_card import charge
from spanledger_processor.units import USD

MOMENT = datetime(2026, 11, 3, 12, tzinfo=UTC)
AT = int(MOMENT.timestamp()) * 10**9
TEXT = Usage(1000, 100, 0, 0, 0, 0)


def call(model: str, usage: Usage | None = TEXT, **rest: Any) -> Call:
    return Call("otel", **{"kind": "llm", "request_model": model, "usage": usage, **rest})


def price(*args: Any, **rest: Any) -> Cost:
    return Pricer().cost(call(*args, **rest), AT)


def usd(text: str) -> int:
    return int(Decimal(text) * USD)


@pytest.mark.parametrize(
    ("model", "usage", "expected"),
    [
        # gpt-audio: input 2.5, input_audio 32, output 10, output_audio 64
        ("gpt-audio", Usage(2000, 400, 0, 0, 0, 0, input_audio=1800, output_audio=320), "0.07938"),
        ("gpt-audio", Usage(2000, 400, 0, 0, 0, 0, input_audio=0, output_audio=0), "0.009"),
        # gemini-2.5-flash: input 0.3, input_audio 1, cache_read 0.03, cache_audio_read 0.1, output 2.5
        ("gemini-2.5-flash", Usage(20_000, 100, 0, 0, 0, 0, input_audio=19_500), "0.0199"),
        (
            "gemini-2.5-flash",
            Usage(20_000, 100, 10_000, 0, 0, 0, input_audio=15_000, cache_read_audio=8_000),
            "0.00901",  # 3,000 x 0.3 + 2,000 x 0.03 + 7,000 x 1 + 8,000 x 0.1 + 100 x 2.5
        ),
        # gpt-image-1.5: input 5, input_image 8, cache_read 1.25, cache_image_read 2, output 10, output_image 32
        (
            "gpt-image-1.5",
            Usage(1000, 500, 300, 0, 0, 0, input_image=800, cache_read_image=200, output_image=400),
            "0.019625",  # 100 x 5 + 600 x 8 + 100 x 1.25 + 200 x 2 + 100 x 10 + 400 x 32
        ),
        # claude-sonnet-4-6: input 3, output 15, web searches 10 a thousand
        ("claude-sonnet-4-6", Usage(9548, 528, 0, 0, 0, 0, web_searches=2), "0.056564"),
        # gpt-5: input 1.25, output 10, web searches 10, searches in files 2.5 a thousand
        ("gpt-5", Usage(1000, 100, 0, 0, 0, 0, web_searches=1, file_searches=4), "0.02225"),
    ],
)
def test_what_is_told_is_priced_at_its_own_rate(model: str, usage: Usage, expected: str) -> None:
    cost = price(model, usage)
    assert (cost.amount, cost.source) == (usd(expected), "computed")
    assert not cost.estimate
    assert cost.input + cost.cache_read + cost.cache_write + cost.output + cost.other == cost.computed


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini"])
def test_searches_of_openais_models_that_do_not_reason_have_several_prices(model: str) -> None:
    """https://platform.openai.com/docs/pricing: by the tool's version; minis are charged 8,000 tokens for each, too."""
    cost = price(model, replace(TEXT, web_searches=1))
    assert (cost.other, cost.estimate, cost.note) == (usd("0.01"), True, "no sure price for: web searches")
    assert not price(model, replace(TEXT, web_searches=0, file_searches=1)).estimate


def test_searches_by_perplexitys_agent_api_have_two_prices() -> None:
    """The list's comment: $2.50 or $1 for 1,000, and the count of a response does not say which."""
    cost = price("perplexity/sonar", replace(TEXT, web_searches=1), provider="perplexity")
    assert (cost.other, cost.estimate, cost.note) == (usd("0.0025"), True, "no sure price for: web searches")


@pytest.mark.parametrize("seller", ["cloudflare", "databricks", "zhipuai"])
def test_a_seller_whose_price_goes_by_more_than_a_call_tells_is_an_estimate(seller: str) -> None:
    """`Provider.price_comments` says what the list's prices leave out."""
    listed = next(one.models for one in PROVIDERS if one.id == seller)
    priced = [cost for model in listed if (cost := price(model.id, provider=seller)).amount]
    assert priced
    assert all(cost.estimate for cost in priced)


def test_a_model_that_is_sold_by_the_hour_beside_its_tokens_is_an_estimate() -> None:
    priced = {
        model.id: cost
        for seller in PROVIDERS
        for model in seller.models
        if any(key.endswith("audio_hours") for key in vars(model.get_prices(MOMENT)))
        if (cost := price(model.id, provider=seller.id)).amount
    }
    assert priced.keys() >= {"eleven_realtime_v1_max", "eleven_realtime_v1_mini"}
    assert all(cost.estimate for cost in priced.values())


def test_fees_by_the_call_are_in_other() -> None:
    assert price("claude-sonnet-4-6", replace(TEXT, web_searches=2)).other == usd("0.02")
    assert price("gpt-4.1", replace(TEXT, web_searches=1, file_searches=4)).other == usd("0.02")


@pytest.mark.parametrize(
    ("model", "usage", "named"),
    [
        ("claude-sonnet-4-6", replace(TEXT, input_audio=10), "input audio"),
        ("claude-sonnet-4-6", replace(TEXT, input_image=10), "input image"),
        ("gpt-4o", replace(TEXT, output_audio=10), "output audio"),
        ("gpt-4o", Usage(1000, 100, 50, 0, 0, 0, input_audio=10, cache_read_audio=5), "cache read audio"),
        ("gpt-5.1", replace(TEXT, output_image=10), "output image"),
        ("deepseek-chat", replace(TEXT, web_searches=1), "web searches"),
        ("claude-sonnet-4-6", replace(TEXT, file_searches=1), "file searches"),
        ("claude-sonnet-4-6", replace(TEXT, search_units=1), "search units"),
    ],
)
def test_what_the_list_has_no_rate_for_is_an_estimate_that_says_so(model: str, usage: Usage, named: str) -> None:
    cost = price(model, usage)
    assert cost.estimate
    assert named in cost.note
    assert cost.amount is not None
    without = price(model)
    assert not without.estimate
    assert without.note == ""


@pytest.mark.parametrize(
    ("model", "given", "estimate"),
    [
        ("gpt-4o-transcribe", {}, True),  # 2.5 a million of text, 6 of sound
        ("gpt-4o-transcribe", {"input_audio": 0}, False),
        ("gpt-4o-mini-transcribe", {}, True),
        ("gpt-4o-mini-transcribe", {"input_audio": 1000}, False),
        ("gpt-realtime", {"output_audio": 0}, True),
        ("gpt-realtime", {"input_audio": 0, "output_audio": 0}, False),
        ("gpt-4o-audio-preview", {"output_audio": 0}, True),
        ("gpt-4o-audio-preview", {"input_audio": 0}, True),
        ("gpt-4o-mini-tts", {}, False),  # it writes sound only, which is what its output costs
        ("gemini-2.5-flash", {}, False),
    ],
)
def test_a_model_that_hears_and_does_not_say_what_leaves_a_doubt(
    model: str, given: dict[str, int], *, estimate: bool
) -> None:
    assert price(model, replace(TEXT, **given)).estimate is estimate


def test_what_has_no_class_is_an_estimate_that_says_so() -> None:
    cost = price("claude-sonnet-4-6", unclassed=("code executions",))
    assert (cost.amount, cost.estimate) == (price("claude-sonnet-4-6").amount, True)
    assert "code executions" in cost.note


def test_cached_sound_that_nobody_tells_is_as_much_as_the_counts_force() -> None:
    """800 of sound and 600 from the cache in an input of 1,000: 400 at least were both."""
    usage = Usage(1000, 0, 600, 0, 0, 0, input_audio=800)
    cost = price("gemini-2.5-flash", usage)
    least = price("gemini-2.5-flash", replace(usage, cache_read_audio=400))
    assert cost.amount == least.amount == usd("0.000446")  # 200 x 0.03 + 400 x 0.1 + 400 x 1
    assert cost.estimate
    assert not least.estimate
    assert price("gemini-2.5-flash", Usage(1000, 0, 0, 0, 0, 0, input_audio=1200)).unpriced == "inconsistent_usage"
    assert price("gemini-2.5-flash", replace(usage, cache_read_audio=900)).unpriced == "inconsistent_usage"


def test_searches_by_google_may_be_within_an_allowance_and_gemini_2_counts_prompts() -> None:
    """https://ai.google.dev/gemini-api/docs/pricing: some are free; Gemini 2 counts prompts, Gemini 3 queries."""
    by_prompt = price("gemini-2.5-flash", replace(TEXT, web_searches=3), provider="google")
    assert (by_prompt.other, by_prompt.estimate) == (usd("0.035"), True)
    by_query = price("gemini-3-flash-preview", replace(TEXT, web_searches=3), provider="google")
    assert (by_query.other, by_query.estimate) == (usd("0.042"), True)
    assert not price("gemini-3-flash-preview", replace(TEXT, web_searches=0), provider="google").estimate


def test_rankings_are_sold_by_search_units_or_not_at_all() -> None:
    """genai-prices 0.2.3 has the unit (rerank_searches_kcount) and no model with a price for it."""
    ranking = {"kind": "rerank", "provider": "cohere"}
    for usage in (None, Usage(), Usage(search_units=1)):
        cost = price("rerank-v3.5", usage, **ranking)
        assert cost.amount is None
        assert cost.unpriced in ("no_usage", "unknown_model")
    given = price("rerank-v3.5", Usage(search_units=1), **ranking, reported=ReportedCost(usd("0.002"), False, "k"))
    assert (given.amount, given.source) == (usd("0.002"), "reported")


def _reference(provider: Provider, model: ModelInfo, usage: Usage) -> Decimal | None:
    names = {unit["price_key"]: name for name, unit in unit_data.items()}
    counts = ReferenceUsage(**{names[one.price]: getattr(usage, one.name) for one in USAGE_CLASSES})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.calc_price(counts, provider, genai_request_timestamp=MOMENT).total_price


MORE = [one.name for one in USAGE_CLASSES[6:]]


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.id)
def test_whatever_is_told_that_changes_the_lists_price_changes_ours_or_marks_it(provider: Provider) -> None:
    """Every model of the list with every class on top of the same call."""
    plain = Usage(1_000_000, 100_000, 100_000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    for model in provider.models:
        listing = Listing(Candidate(provider.id, model.id, ""), provider, model)
        card = cards(listing, MOMENT.date(), ())[-1][1]
        if card is None or isinstance(charge(call("x", plain), card, card.base), str):
            continue
        before = charge(call("x", plain), card, card.base)
        for name in MORE:
            usage = replace(plain, **{name: 1000})
            if name.startswith("cache_read_"):
                usage = replace(usage, **{name.replace("cache_read_", "input_"): 1000})
            after = charge(call("x", usage), card, card.base)
            assert not isinstance(after, str), (model.id, name)
            assert not isinstance(before, str)
            listed = _reference(provider, model, usage) != _reference(provider, model, plain)
            marked = card.is_estimate(call("x", usage), after[0], card.base)
            assert not listed or sum(after[1]) != sum(before[1]) or marked, (model.id, name)


# -- whose money


def reported(text: str, **more: Any) -> ReportedCost:
    return ReportedCost(usd(text), **{"billed": True, "key": "usage.cost", **more})


OPUS = {"provider": "openrouter", "usage": Usage(9171, 113, 0, 0, 0, 0)}
"""claude-opus-4.5 on OpenRouter: 9,171 x 5 + 113 x 25 per million = 0.04868."""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # https://openrouter.ai/docs/use-cases/byok: with one's own key the cost is the fee, 5 %, and the provider's
        # charge stands in cost_details.upstream_inference_cost
        (reported("0.002434", upstream=usd("0.04868"), own_key=True), ("0.051114", False)),
        (reported("0", upstream=usd("0.04868"), own_key=True), ("0.04868", False)),
        (reported("0", upstream=usd("0.04868")), ("0.04868", False)),
        (reported("0.002434", upstream=usd("0.04868")), ("0.051114", True)),  # no word of a key: a fee by its size
        (reported("0.04868", upstream=usd("0.04868")), ("0.04868", False)),
        (reported("0.04868", upstream=usd("0.04868"), own_key=False), ("0.04868", False)),
        (reported("0.002434", own_key=True), ("0.051114", True)),  # our price and the fee
        (reported("0"), ("0.04868", True)),
    ],
)
def test_with_ones_own_key_the_providers_charge_counts_and_the_fee(
    given: ReportedCost, expected: tuple[str, bool]
) -> None:
    cost = price("anthropic/claude-opus-4.5", **OPUS, reported=given)
    assert (cost.amount, cost.estimate) == (usd(expected[0]), expected[1])
    assert cost.computed == usd("0.04868")
    assert cost.reported == given.amount


def test_a_charge_of_nothing_needs_a_reason() -> None:
    nothing = reported("0")
    unexplained = price("claude-sonnet-4-6", reported=nothing)
    assert (unexplained.amount, unexplained.source, unexplained.estimate) == (usd("0.0045"), "computed", True)
    assert "without a reason" in unexplained.note
    free = price("deepseek/deepseek-r1:free", provider="openrouter", reported=nothing)
    assert (free.amount, free.source, free.estimate) == (0, "billed", False)
    covered = price("claude-sonnet-4-6", reported=nothing, plan="subscription")
    assert (covered.amount, covered.source, covered.estimate) == (0, "billed", False)
    cached = price("claude-sonnet-4-6", reported=nothing, response_cache=True)
    assert (cached.amount, cached.source, cached.estimate) == (0, "response_cache", False)
    unused = price("claude-sonnet-4-6", Usage(0, 0, 0, 0, 0, 0), reported=nothing)
    assert (unused.amount, unused.source, unused.estimate) == (0, "billed", False)
    unlisted = price("my-llama", reported=nothing)
    assert (unlisted.amount, unlisted.source, unlisted.estimate) == (0, "billed", True)


@pytest.mark.parametrize(
    ("given", "more", "sure"),
    [
        (reported("0.002434"), {}, False),  # 5 %: https://openrouter.ai/docs/use-cases/byok
        (reported("0.0122"), {}, True),  # a quarter: within what sellers of one model differ by
        (reported("0.5"), {}, True),  # what the one that charges adds, it knows
        (reported("0.002434", own_key=False), {}, True),
        (reported("0.002434"), {"plan": "subscription"}, True),
    ],
)
def test_a_charge_far_below_our_price_needs_a_reason(given: ReportedCost, more: dict[str, Any], *, sure: bool) -> None:
    cost = price("anthropic/claude-opus-4.5", **OPUS, **more, reported=given)
    assert (cost.amount, cost.source, cost.estimate) == (given.amount, "billed", not sure)
    assert bool(cost.note) is not sure


def test_a_charge_far_below_our_price_for_a_model_that_is_free_has_its_reason() -> None:
    cost = price("deepseek/deepseek-r1:free", provider="openrouter", reported=reported("0.0000001"))
    assert (cost.source, cost.estimate) == ("billed", False)


def test_with_ones_own_key_and_no_price_nothing_is_known() -> None:
    cost = price("my-llama", reported=reported("0.01", own_key=True))
    assert (cost.amount, cost.unpriced, cost.reported) == (None, "unknown_model", usd("0.01"))


@pytest.mark.parametrize("plan", ["subscription", "provisioned"])
def test_what_a_plan_covers_costs_nothing_and_says_what_it_would_have_cost(plan: Any) -> None:
    for given in (None, reported("0"), reported("0.0045", billed=False)):
        cost = price("claude-sonnet-4-6", plan=plan, reported=given)
        assert (cost.amount, cost.source, cost.computed) == (0, "billed", usd("0.0045"))
        assert plan.removesuffix("ed") in cost.note
        assert not cost.estimate
    beyond = price("claude-sonnet-4-6", plan=plan, reported=reported("0.02"))
    assert (beyond.amount, beyond.source) == (usd("0.02"), "billed")
    assert price("my-llama", plan=plan).amount == 0


def test_provisioned_throughput_covers_no_searches() -> None:
    """https://cloud.google.com/vertex-ai/generative-ai/pricing: grounding is charged by the prompt or the query.

    gemini-2.5-flash: 35 for 1,000 prompts with searches.
    """
    searched = replace(TEXT, web_searches=2)
    cost = price("gemini-2.5-flash", searched, provider="gcp.vertex_ai", plan="provisioned")
    assert (cost.amount, cost.source, cost.estimate) == (usd("0.035"), "computed", True)
    assert "provisioned" in cost.note
    assert price("gemini-2.5-flash", searched, provider="gcp.vertex_ai", plan="subscription").amount == 0


def test_what_a_seller_of_seats_lists_no_price_for_would_have_cost_what_its_maker_asks() -> None:
    """GitHub Copilot's entry for gpt-4o in the list is empty: the price is the seat's. OpenAI's: 2.5 and 10."""
    cost = price("gpt-4o", provider="github-copilot", plan="subscription")
    assert (cost.amount, cost.source, cost.computed) == (0, "billed", usd("0.0035"))
    assert "/openai/" in cost.price
    assert price("gpt-4o", provider="github-copilot").unpriced == "unknown_model"


def test_a_plans_explanation_adds_up_at_the_makers_rates() -> None:
    covered = call("gpt-4o", provider="github-copilot", plan="subscription")
    explained = explain(covered, AT, Pricer())
    assert sum(line.amount for line in explained.lines) == explained.cost.computed == usd("0.0035")
    assert "/openai/gpt-4o" in explained.names[1]


def test_amounts_from_the_network_may_be_anything() -> None:
    """Beyond what a double holds, or negative: no amount of ours is, and nothing breaks."""
    huge = 10**400
    assert price("claude-sonnet-4-6", reported=ReportedCost(huge, False, "k")).estimate
    assert price("claude-sonnet-4-6", reported=ReportedCost(huge, True, "k")).amount == huge
    owed = price("claude-sonnet-4-6", reported=ReportedCost(0, True, "k", upstream=-5, own_key=True))
    assert (owed.amount, owed.estimate) == (usd("0.0045"), True)


def test_an_answer_from_a_cache_costs_nothing_whatever_else_is_told() -> None:
    for given in (None, reported("0.5"), reported("0", billed=False)):
        for model in ("claude-sonnet-4-6", "my-llama"):
            cost = price(model, reported=given, response_cache=True)
            assert (cost.amount, cost.source, cost.unpriced) == (0, "response_cache", None)
    assert price("claude-sonnet-4-6", None, response_cache=True).amount == 0


@pytest.mark.parametrize(
    "expected",
    [("0.0045", False), ("0.0067", False), ("0.0031", False), ("0.0068", True), ("0.0029", True), ("0", False)],
)
def test_a_librarys_cost_that_is_far_from_ours_marks_it(expected: tuple[str, bool]) -> None:
    """0.0045 is ours: 1.5 times more or less trips. 0 is what libraries write that know no price: it says nothing."""
    theirs, estimate = expected
    cost = price("claude-sonnet-4-6", reported=reported(theirs, billed=False))
    assert (cost.amount, cost.source, cost.estimate) == (usd("0.0045"), "computed", estimate)
    unreliable = price("claude-sonnet-4-6", reported=reported(theirs, billed=False, reliable=False))
    assert not unreliable.estimate


@pytest.mark.parametrize(
    ("theirs", "expected", "estimate"),
    [
        ("0.00225", "0.00225", False),
        ("0.001125", "0.001125", True),  # flex
        ("0.0045", "0.0045", True),  # priority
        ("0.00112500001", "0.001125", True),  # flex, rounded elsewhere: 10 picodollars
        ("0.001125000011", "0.00225", True),  # no tier's
        ("0.001126", "0.00225", True),  # no tier's
    ],
)
def test_a_cost_by_our_own_list_shows_the_tier(theirs: str, expected: str, *, estimate: bool) -> None:
    """gpt-5.1: 1.25 and 10; flex 0.625 and 5, priority 2.5 and 20. Pydantic AI multiplies by genai-prices as well."""
    given = reported(theirs, billed=False, same_list=True)
    cost = price("gpt-5.1", reported=given)
    assert (cost.amount, cost.source, cost.estimate) == (usd(expected), "computed", estimate)
    assert cost.reported == usd(theirs)
    chosen = price("gpt-5.1", reported=given, price_context=(("service_tier", "flex"),))
    assert chosen.amount == usd("0.001125")
    assert price("gpt-5.1", reported=reported("0.0045", billed=False)).amount == usd("0.00225")


# -- tiers and regions


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        # claude-opus-4-8: 5 and 25, fast 10 and 50
        ((), ("0.0075", False)),
        ((("speed", "fast"),), ("0.015", False)),
        ((("speed", "standard"),), ("0.0075", False)),
        ((("inference_geo", "global"),), ("0.0075", False)),
        ((("inference_geo", "us"),), ("0.0075", True)),  # 1.1 times as much by Anthropic's page; the list has no word
        ((("region", "eu"),), ("0.0075", True)),
        ((("service_tier", "on_demand"),), ("0.0075", False)),
    ],
)
def test_what_was_served_is_priced_or_marked(context: tuple[tuple[str, str], ...], expected: tuple[str, bool]) -> None:
    cost = price("claude-opus-4-8", provider="anthropic", price_context=context)
    assert (cost.amount, cost.estimate) == (usd(expected[0]), expected[1])


def test_an_override_says_nothing_of_what_it_does_not_name() -> None:
    """Sound is then plain input, searches are free, and both are an estimate."""
    pricer = Pricer([Override("acme-1", input=Decimal(2), output=Decimal(4), cache_read=Decimal(1))])
    cost = pricer.cost(call("acme-1", replace(TEXT, input_audio=500, web_searches=3)), AT)
    assert (cost.amount, cost.estimate) == (usd("0.0024"), True)
    assert cost.note == "no sure price for: input audio, web searches"


def test_an_override_prices_what_the_list_has_no_price_for() -> None:
    pricer = Pricer(
        [
            Override("acme-1", input=Decimal(2), output=Decimal(4), classes={"input_audio": Decimal(20)}),
            Override("rerank-*", classes={"search_units": Decimal(2)}),
        ]
    )
    usage = Usage(1000, 100, 0, 0, 0, 0, input_audio=500)
    spoken = pricer.cost(call("acme-1", usage), AT)
    assert (spoken.amount, spoken.estimate) == (usd("0.0114"), False)  # 500 x 2 + 500 x 20 + 100 x 4 per million
    ranked = pricer.cost(call("rerank-v3.5", Usage(search_units=3), kind="rerank", provider="cohere"), AT)
    assert (ranked.amount, ranked.other, ranked.estimate) == (usd("0.006"), usd("0.006"), False)
    with pytest.raises(ValueError, match="acme: no usage class"):
        Override("acme-1", classes={"acme": Decimal(1)})


def test_an_explanation_names_every_class() -> None:
    given = call("gpt-4.1", replace(TEXT, web_searches=1, input_audio=200))
    lines = explain(given, AT, Pricer()).text()
    assert "input audio               200 x $2.00 / MTok = $0.0004" in lines
    assert "web searches                1 x $10.00 / 1000 searches = $0.01" in lines


def test_search_units_of_a_model_that_is_not_sold_by_them_have_no_price() -> None:
    assert price("gpt-4o", Usage(search_units=3), kind="rerank").unpriced == "no_usage"
