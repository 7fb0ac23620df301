"""Service tiers and speeds, as pricing knows them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialect_view import chat, read, span
from spanledger_processor.pricing import Pricer


@pytest.mark.parametrize(
    ("key", "value", "context"),
    [
        ("openai.response.service_tier", "flex", (("service_tier", "flex"),)),
        ("openai.response.service_tier", "default", ()),
        ("openai.response.service_tier", "auto", ()),
        ("gen_ai.openai.response.service_tier", "priority", (("service_tier", "priority"),)),
        ("anthropic.response.service_tier", "batch", (("service_tier", "batch"),)),
        ("anthropic.response.service_tier", "standard", ()),
        ("gen_ai.openai.request.service_tier", "FLEX", (("service_tier", "flex"),)),
        ("anthropic.response.speed", "fast", (("speed", "fast"),)),
        ("aws.bedrock.response.service_tier", "priority", (("service_tier", "priority"),)),
        ("gen_ai.usage.inference_geo", "us", (("region", "us"),)),
        ("gen_ai.usage.inference_geo", "global", ()),
        ("openai.response.service_tier", 3, ()),
    ],
)
def test_a_tier_is_handed_to_pricing(key: str, value: Any, context: tuple[tuple[str, str], ...]) -> None:
    assert read(span(chat(input_tokens=1, output_tokens=1) | {key: value})).price_context == context


def test_the_tier_that_answered_beats_the_one_that_was_asked() -> None:
    view = span(
        chat(input_tokens=1, output_tokens=1)
        | {"gen_ai.openai.request.service_tier": "flex", "openai.response.service_tier": "priority"}
    )
    assert read(view).price_context == (("service_tier", "priority"),)


def test_litellms_raw_span_copies_the_tier_of_the_response() -> None:
    """litellm 1.110.2, integrations/opentelemetry.py: `llm.{provider}.{key}` for every key of the response."""
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    view = span({"llm.openai.usage": str(usage), "llm.openai.service_tier": "flex"}, "raw_gen_ai_request")
    assert read(view).price_context == (("service_tier", "flex"),)


def test_claude_codes_fast_mode() -> None:
    view = span(
        {"span.type": "llm_request", "input_tokens": 1, "output_tokens": 1, "speed": "fast"},
        "claude_code.llm_request",
    )
    assert read(view).price_context == (("speed", "fast"),)


OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.token_count.prompt": 100,
    "llm.token_count.completion": 10,
}


@pytest.mark.parametrize(
    ("asked", "answer", "context"),
    [
        ({"model": "gpt-5", "service_tier": "flex"}, None, (("service_tier", "flex"),)),
        ({"extra_body": {"service_tier": "priority"}}, None, (("service_tier", "priority"),)),
        ({"service_tier": "auto"}, None, ()),
        ({"service_tier": "priority"}, {"service_tier": "default"}, ()),
        ({"service_tier": "auto"}, {"service_tier": "flex"}, (("service_tier", "flex"),)),
        ({"speed": "fast", "inference_geo": "us"}, None, (("region", "us"), ("speed", "fast"))),
        ({"performanceConfig": {"latency": "optimized"}}, None, (("speed", "optimized"),)),
        ({"performance_config": {"latency": "optimized"}}, None, (("speed", "optimized"),)),  # langchain-aws
        ({"performance_config": {"latency": "standard"}}, None, ()),
        ({"temperature": 1}, None, ()),
        ("service_tier: flex", None, ()),
    ],
)
def test_a_tier_among_the_requests_parameters_is_what_was_asked(
    asked: Any, answer: dict[str, Any] | None, context: tuple[tuple[str, str], ...]
) -> None:
    """OpenInference's specification: `llm.invocation_parameters` is the JSON of the request's parameters."""
    given = OPENINFERENCE | {"llm.invocation_parameters": json.dumps(asked)}
    if answer is not None:
        given |= {"output.value": json.dumps(answer)}
    assert read(span(given)).price_context == context


@pytest.mark.parametrize(
    ("given", "context"),
    [
        ({"model.parameters": {"temperature": 1, "service_tier": "flex"}}, (("service_tier", "flex"),)),
        ({"model.parameters": {"service_tier": "default"}}, ()),
        ({"output": {"id": "x", "object": "response", "service_tier": "priority"}}, (("service_tier", "priority"),)),
        ({"metadata.service_tier": "priority"}, (("service_tier", "priority"),)),
        (
            {"model.parameters": {"service_tier": "flex"}, "output": {"usage": {}, "service_tier": "default"}},
            (),
        ),
        ({"output": {"service_tier": "priority", "advice": "what the model wrote"}}, ()),
    ],
)
def test_the_tier_that_langfuse_keeps(given: dict[str, Any], context: tuple[tuple[str, str], ...]) -> None:
    """`langfuse.openai` merges the served tier into the model's parameters, and the rest of a response elsewhere."""
    attributes = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": "gpt-5",
        "langfuse.observation.usage_details": json.dumps({"input": 100, "output": 10, "total": 110}),
    } | {
        f"langfuse.observation.{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in given.items()
    }
    assert read(span(attributes)).price_context == context


BEDROCK = {"serviceTier": {"type": "priority"}, "performanceConfig": {"latency": "optimized"}}
"""https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html"""


def test_bedrocks_tier_is_an_object() -> None:
    found = read(span(OPENINFERENCE | {"output.value": json.dumps(BEDROCK)}))
    assert found.price_context == (("service_tier", "priority"), ("speed", "optimized"))


def test_bedrocks_tier_in_the_ai_sdks_metadata() -> None:
    found = read(
        span(
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.usage.inputTokens": 100,
                "ai.usage.outputTokens": 10,
                "ai.response.providerMetadata": json.dumps({"bedrock": BEDROCK}),
            }
        )
    )
    assert found.price_context == (("service_tier", "priority"), ("speed", "optimized"))


def test_bedrocks_standard_latency_and_tier_are_the_list_price() -> None:
    reported = {"serviceTier": {"type": "default"}, "performanceConfig": {"latency": "standard"}}
    assert read(span(OPENINFERENCE | {"output.value": json.dumps(reported)})).price_context == ()


@pytest.mark.parametrize(
    ("base", "context"),
    [
        ("https://eu.api.openai.com/v1", (("region", "eu"),)),
        ("https://api.openai.com/v1", ()),
        ("https://gateway.example/eu.api.openai.com", ()),
        (None, ()),
    ],
)
def test_openais_region_in_litellms_parameters(base: str | None, context: tuple[tuple[str, str], ...]) -> None:
    """`litellm.types.utils.StandardLoggingHiddenParams`: the API's base is one of them."""
    hidden = json.dumps({"model_id": "m", "api_base": base})
    reported = chat(input_tokens=100, output_tokens=10) | {"litellm.call_id": "1", "hidden_params": hidden}
    assert read(span(reported, "litellm_request", "litellm")).price_context == context


@pytest.mark.parametrize(
    ("address", "model", "region"),
    [
        ("us-east5-aiplatform.googleapis.com", "claude-sonnet-4-5@20250929", "us-east5"),
        ("https://europe-west1-aiplatform.googleapis.com/v1/projects/p", "claude-opus-4-8", "europe-west1"),
        ("us-east5-aiplatform.googleapis.com", "claude-haiku-5-5", "us-east5"),
        ("aiplatform.us.rep.googleapis.com", "claude-sonnet-4-5@20250929", "us"),  # a multi-region endpoint
        ("https://aiplatform.eu.rep.googleapis.com/v1/projects/p", "claude-opus-4-8", "eu"),
        ("aiplatform.us.rep.googleapis.com.example", "claude-sonnet-4-5@20250929", ""),
        ("aiplatform.googleapis.com", "claude-sonnet-4-5@20250929", ""),  # the global endpoint
        ("us-east5-aiplatform.googleapis.com", "claude-sonnet-4@20250514", ""),  # before 4.5 one price
        ("us-east5-aiplatform.googleapis.com", "claude-3-5-sonnet-v2@20241022", ""),
        ("us-central1-aiplatform.googleapis.com", "gemini-2.5-flash", ""),
    ],
)
@pytest.mark.parametrize("scope", ["opentelemetry.instrumentation.genai.anthropic", "opentelemetry.instrumentation.x"])
def test_claude_on_vertex_costs_more_in_a_region(scope: str, address: str, model: str, region: str) -> None:
    """https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai: a tenth, from Claude 4.5 on."""
    reported = chat(input_tokens=100, output_tokens=10) | {"server.address": address, "gen_ai.request.model": model}
    call = read(span(reported | {"gen_ai.provider.name": "gcp.vertex_ai"}, scope=scope))
    assert call.price_context == ((("region", region),) if region else ())
    assert Pricer().cost(call, 1_795_400_000 * 10**9).estimate or not region


SERVED: dict[str, Any] = {"object": "chat.completion", "service_tier": "priority", "usage": {"prompt_tokens": 100}}
METADATA = {"openai": {"serviceTier": "priority"}}
VERCEL: dict[str, Any] = {"ai.operationId": "ai.generateText.doGenerate", "ai.usage.inputTokens": 100}
VERCEL |= {"ai.usage.outputTokens": 10}


@pytest.mark.parametrize(
    "reported",
    [
        OPENINFERENCE | {"output.value": SERVED},
        OPENINFERENCE | {"output.value": json.dumps(SERVED)},
        VERCEL | {"ai.response.providerMetadata": METADATA},
        VERCEL | {"ai.response.providerMetadata": json.dumps(METADATA)},
        chat(input_tokens=100, output_tokens=10) | {"openai.response.service_tier": ["priority"]},
        chat(input_tokens=100, output_tokens=10)
        | {"gen_ai.usage.raw": {"prompt_tokens": 100, "completion_tokens": 10, "service_tier": "priority"}},
    ],
)
def test_a_tier_is_read_whatever_type_the_attribute_has(reported: dict[str, Any]) -> None:
    """OTLP has key-value lists and arrays beside strings: a Collector's processor may parse JSON into them."""
    assert read(span(reported)).price_context == (("service_tier", "priority"),)


@pytest.mark.parametrize(
    "reported",
    [
        OPENINFERENCE,
        VERCEL,
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": json.dumps({"input": 100, "output": 10}),
        },
    ],
)
def test_a_regional_endpoint_counts_in_every_vocabulary(reported: dict[str, Any]) -> None:
    """https://platform.openai.com/docs/guides/your-data: data residency has hosts of its own."""
    assert read(span(reported | {"server.address": "eu.api.openai.com"})).price_context == (("region", "eu"),)
    assert read(span(reported | {"server.address": "api.openai.com"})).price_context == ()


@pytest.mark.parametrize(
    ("address", "region"),
    [
        ("api.eu.mistral.ai", "eu"),
        ("https://api.us.mistral.ai/v1", "us"),
        ("api.mistral.ai", ""),
        ("api.eu.mistral.ai.example", ""),
        ("eu.api.mistral.ai", ""),
    ],
)
def test_mistral_costs_more_in_a_region(address: str, region: str) -> None:
    """https://docs.mistral.ai/inference/regional-inference: a tenth, by the list's own comments."""
    reported = chat(input_tokens=100, output_tokens=10, cache_read__input_tokens=0) | {"server.address": address}
    reported |= {"gen_ai.provider.name": "mistral_ai", "gen_ai.request.model": "mistral-small-2506"}
    call = read(span(reported))
    assert call.price_context == ((("region", region),) if region else ())
    assert Pricer().cost(call, 1_795_400_000 * 10**9).estimate is bool(region)
