"""Names as libraries write them, and where their prices come from. Rows are (provider, model, listing or reason)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from spanledger_processor.model import Call, Usage
from spanledger_processor.pricing import Pricer, sold_by
from spanledger_processor.pricing.model_names import MAKERS
from spanledger_processor.pricing.providers import (
    GATEWAYS,
    LIBRARIES,
    NAMES,
    PROVIDERS,
    provider_key,
    provider_name,
    seller_of,
)

AT = int(datetime(2026, 11, 3, 12, tzinfo=UTC).timestamp()) * 10**9
SONNET = "anthropic/claude-sonnet-4-5"
REGIONAL = "aws/regional.anthropic.claude-sonnet-4-5-20250929-v1:0"
GLOBAL = "aws/global.anthropic.claude-sonnet-4-5-20250929-v1:0"
BEDROCK_ID = "anthropic.claude-sonnet-4-5-20250929-v1:0"
PROFILE = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{BEDROCK_ID}"

MEASURED = [
    # what resolves by itself
    ("", "claude-sonnet-4-5-20250929", SONNET),
    ("", "claude-haiku-4-5-20251001", "anthropic/claude-haiku-4-5"),
    ("", "claude-opus-4-6[1m]", "anthropic/claude-opus-4-6"),
    ("", "claude-sonnet-4-5@20250929", "google/claude-sonnet-4-5"),
    ("", "GPT-4O", "openai/gpt-4o"),
    ("", "gpt-5.2-20251211", "openai/gpt-5.2"),
    # vendor/model
    ("", "anthropic/claude-sonnet-4-5-20250929", SONNET),
    ("", "openai/gpt-5.1", "openai/gpt-5.1"),
    ("", "azure/gpt-4o", "azure/gpt-4o"),
    ("", "google/gemini-2.5-pro", "google/gemini-2.5-pro"),
    ("", "vertex_ai/gemini-2.5-pro", "google/gemini-2.5-pro"),
    ("litellm", "anthropic/claude-sonnet-4-5-20250929", SONNET),
    ("openrouter", "anthropic/claude-sonnet-4.5", "openrouter/anthropic/claude-sonnet-4.5"),
    # Bedrock, with and without the provider
    ("", f"us.{BEDROCK_ID}", REGIONAL),
    ("", f"eu.{BEDROCK_ID}", REGIONAL),
    ("", f"global.{BEDROCK_ID}", GLOBAL),
    ("", PROFILE, REGIONAL),
    ("aws", f"us.{BEDROCK_ID}", REGIONAL),
    ("aws.bedrock", f"us.{BEDROCK_ID}", REGIONAL),
    ("bedrock", PROFILE, REGIONAL),
    # prefixes that a gateway leaves
    ("", "anthropic:claude-opus-4-6", "anthropic/claude-opus-4-6"),
    ("", "mux-gateway:anthropic/claude-opus-4-6", "anthropic/claude-opus-4-6"),
    ("", "ft:gpt-4o-2024-08-06:acme::abc", "openai/ft:gpt-4o"),
    ("openai", "ft:gpt-4o-2024-08-06:acme::abc", "openai/ft:gpt-4o"),
    ("", "models/gemini-2.5-pro", "google/gemini-2.5-pro"),
    ("", "publishers/google/models/gemini-2.5-pro", "google/gemini-2.5-pro"),
    # what nobody can know
    ("", "my-llama-70b", "unknown_model"),
    ("", "llama3.2:latest", "unknown_model"),
    ("azure.ai.openai", "our-deployment", "unknown_model"),
    ("", "", "no_model"),
    ("aws", "claude-sonnet-4-5", "unknown_model"),
    # providers as the conventions name them
    ("anthropic", "claude-sonnet-4-5", SONNET),
    ("gcp.vertex_ai", "claude-sonnet-4-5@20250929", "google/claude-sonnet-4-5"),
    ("gcp.gemini", "gemini-2.5-pro", "google/gemini-2.5-pro"),
    ("gcp.gen_ai", "gemini-2.5-pro", "google/gemini-2.5-pro"),
    ("mistral_ai", "mistral-large-latest", "mistral/mistral-large"),
    ("azure.ai.openai", "gpt-4o", "azure/gpt-4o"),
    ("azure.ai.inference", "gpt-4o", "azure/gpt-4o"),
    ("x_ai", "grok-4", "x-ai/grok-4-0709"),
    ("ibm.watsonx.ai", "granite-3", "unknown_provider"),
    ("mux", "anthropic:claude-sonnet-4-5", SONNET),
]
"""Each case of the measured table."""

SEEN = [
    ("anthropic.messages", "claude-sonnet-4-5", SONNET),
    ("openai.responses", "gpt-5.1-2025-11-13", "openai/gpt-5.1"),
    ("google.vertex.chat", "gemini-2.5-flash", "google/gemini-2.5-flash"),
    ("vertex.anthropic.messages", "claude-sonnet-4-5@20250929", "google/claude-sonnet-4-5"),
    ("amazon-bedrock", f"us.{BEDROCK_ID}", REGIONAL),
    (
        "anthropic-mantle",
        "anthropic.claude-haiku-4-5-20251001-v1:0",
        "aws/regional.anthropic.claude-haiku-4-5-20251001-v1:0",
    ),
    ("openai-mantle", "openai.gpt-oss-120b-1:0", "aws/openai.gpt-oss-120b-1:0"),
    ('"anthropic"', '"claude-sonnet-4-5-20250929"', SONNET),
    (" Anthropic ", "'claude-sonnet-4-5'", SONNET),
    ("strands-agents", f"us.{BEDROCK_ID}", REGIONAL),
    ("langchain", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini"),
    ("gcp.vertex.agent", "gemini-2.5-flash", "google/gemini-2.5-flash"),
    ("microsoft.agent_framework", "gpt-4o-mini", "openai/gpt-4o-mini"),
    ("_OTHER", "gpt-4o-mini", "openai/gpt-4o-mini"),
    ("google-gla", "gemini-2.5-pro", "google/gemini-2.5-pro"),
    ("together_ai", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "together/meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    # the seller is in the name's form, whatever client library was used
    ("anthropic", f"us.{BEDROCK_ID}", REGIONAL),
    ("openai", f"us.{BEDROCK_ID}", REGIONAL),
    ("anthropic", "claude-sonnet-4-5@20250929", "google/claude-sonnet-4-5"),
    ("", f"bedrock/us-east-1/{BEDROCK_ID}", REGIONAL),
    ("", f"bedrock/converse/us.{BEDROCK_ID}", REGIONAL),
    ("litellm", f"bedrock/global.{BEDROCK_ID}", GLOBAL),
    ("", f"bedrock:us.{BEDROCK_ID}", REGIONAL),
    ("our-platform", PROFILE, REGIONAL),
    ("aws.bedrock", "claude-sonnet-4-5-20250929-v1:0", REGIONAL),
    ("openai", "models/gemini-2.5-pro", "google/gemini-2.5-pro"),
    (
        "gcp.vertex_ai",
        "projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro",
        "google/gemini-2.5-pro",
    ),
    # a vendor before the name, one provider behind another's interface
    ("openai", "anthropic/claude-sonnet-4-5", SONNET),
    ("openai", "openai/gpt-4o", "openai/gpt-4o"),
    ("anthropic", "anthropic/claude-sonnet-4-5", SONNET),
    ("", "litellm_proxy/anthropic/claude-sonnet-4-5", SONNET),
    ("", "openrouter/anthropic/claude-sonnet-4.5", "openrouter/anthropic/claude-sonnet-4.5"),
    ("", "openrouter:openai/gpt-4o", "openrouter/openai/gpt-4o"),
    ("azure", "openai/gpt-4o", "azure/gpt-4o"),
    # never somebody else's price
    ("our-platform", "gpt-4o", "unknown_provider"),
    ("openai-compatible.chat", "gpt-4o", "unknown_provider"),
    ("ollama", "mistral:latest", "unknown_provider"),
    # https://docs.oracle.com/en-us/iaas/Content/generative-ai/pretrained-models.htm: names in Bedrock's form, at
    # prices of Oracle's own, which the list has not
    ("oracle_cloud.generative_ai", "cohere.command-r-plus-08-2024", "unknown_provider"),
    ("oracle_cloud.generative_ai", "meta.llama-3.3-70b-instruct", "unknown_provider"),
    ("oracle_cloud.generative_ai", "xai.grok-4", "unknown_provider"),
    ("oracle_cloud.generative_ai", "gpt-4o", "unknown_provider"),
    ("vllm", "anthropic/claude-sonnet-4-5", "unknown_provider"),
    ("anthropic", "gpt-4o", "unknown_model"),
    ("openai", "claude-sonnet-4-5", "unknown_model"),
    ("anthropic", "openai/gpt-4o", "unknown_model"),
    ("openai", "somebody/gpt-4o", "unknown_model"),
    ("openrouter", "somebody/claude-3-opus", "unknown_model"),
    ("", "mistral:latest", "unknown_model"),
    ("", "deepseek-r1:7b", "unknown_model"),
    ("openai", "gpt-oss:20b", "unknown_model"),
    ("", "ollama:gpt-oss:20b", "unknown_model"),
    ("", "ollama/claude-distilled", "unknown_model"),
    ("", "my-provider:grok-4", "unknown_model"),
    ("", '" "', "no_model"),
    ("", "mux:" * 100 + "gpt-4o", "unknown_model"),
    ("", "arn:aws:bedrock:us-east-1:1:application-inference-profile/a1b2c3", "unknown_model"),
]
"""Cases from recordings, other tables' faults and hostile names."""


@pytest.mark.parametrize(("provider", "model", "expected"), MEASURED + SEEN)
def test_a_name_leads_to_the_listing_of_its_seller(provider: str, model: str, expected: str) -> None:
    call = Call("otel", "llm", provider=provider, request_model=model, usage=Usage(1000, 100, 0, 0, 0, 0))
    cost = Pricer().cost(call, AT)
    assert (cost.unpriced or cost.price.partition("/")[2]) == expected


def test_an_answering_model_without_its_vendor_is_the_one_that_was_asked_for() -> None:
    """opentelemetry-instrumentation-openai 0.62.4, `_extract_model_name_from_provider_format`: at a gateway."""
    asked, usage = "anthropic/claude-sonnet-4.5", Usage(1000, 100)
    named = Call("openllmetry", "llm", provider="openai", request_model=asked, response_model=asked, usage=usage)
    for answered in ("claude-sonnet-4.5", ""):
        call = Call("openllmetry", "llm", provider="openai", request_model=asked, response_model=answered, usage=usage)
        assert Pricer().cost(call, AT) == Pricer().cost(named, AT)
        assert Pricer().cost(call, AT).amount == 4_500_000_000  # 3 and 15 USD a million
    other = Call("openllmetry", "llm", provider="openai", request_model=asked, response_model="sonnet-4.5", usage=usage)
    assert Pricer().cost(other, AT).unpriced == "unknown_model"


def test_a_region_of_bedrock_costs_a_tenth_more() -> None:
    def cost(model: str) -> int | None:
        call = Call("otel", "llm", request_model=model, usage=Usage(10**6, 0, 0, 0, 0, 0), granularity="per-turn")
        return Pricer().cost(call, AT).amount

    assert cost("claude-sonnet-4-5") == cost(f"global.{BEDROCK_ID}") == 3 * 10**12
    assert cost(f"us.{BEDROCK_ID}") == 33 * 10**11


def test_a_shortened_bedrock_name_in_the_answer_does_not_lose_the_region() -> None:
    asked, answered = f"global.{BEDROCK_ID}", "claude-sonnet-4-5-20250929-v1:0"
    call = Call("traceloop", "llm", provider="aws.bedrock", request_model=asked, usage=Usage(10, 1, 0, 0, 0, 0))
    call.response_model = answered
    assert Pricer().cost(call, AT).price.endswith(GLOBAL)
    call.request_model = "a-much-longer-name-of-a-deployment"
    assert Pricer().cost(call, AT).price.endswith(REGIONAL)


SPELLINGS = [(name, spelling) for name, row in NAMES.items() for spelling in (name, *row.others)]


@pytest.mark.parametrize(("name", "spelling"), SPELLINGS)
def test_a_spelling_is_written_as_it_is_looked_up_and_means_one_provider(name: str, spelling: str) -> None:
    key = provider_key(spelling)
    assert spelling in (name, key)
    assert seller_of(spelling.upper().replace("-", "_")) == NAMES[name].seller
    assert provider_name(f" '{spelling.upper()}.chat'") == name
    assert [other for other, row in NAMES.items() if key in (provider_key(other), *row.others)] == [name]


@pytest.mark.parametrize(
    ("provider", "name", "seller"),
    [
        ("openai_llm", "openai", "openai"),
        ("openai_responses_llm", "openai", "openai"),
        ("azure_openai_llm", "azure.ai.openai", "azure"),
        ("anthropic_llm", "anthropic", "anthropic"),
        ("bedrock_converse_llm", "aws.bedrock", "aws"),
        ("genai", "gcp.gemini", "google"),
        ("structured_llm", "structured_llm", ""),
        ("custom_llm", "custom_llm", None),
        ("llm", "llm", None),
    ],
)
def test_a_class_of_llamaindex_names_its_seller(provider: str, name: str, seller: str | None) -> None:
    """`class_name` of its integrations, in small letters (`detect_provider_name` of OpenLLMetry 0.62.4)."""
    assert (provider_name(provider), seller_of(provider)) == (name, seller)


def test_the_tables_do_not_contradict_each_other() -> None:
    ids = {provider.id for provider in PROVIDERS}
    sold = {spelling for name, row in NAMES.items() for spelling in (provider_key(name), *row.others)}
    gateways = {spelling for name, others in GATEWAYS.items() for spelling in (name, *others)}
    assert ids >= MAKERS
    assert ids >= {row.seller for row in NAMES.values()}
    assert not LIBRARIES & (ids | sold | gateways)
    assert not gateways & (ids | sold)
    assert all(seller_of(name) == "" for name in LIBRARIES | gateways)
    assert all(seller_of(name) == name for name in ids)


def test_the_names_are_the_well_known_ones_of_the_conventions() -> None:
    # https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
    known = {"openai", "gcp.vertex_ai", "gcp.gemini", "anthropic", "cohere", "azure.ai.inference", "azure.ai.openai"}
    known |= {"ibm.watsonx.ai", "aws.bedrock", "perplexity", "x_ai", "deepseek", "groq", "mistral_ai"}
    assert {provider_name(name) for name in known} == known
    assert provider_name("gcp.gen_ai") == "gcp.gemini", "which of Google's is not told"
    replaced = {  # values of `gen_ai.system`, the same page
        "az.ai.inference": "azure.ai.inference",
        "az.ai.openai": "azure.ai.openai",
        "gemini": "gcp.gemini",
        "vertex_ai": "gcp.vertex_ai",
        "xai": "x_ai",
    }
    assert {name: provider_name(name) for name in replaced} == replaced


LISTED = [
    # https://ai-sdk.dev/providers: what the AI SDK writes as `ai.model.provider`
    ("openai.responses", "gpt-4o", "openai"),
    ("openai.chat", "gpt-4o", "openai"),
    ("google.generative-ai", "gemini-2.5-pro", "gcp.gemini"),
    ("google.vertex.chat", "gemini-2.5-pro", "gcp.vertex_ai"),
    ("gateway", "anthropic/claude-sonnet-4.5", "vercel"),
    # a library, or nobody: the seller whose price the call has
    ("strands-agents", "gpt-4o-mini", "openai"),
    ("", "gpt-4o", "openai"),
    ("unknown", "claude-sonnet-4-5", "anthropic"),
    ("", "vertex_ai/gemini-2.5-pro", "gcp.vertex_ai"),
    ("litellm", "azure/gpt-4o", "azure.ai.openai"),
    ("openai", "anthropic/claude-sonnet-4-5", "anthropic"),
    # the form of the model's name says who sells it
    ("anthropic", BEDROCK_ID, "aws.bedrock"),
    ("google", "publishers/google/models/gemini-2.5-pro", "gcp.vertex_ai"),
    ("vertex_ai", "models/gemini-2.5-pro", "gcp.vertex_ai"),
    ("anthropic", "claude-sonnet-4-5@20250929", "gcp.vertex_ai"),
    # no price: as it was named
    ("MistralAI", "a-model-of-ours", "mistral_ai"),
    ("strands-agents", "a-model-of-ours", "strands-agents"),
    ("Our Platform", "gpt-4o", "Our Platform"),
    ("ollama", "llama3", "ollama"),
    ("", "somebody/gpt-4o", ""),
    ("x" * 600, "gpt-4o", "x" * 600),
    ("openai.chat", "x" * 600, "openai"),
    ("openai.chat", "", "openai"),
]


@pytest.mark.parametrize(("provider", "model", "expected"), LISTED)
def test_sums_have_one_name_for_a_provider(provider: str, model: str, expected: str) -> None:
    assert sold_by(provider, model) == expected
    assert provider_name(expected) == expected, "a name is not read as another"


@pytest.mark.parametrize(("provider", "model", "expected"), MEASURED + SEEN)
def test_the_name_is_that_of_the_seller_whose_price_a_call_has(provider: str, model: str, expected: str) -> None:
    name = sold_by(provider, model)
    seller, separator, _ = expected.partition("/")
    assert seller_of(name) == seller if separator else name == provider_name(provider)
