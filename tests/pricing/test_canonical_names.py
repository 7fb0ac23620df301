"""One name for one model: only vendor prefix, region, deployment date and context tag may differ.

docs/contract.md#one-call-or-two
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.pricing import canonical_model, one_model
from spanledger_processor.pricing.providers import PROVIDERS

NAMES = {
    # https://docs.anthropic.com/en/docs/about-claude/models/overview: names at Anthropic, Bedrock and Vertex AI
    "claude-sonnet-4-5": (
        "claude-sonnet-4-5-20250929",
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "claude-sonnet-4-5-20250929-v1:0",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "bedrock/us-east-1/anthropic.claude-sonnet-4-5-20250929-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "claude-sonnet-4-5@20250929",
        "publishers/anthropic/models/claude-sonnet-4-5@20250929",
        "anthropic/claude-sonnet-4.5",
        "anthropic:claude-sonnet-4-5",
        "openrouter/anthropic/claude-sonnet-4.5",
        "claude-sonnet-4-5[1m]",
        " Claude-Sonnet-4-5 ",
    ),
    "claude-opus-4-7": ("claude-opus-4-7[1m]", "claude-opus-4.7"),
    "claude-3-5-sonnet": (
        "claude-3-5-sonnet-20241022",
        "claude-3-5-sonnet-latest",
        "claude-3-5-sonnet-v2@20241022",
        "anthropic.claude-3-5-sonnet-20241022-v2:0",
        "claude-3-5-sonnet-20241022-v2:0",
    ),
    # https://platform.openai.com/docs/models
    "gpt-4o": (
        "gpt-4o-2024-08-06",
        "azure/gpt-4o",
        "azure/gpt-4o-2024-11-20",
        "azure_ai/gpt-4o",
        "openai:gpt-4o",
        "openai/gpt-4o-2024-11-20",
    ),
    "gpt-4": ("gpt-4-0613", "gpt-4-0314"),
    "gpt-4.1-mini": ("gpt-4.1-mini-2025-04-14",),
    # https://ai.google.dev/gemini-api/docs/models
    "gemini-2.0-flash": ("gemini-2.0-flash-001", "models/gemini-2.0-flash", "google-gla:gemini-2.0-flash"),
    # https://docs.mistral.ai/getting-started/models/models_overview/
    "mistral-small": ("mistral-small-latest", "mistral-small-2506", "mistral/mistral-small-2506"),
    "open-mistral-nemo": ("open-mistral-nemo-2407",),
    "codestral": ("codestral-2501", "codestral-latest"),
    "nova-lite": ("us.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0", "nova-lite-v1:0"),
    "llama-3.3-70b-instruct": ("meta-llama/Llama-3.3-70B-Instruct",),
    "llama3.2:1b": ("ollama/llama3.2:1b", "llama3.2:1b"),
    "ft:gpt-4o-mini:acme::abc": ("ft:gpt-4o-mini:acme::abc",),
}

DIFFERENT = [
    ("gpt-4o", "gpt-4o-mini"),
    ("gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"),
    ("gpt-4", "gpt-4o"),
    ("gpt-4", "gpt-4-turbo"),
    ("gpt-4.1", "gpt-4.1-mini"),
    ("gpt-5", "gpt-5-pro"),
    ("gpt-4o", "gpt-4o-audio-preview"),
    ("gpt-4o", "chatgpt-4o-latest"),
    ("o3", "o3-mini"),
    ("claude-sonnet-4", "claude-sonnet-4-5"),
    ("claude-sonnet-4-20250514", "claude-sonnet-4-5-20250929"),
    ("us.anthropic.claude-sonnet-4-20250514-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ("gemini-2.5-flash", "gemini-2.5-flash-lite"),
    ("gemini-2.5-flash", "gemini-2.5-pro"),
    ("mistral-large-2407", "mistral-large-2411"),
    ("mistral-small-2506", "mistral-medium-2508"),
    ("qwen3-235b-a22b-2507", "qwen3-235b-a22b"),  # another model, not a deployment of the same
    ("llama3.2:1b", "llama3.2:3b"),
    ("deepseek/deepseek-r1", "deepseek/deepseek-r1:free"),  # two prices
    ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06"),  # both name a date: two deployments
    ("ft:gpt-4o-mini:acme::abc", "gpt-4o-mini"),
    ("amazon.titan-embed-text-v1", "amazon.titan-embed-text-v2:0"),
    ("titan-embed-text-v1", "titan-embed-text-v2:0"),
    ("text-davinci-002", "text-davinci-003"),
    ("gemini-embedding-001", "gemini-embedding-2"),
]


@pytest.mark.parametrize(("name", "spelling"), [(name, one) for name, many in NAMES.items() for one in many])
def test_a_model_has_one_name_however_it_is_spelled(name: str, spelling: str) -> None:
    assert canonical_model(spelling) == name
    assert one_model(name, spelling)
    assert one_model(spelling, name)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_two_models_are_two(one: str, other: str) -> None:
    assert not one_model(one, other)
    assert not one_model(other, one)


def test_a_name_that_is_canonical_stays_as_it_is() -> None:
    """Over every name that the price list has: a canonical name is its own canonical name."""
    for provider in PROVIDERS:
        for model in provider.models:
            name = canonical_model(model.id)
            assert canonical_model(name) == name, model.id
            assert one_model(model.id, model.id)


def test_models_of_one_seller_with_two_prices_stay_apart() -> None:
    """In the whole list: two names of one seller come to one only where a date, a region or a tag sets them apart."""
    for provider in PROVIDERS:
        if provider.id not in ("anthropic", "openai", "google", "mistral", "x-ai", "deepseek"):
            continue
        seen: dict[str, str] = {}
        for model in provider.models:
            other = seen.setdefault(canonical_model(model.id), model.id)
            shorter, longer = sorted((model.id, other), key=len)
            rest = longer.removeprefix(canonical_model(shorter))
            assert model.id == other or not any(letter.isalpha() for letter in rest.replace("latest", "")), (
                model.id,
                other,
            )


@given(st.text(max_size=600))
def test_any_text_has_a_canonical_name(name: str) -> None:
    assert canonical_model(name) == canonical_model(name)
    assert one_model(name, name)
    assert bool(canonical_model(name)) is bool(name[:512].strip(" \t\r\n\"'`")) or "[" in name
