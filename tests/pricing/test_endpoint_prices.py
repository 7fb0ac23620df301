"""Whose price a call has where the library's name is not the seller: against genai-prices' own `provider_api_url`."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage as ReferenceUsage
from genai_prices import calc_price
from hypothesis import given, reject
from hypothesis import strategies as st

from spanledger_processor.dialects.endpoints import endpoint_provider
from spanledger_processor.model import Call, Usage
from spanledger_processor.pricing import Pricer, explain, priced_name, sold_by
from spanledger_processor.pricing.price_list import Override
from spanledger_processor.pricing.providers import PROVIDERS, seller_of
from spanledger_processor.units import USD

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
AT_NS = int(AT.timestamp()) * 10**9
PRICER = Pricer()
NOBODY = "https://gateway.example/v1"
ANTHROPIC_API = "https://api.deepseek.com/anthropic"
"""DeepSeek's form of Anthropic's API: https://api-docs.deepseek.com/guides/anthropic_api."""
VERTEX = "us-central1-aiplatform.googleapis.com"
URLS = {
    "anthropic": "https://api.anthropic.com",
    "aws": "https://bedrock-runtime.us-east-1.amazonaws.com",
    "azure": "https://resource.openai.azure.com",
    "cerebras": "https://api.cerebras.ai/v1",
    "cloudflare": "https://api.cloudflare.com/client/v4/accounts/a/ai/v1",
    "cohere": "https://api.cohere.ai/compatibility/v1",
    "databricks": "https://w.cloud.databricks.com/serving-endpoints",
    "deepseek": "https://api.deepseek.com",
    "fireworks": "https://api.fireworks.ai/inference/v1",
    "github-copilot": "https://api.githubcopilot.com",
    "google": "https://generativelanguage.googleapis.com/v1beta/openai/",
    "groq": "https://api.groq.com/openai/v1",
    "huggingface_together": "https://router.huggingface.co/together/v1",
    "minimax": "https://api.minimax.io/v1",
    "mistral": "https://api.mistral.ai/v1",
    "moonshotai": "https://api.moonshot.ai/v1",
    "novita": "https://api.novita.ai/v3/openai",
    "openrouter": "https://openrouter.ai/api/v1",
    "ovhcloud": "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
    "perplexity": "https://api.perplexity.ai",
    "together": "https://api.together.xyz/v1",
    "x-ai": "https://api.x.ai/v1",
    "zai": "https://api.z.ai/api/paas/v4",
    "zhipuai": "https://open.bigmodel.cn/api/paas/v4",
}
"""Base URLs of OpenAI's API as the sellers' own documents have them."""
SOLD_HERE = {one.id: [model.id for model in one.models] for one in PROVIDERS if one.id in URLS}


def call_to(url: str, model: str, named: str, *, output: int = 100, **more: Any) -> Call:
    usage = Usage(input=1000, output=output, cache_read=0, cache_write=0, cache_write_1h=0, reasoning=0)
    kind = "llm" if output else "embedding"
    return Call(
        "otel",
        kind,  # type: ignore[arg-type]
        provider=named,
        request_model=model,
        usage=usage,
        endpoint_provider=endpoint_provider(url),
        **more,
    )


def test_every_seller_of_the_table_is_in_the_list() -> None:
    assert SOLD_HERE.keys() == URLS.keys()
    assert all(SOLD_HERE.values())


@st.composite
def sold(draw: st.DrawFn) -> tuple[str, str, str]:
    provider = draw(st.sampled_from(sorted(URLS)))
    named = draw(st.sampled_from(("openai", "openai.chat", "anthropic", "litellm", "", "our-platform", provider)))
    return provider, draw(st.sampled_from(SOLD_HERE[provider])), named


@given(sold())
def test_a_call_costs_what_the_list_says_for_the_host_that_was_asked(of: tuple[str, str, str]) -> None:
    provider, model, named = of
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        usage = ReferenceUsage(input_tokens=1000, output_tokens=100)
        try:
            reference = calc_price(usage, model, provider_api_url=URLS[provider], genai_request_timestamp=AT)
        except LookupError:
            reject()  # ids that nothing is called by: AWS's `regional.`
    sells_output = bool(reference.output_price)
    call = call_to(URLS[provider], model, named, output=100 if sells_output else 0)
    cost = PRICER.cost(call, AT_NS)
    expected = round(reference.total_price * USD)
    assert (cost.computed or 0) == expected
    assert (cost.amount is None) == (not expected and cost.unpriced == "unknown_model")
    assert seller_of(sold_by(named, priced_name(call), call.endpoint_provider)) == provider


@pytest.mark.parametrize(
    ("named", "model", "url", "expected", "seller"),
    [
        # Both list it, at prices that differ: the host decides.
        ("openai", "openai/gpt-oss-120b", URLS["groq"], "groq/openai/gpt-oss-120b", "groq"),
        ("openai", "gpt-oss-120b", URLS["cerebras"], "cerebras/gpt-oss-120b", "cerebras"),
        ("openai", "openai/gpt-4o", URLS["openrouter"], "openrouter/openai/gpt-4o", "openrouter"),
        ("anthropic", "anthropic/claude-sonnet-4.5", URLS["openrouter"], "openrouter/anthropic/", "openrouter"),
        # The one that was asked lists it.
        ("openai", "deepseek-v4-flash", URLS["deepseek"], "deepseek/deepseek-v4-flash", "deepseek"),
        ("anthropic", "deepseek-v4-flash", ANTHROPIC_API, "deepseek/deepseek-v4-flash", "deepseek"),
        ("our-platform", "llama-3.3-70b-versatile", URLS["groq"], "groq/llama-3.3-70b-versatile", "groq"),
        ("", "sonar", URLS["perplexity"], "perplexity/sonar", "perplexity"),
        # The one that is named lists it, and was not asked: DeepSeek answers for Claude's names with its own models.
        ("anthropic", "claude-sonnet-4-5", ANTHROPIC_API, "", "deepseek"),
        ("openai", "gpt-4o", URLS["groq"], "", "groq"),
        # Neither does.
        ("openai", "nothing-1", URLS["groq"], "", "groq"),
        # A host of nobody's, or one that says nothing: the name decides, as without it.
        ("openai", "gpt-4o", NOBODY, "openai/gpt-4o", "openai"),
        ("openai", "deepseek-v4-flash", NOBODY, "", "openai"),
        ("anthropic", "claude-sonnet-4-5", "api.openai.com", "anthropic/claude-sonnet-4-5", "anthropic"),
        ("litellm", "claude-sonnet-4-5", "api.openai.com", "anthropic/claude-sonnet-4-5", "anthropic"),
        ("groq", "llama-3.3-70b-versatile", "api.openai.com", "groq/llama-3.3-70b-versatile", "groq"),
        ("openai", "gpt-4o", "https://corp.azure-api.net/openai", "openai/gpt-4o", "openai"),
        # One seller has two names in the conventions.
        ("openai", "gemini-2.5-flash", URLS["google"], "google/gemini-2.5-flash", "gcp.gemini"),
        ("openai", "google/gemini-2.5-flash", VERTEX, "google/gemini-2.5-flash", "gcp.vertex_ai"),
        ("azure.ai.inference", "gpt-4o", "r.services.ai.azure.com", "azure/gpt-4o", "azure.ai.inference"),
        ("openai", "gpt-4o", URLS["azure"], "azure/gpt-4o", "azure.ai.openai"),
        # What the form of a name says stays: no other seller has such names.
        ("anthropic", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", NOBODY, "aws/", "aws.bedrock"),
    ],
)  # fmt: skip
def test_who_sells(named: str, model: str, url: str, expected: str, seller: str) -> None:
    call = call_to(url, model, named)
    cost = PRICER.cost(call, AT_NS)
    assert cost.unpriced == (None if expected else "unknown_model")
    assert cost.price.partition("/")[2].startswith(expected)
    assert sold_by(named, priced_name(call), call.endpoint_provider) == seller


@pytest.mark.parametrize("provider", ["openai", "openai.chat", "deepseek", ""])
def test_a_price_of_ones_own_holds_for_the_provider_named_and_for_the_one_asked(provider: str) -> None:
    pricer = Pricer([Override("deepseek-*", provider=provider, input=Decimal(1), output=Decimal(2), name="own")])
    cost = pricer.cost(call_to(URLS["deepseek"], "deepseek-v4-flash", "openai"), AT_NS)
    assert (cost.price, cost.amount) == ("override/own", USD // 1000 + 2 * USD // 10_000)


def test_an_override_of_a_third_provider_does_not_hold() -> None:
    pricer = Pricer([Override("deepseek-*", provider="groq", input=Decimal(1), name="own")])
    cost = pricer.cost(call_to(URLS["deepseek"], "deepseek-v4-flash", "openai"), AT_NS)
    assert cost.price.endswith("/deepseek/deepseek-v4-flash")


def test_a_plan_of_a_seller_without_a_price_has_that_of_the_models_maker() -> None:
    call = call_to(URLS["groq"], "gpt-4o", "openai", plan="subscription")
    cost = PRICER.cost(call, AT_NS)
    assert cost.amount == 0
    assert cost.price.endswith("/openai/gpt-4o")
    assert explain(call, AT_NS, PRICER).names[-1].startswith(cost.price)


def test_cards_for_log_events_and_usual_calls_are_of_the_seller_that_was_asked() -> None:
    call = call_to(URLS["deepseek"], "deepseek-chat", "openai")
    day = AT_NS // (86_400 * 10**9)
    card, usual = PRICER.card_of(call, AT_NS), PRICER.usual_card(call, day)
    assert card is not None
    assert "/deepseek/" in card.price
    assert usual is None or usual.price == card.price


def test_an_explanation_says_that_the_host_decided() -> None:
    for model, named, url, why in (
        ("openai/gpt-oss-120b", "openai", URLS["groq"], "its host was asked"),
        ("gpt-4o", "openai", URLS["groq"], "its host was asked"),
        ("openai/gpt-oss-120b", "groq", URLS["groq"], "the provider was named"),
        ("gpt-4o", "openai", NOBODY, "the provider was named"),
    ):
        assert why in explain(call_to(url, model, named), AT_NS, PRICER).names[-1]
