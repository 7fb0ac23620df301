"""Our arithmetic against genai-prices' own `calc_price`: slow, and it remembers every name, but it is the reference."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import genai_prices
import pytest
from genai_prices import Usage as ReferenceUsage
from genai_prices import calc_price
from genai_prices.data_units import unit_data
from genai_prices.types import ModelInfo, Provider, TieredPrices
from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger_processor.model import USAGE_CLASSES, Call, Granularity, Usage
from spanledger_processor.pricing import Pricer, price_list
from spanledger_processor.pricing.model_names import Candidate
from spanledger_processor.pricing.price_list import Listing, cards, holds_since
from spanledger_processor.pricing.providers import PROVIDERS
from spanledger_processor.pricing.rate_card import Card, charge
from spanledger_processor.units import USD

PARTS = len(USAGE_CLASSES) + 1
MODELS = [
    ("anthropic", "claude-sonnet-4-5"),  # a tier, writes for an hour
    ("anthropic", "claude-opus-4-6"),  # a tier that ended, batch and fast
    ("anthropic", "claude-haiku-5-5"),
    ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ("google", "claude-sonnet-4-5@20250929"),
    ("google", "gemini-2.5-pro"),
    ("openai", "gpt-5.5"),
    ("openai", "o3"),  # dated, flex, priority
    ("openai", "gpt-4"),  # no rate for the cache
    ("openai", "text-embedding-3-small"),  # no output
    ("azure", "gpt-4o"),  # by way of another provider's list
    ("deepseek", "deepseek-v4-pro"),  # by the time of the day
    ("perplexity", "sonar"),  # by the request
    ("perplexity", "sonar-deep-research"),  # reasoning at a rate of its own
    ("google", "gemini-2.5-flash"),  # sound in the input and in the cache
    ("google", "gemini-3-flash-preview"),  # and searches
    ("openai", "gpt-audio"),  # sound in the output
    ("openai", "gpt-realtime"),  # all of them
    ("openai", "gpt-image-1.5"),  # pictures
    ("openai", "gpt-4.1"),  # searches in the web and in files
]
CONTEXTS: list[tuple[tuple[str, str], ...]] = [
    (),
    (("service_tier", "flex"),),
    (("service_tier", "priority"),),
    (("processing", "batch"),),
    (("speed", "fast"),),
    (("service_tier", "unheard-of"),),
    (("service_tier", "priority"), ("processing", "batch")),
]
TOKENS = st.one_of(st.integers(0, 1000), st.sampled_from([199_999, 200_000, 200_001, 272_000]), st.integers(0, 10**9))
FOUR_YEARS = 4 * 365 * 86_400 * 10**6
MOMENTS = st.integers(0, FOUR_YEARS).map(lambda us: datetime(2023, 1, 1, tzinfo=UTC) + timedelta(microseconds=us))
PRICER = Pricer()


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Every class told, each token in one of the finest: of one kind, and new, read, written or written for an hour."""
    text, audio, image, short, hour, read, read_audio, read_image = (draw(TOKENS) for _ in range(8))
    output, reasoning, output_audio, output_image = (draw(TOKENS) for _ in range(4))
    cached, written = read + read_audio + read_image, short + hour
    return Usage(
        input=text + audio + image + cached + written,
        output=output + reasoning + output_audio + output_image,
        cache_read=cached,
        cache_write=written,
        cache_write_1h=hour,
        reasoning=reasoning,
        input_audio=audio + read_audio,
        input_image=image + read_image,
        cache_read_audio=read_audio,
        cache_read_image=read_image,
        output_audio=output_audio,
        output_image=output_image,
        web_searches=draw(st.integers(0, 50)),
        search_units=draw(st.integers(0, 50)),
        file_searches=draw(st.integers(0, 50)),
    )


def ns(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def reference_usage(usage: Usage) -> ReferenceUsage:
    """The same counts under the reference's names, which its table of units has beside the keys of the prices."""
    names = {unit["price_key"]: name for name, unit in unit_data.items()}
    return ReferenceUsage(**{names[one.price]: getattr(usage, one.name) for one in USAGE_CLASSES})


def is_close(amount: int | None, reference: Decimal) -> bool:
    return amount is not None and abs(amount - Fraction(reference) * USD) <= PARTS


@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(MODELS), usage=usages(), moment=MOMENTS, context=st.sampled_from(CONTEXTS))
def test_every_amount_is_the_reference(
    name: tuple[str, str], usage: Usage, moment: datetime, context: tuple[tuple[str, str], ...]
) -> None:
    provider, model = name
    kind = "embedding" if "embedding" in model else "llm"
    call = Call("otel", kind, provider=provider, request_model=model, usage=usage, price_context=context)  # type: ignore[arg-type]
    cost = PRICER.cost(call, ns(moment))
    if provider == "google" and model.startswith("gemini-2"):
        usage = replace(
            usage, web_searches=min(usage.web_searches or 0, 1)
        )  # by the prompt, the list has no word for it
    reference = calc_price(
        reference_usage(usage),
        model,
        provider_id=provider,
        genai_request_timestamp=moment,
        price_context=dict(context),
    )
    assert is_close(cost.amount, reference.total_price)
    assert is_close(cost.output, reference.output_price)
    assert is_close(cost.input + cost.cache_read + cost.cache_write, reference.input_price)
    assert cost.input + cost.cache_read + cost.cache_write + cost.output + cost.other == cost.computed == cost.amount
    assert cost.price == f"genai-prices@{genai_prices.__version__}/{reference.provider.id}/{reference.model.id}"
    assert min(cost.input, cost.cache_read, cost.cache_write, cost.output, cost.other) >= 0


@pytest.mark.parametrize("name", ["anthropic/claude-sonnet-4-5", "google/gemini-2.5-pro", "openai/gpt-5.5"])
@pytest.mark.parametrize("granularity", ["per-message", "per-turn"])
def test_a_threshold_itself_is_below_its_tier(name: str, granularity: Granularity) -> None:
    """Of the call's whole input, caches included, to the token; a sum of calls has the rates below."""
    moment = datetime(2026, 11, 3, 12, tzinfo=UTC)
    seller, model = name.split("/")
    provider = next(one for one in PROVIDERS if one.id == seller)
    listed = next(one for one in provider.models if one.id == model).get_prices(moment)
    assert isinstance(listed.input_mtok, TieredPrices)
    start = listed.input_mtok.tiers[0].start
    amounts = []
    for total in (start, start + 1):
        usage = Usage(total, 1_000, 10_000)
        call = Call("otel", "llm", provider=provider.id, request_model=model, usage=usage, granularity=granularity)
        amounts.append(PRICER.cost(call, ns(moment)).computed)
        if granularity == "per-message" or total == start:
            reference = calc_price(
                ReferenceUsage(input_tokens=total, output_tokens=1_000, cache_read_tokens=10_000),
                model,
                provider_id=provider.id,
                genai_request_timestamp=moment,
            )
            assert is_close(amounts[-1], reference.total_price)
    below, above = amounts
    assert below is not None
    assert above is not None
    assert (above > 1.2 * below) is (granularity == "per-message")


USAGE = Usage(1_234_567, 7_654, 345_678, 98_765, 4_321, 1_111, 222_222, 33_333, 4_444, 5_555, 666, 777, 1, 8, 9)
DAYS = [datetime(2024, 6, 1, 3, tzinfo=UTC), datetime(2026, 11, 3, 12, tzinfo=UTC)]


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.id)
def test_every_model_of_the_list_agrees_or_has_no_price(provider: Provider) -> None:
    """Whatever the shape of an entry: the reference's amount, or none, and that only where it prices no tokens."""
    for model in provider.models:
        for moment in DAYS:
            check(provider, model, moment)


def check(provider: Provider, model: ModelInfo, moment: datetime) -> None:
    listing = Listing(Candidate(provider.id, model.id, ""), provider, model)
    found = cards(listing, moment.date(), ())
    card = [card for start, card in found if start <= ns(moment) % (86_400 * 10**9)][-1]
    listed = {key for key, value in vars(model.get_prices(moment)).items() if value is not None}
    if card is None:
        assert not {"input_mtok", "output_mtok"} & listed, model.id
        return
    call = Call("otel", "llm", usage=USAGE)
    charged = charge(call, card, card.rates("per-message", USAGE.input or 0))
    if charged == "unknown_model":
        assert not {"input_mtok", "output_mtok"} <= listed, model.id
        call.kind = "embedding"
        charged = charge(call, card, card.rates("per-message", USAGE.input or 0))
    if not listed:
        assert model.id.endswith(":free")
    if charged == "unknown_model":
        assert "input_mtok" not in listed, model.id
        return
    assert isinstance(charged, tuple)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reference = model.calc_price(reference_usage(USAGE), provider, genai_request_timestamp=moment)
    assert is_close(sum(charged[1]), reference.total_price), model.id


def test_prices_of_a_day_are_those_of_the_day_since_which_they_hold() -> None:
    dated = 0
    for provider in PROVIDERS:
        for model in provider.models:
            listing = Listing(Candidate(provider.id, model.id, ""), provider, model)
            for day in (date(1970, 1, 1), date(2025, 6, 9), date(2026, 10, 13), date(2026, 10, 14), date(2027, 1, 31)):
                since = holds_since(listing, day)
                dated += since > date(1970, 1, 1)
                for context in CONTEXTS[:3] if since != day else ():
                    assert cards(listing, since, context) == cards(listing, day, context)
    assert dated > 100


def test_a_card_is_compiled_once_for_all_days_on_which_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[date] = []

    def counting(listing: Listing, day: date, context: tuple[tuple[str, str], ...]) -> list[tuple[int, Card | None]]:
        compiled.append(day)
        return cards(listing, day, context)

    monkeypatch.setattr(price_list, "cards", counting)
    pricer, call = Pricer(), Call("otel", "llm", provider="openai", request_model="gpt-4o", usage=Usage(10, 10))
    costs = [pricer.cost(call, day * 86_400 * 10**9) for day in range(20_000, 20_020)]
    assert len(compiled) == 1
    assert costs == costs[:1] * 20
