"""What was bought besides plain tokens: modalities, server-side tools, terms of the price, other people's keys.

Where a form comes from stands beside it: the library's source, the provider's documentation, or the convention.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialect_view import PlainAttributes, PlainEvent, chat, read, span
from spanledger_processor.model import Call, Usage
from spanledger_processor.pricing import Pricer
from spanledger_processor.units import USD

AT = 1_795_400_000 * 10**9
OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.token_count.prompt": 100,
    "llm.token_count.completion": 50,
}
PYDANTIC = chat(input_tokens=100, output_tokens=50)
OPENAI_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 60, "text_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 40, "text_tokens": 10},
}
"""https://platform.openai.com/docs/api-reference/chat/object"""
REALTIME_USAGE = {
    "total_tokens": 150,
    "input_tokens": 100,
    "output_tokens": 50,
    "input_token_details": {
        "text_tokens": 40,
        "audio_tokens": 60,
        "image_tokens": 0,
        "cached_tokens": 20,
        "cached_tokens_details": {"text_tokens": 5, "audio_tokens": 15},
    },
    "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
}
"""https://platform.openai.com/docs/api-reference/realtime-server-events/response/done"""
GEMINI_USAGE = {
    "promptTokenCount": 100,
    "candidatesTokenCount": 50,
    "totalTokenCount": 150,
    "cachedContentTokenCount": 20,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 40}, {"modality": "AUDIO", "tokenCount": 60}],
    "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 15}],
    "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 40}],
}
"""https://ai.google.dev/api/generate-content#UsageMetadata"""
LANGCHAIN_USAGE = {
    "input_tokens": 100,
    "output_tokens": 50,
    "total_tokens": 150,
    "input_token_details": {"audio": 60, "cache_read": 20},
    "output_token_details": {"audio": 40},
}
"""langchain_core.messages.ai.UsageMetadata"""


def gpt(value: dict[str, Any]) -> dict[str, Any]:
    return OPENINFERENCE | {"output.value": json.dumps({"usage": value})}


MODALITIES: dict[str, tuple[dict[str, Any], str, dict[str, int]]] = {
    "convention": (
        chat(
            input_tokens=100,
            output_tokens=50,
            audio__input_tokens=60,
            image__input_tokens=7,
            audio__cache_read__input_tokens=15,
            audio__output_tokens=40,
        ),
        "opentelemetry.instrumentation.genai.openai",
        {"input_audio": 60, "input_image": 7, "cache_read_audio": 15, "output_audio": 40},
    ),
    "openinference": (
        OPENINFERENCE | {"llm.token_count.prompt_details.audio": 60, "llm.token_count.completion_details.audio": 40},
        "openinference.instrumentation.openai",
        {"input_audio": 60, "output_audio": 40},
    ),
    "pydantic_ai, google": (
        PYDANTIC
        | {
            "gen_ai.usage.details.audio_prompt_tokens": 60,
            "gen_ai.usage.details.audio_cache_tokens": 15,
            "gen_ai.usage.details.image_candidates_tokens": 40,
        },
        "pydantic-ai",
        {"input_audio": 60, "cache_read_audio": 15, "output_image": 40},
    ),
    "langfuse": (
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": json.dumps(
                {"input": 40, "output": 10, "input_audio_tokens": 60, "output_audio_tokens": 40}
            ),
        },
        "langfuse-sdk",
        {"input": 100, "output": 50, "input_audio": 60, "output_audio": 40},
    ),
    "langfuse, of LangChain's Gemini": (  # langfuse.langchain.CallbackHandler: `_parse_usage_model`
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": json.dumps(
                {
                    "input": 0,
                    "output": 10,
                    "input_modality_TEXT": 35,
                    "input_modality_AUDIO": 45,
                    "output_modality_IMAGE": 40,
                    "cached_content_token_count": 20,
                    "cached_modality_AUDIO": 15,
                    "cached_modality_TEXT": 5,
                    "total": 150,
                }
            ),
        },
        "langfuse-sdk",
        {"cache_read": 20, "input_audio": 60, "cache_read_audio": 15, "output_image": 40},
    ),
    "openai, raw": (gpt(OPENAI_USAGE), "", {"cache_read": 20, "input_audio": 60, "output_audio": 40}),
    "openai realtime, raw": (gpt(REALTIME_USAGE), "", {"input_audio": 60, "cache_read_audio": 15, "output_audio": 40}),
    "gemini, raw": (gpt(GEMINI_USAGE), "", {"input_audio": 60, "cache_read_audio": 15, "output_image": 40}),
    "langchain, raw": (gpt(LANGCHAIN_USAGE), "", {"cache_read": 20, "input_audio": 60, "output_audio": 40}),
    "litellm": (
        chat(input_tokens=100, output_tokens=50) | {"litellm.call_id": "1", "metadata.usage_object": str(OPENAI_USAGE)},
        "litellm",
        {"cache_read": 20, "input_audio": 60, "output_audio": 40},
    ),
}


@pytest.mark.parametrize("name", MODALITIES)
def test_modalities_become_classes(name: str) -> None:
    attributes, scope, expected = MODALITIES[name]
    usage = read(span(attributes, scope=scope)).usage
    assert usage is not None
    assert {name: getattr(usage, name) for name in ("input", "output", *expected)} == {
        "input": 100,
        "output": 50,
        **expected,
    }


def openai_response(*items: dict[str, Any], **usage: Any) -> str:
    given = {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150, "input_tokens_details": {}} | usage
    return json.dumps({"output": list(items), "usage": given})


SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}
OPENED = {"type": "web_search_call", "id": "ws_2", "action": {"type": "open_page", "url": "u"}}
"""https://platform.openai.com/docs/guides/tools-web-search: only the action `search` is charged."""
FILES = {"type": "file_search_call", "id": "fs_1", "queries": ["q"]}
CODE = {"type": "code_interpreter_call", "id": "ci_1"}
ANTHROPIC = {"input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}


@pytest.mark.parametrize(
    ("value", "searches", "files", "unclassed"),
    [
        (openai_response(SEARCH, {**SEARCH, "id": "ws_3"}, OPENED), 2, None, ()),
        (openai_response(SEARCH, SEARCH), 1, None, ()),  # LangChain repeats the items of a response
        (openai_response(FILES, CODE), None, 1, ("code executions",)),
        (openai_response({"type": "message", "content": [{"text": json.dumps(SEARCH)}]}), None, None, ()),
        (json.dumps({"tools": [{"type": "web_search"}], "usage": ANTHROPIC}), None, None, ()),
        (json.dumps({"usage": ANTHROPIC | {"server_tool_use": {"web_search_requests": 2}}}), 2, None, ()),
        (
            json.dumps(
                {
                    "candidates": [{"groundingMetadata": {"webSearchQueries": ["a", "b", "c"]}}],
                    "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 50},
                }
            ),
            3,
            None,
            (),
        ),
        (
            openai_response(server_side_tool_usage_details={"x_search_calls": 1, "web_search_calls": 4}),
            4,
            None,
            ("social searches",),
        ),
    ],
)
def test_tools_of_the_provider_are_counted_where_they_ran(
    value: str, searches: int | None, files: int | None, unclassed: tuple[str, ...]
) -> None:
    call = read(span(OPENINFERENCE | {"output.value": value}))
    assert call.usage is not None
    assert (call.usage.web_searches, call.usage.file_searches, call.unclassed) == (searches, files, unclassed)


@pytest.mark.parametrize(
    ("attributes", "scope"),
    [
        (PYDANTIC | {"gen_ai.usage.details.web_search_requests": 2}, "pydantic-ai"),
        (
            chat(input_tokens=100, output_tokens=50)
            | {
                "litellm.call_id": "1",
                "metadata.usage_object": str(
                    {"prompt_tokens": 100, "completion_tokens": 50, "server_tool_use": {"web_search_requests": 2}}
                ),
            },
            "litellm",
        ),
        (
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.usage_details": '{"input": 100, "output": 50, "web_search_requests": 2}',
            },
            "langfuse-sdk",
        ),
        *(
            (PYDANTIC | {f"{prefix}.server_tool_use.web_search_requests": 2}, scope)
            for prefix, scope in (
                ("gen_ai.usage", "my-app"),
                ("gen_ai.usage", "opentelemetry.instrumentation.anthropic"),
                ("gen_ai.usage", "openlit.instrumentation.anthropic"),
                ("anthropic.usage", "com.anthropic.sdk.messages"),
            )
        ),
        (
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.usage.inputTokens": 100,
                "ai.usage.outputTokens": 50,
                "ai.response.toolCalls": json.dumps(
                    [{"toolName": "web_search", "providerExecuted": True}] * 2
                    + [{"toolName": "web_search", "toolCallId": "mine"}]
                ),
            },
            "ai",
        ),
    ],
)
def test_searches_in_other_vocabularies(attributes: dict[str, Any], scope: str) -> None:
    usage = read(span(attributes, scope=scope)).usage
    assert usage is not None
    assert (usage.input, usage.output, usage.web_searches) == (100, 50, 2)


FAST = (("speed", "fast"),)
PRIORITY, FLEX, BATCH = ((("service_tier", tier),) for tier in ("priority", "flex", "batch"))


@pytest.mark.parametrize(
    ("attributes", "context"),
    [
        ({"anthropic.request.speed": "fast", "anthropic.response.speed": "standard"}, ()),
        ({"anthropic.request.speed": "fast"}, FAST),
        ({"openai.request.service_tier": "priority", "openai.response.service_tier": "default"}, ()),
        ({"gen_ai.request.service_tier": "flex", "gen_ai.response.service_tier": "on_demand"}, ()),
        ({"openai.request.service_tier": "flex", "openai.response.service_tier": "auto"}, ()),
        ({"openai.request.service_tier": "auto", "openai.response.service_tier": "priority"}, PRIORITY),
        ({"anthropic.response.inference_geo": "us"}, (("region", "us"),)),
        ({"anthropic.response.inference_geo": "global"}, ()),
        ({"server.address": "eu.api.openai.com"}, (("region", "eu"),)),
        ({"gen_ai.openai.api_base": "https://us.api.openai.com/v1/"}, (("region", "us"),)),
        ({"server.address": "api.openai.com"}, ()),
        ({"server.address": "eu.api.openai.com.evil.example"}, ()),
    ],
)
def test_what_was_served_counts(attributes: dict[str, Any], context: tuple[tuple[str, str], ...]) -> None:
    assert read(span(chat(input_tokens=100, output_tokens=50) | attributes)).price_context == context


TIER_IN_NAMES = {
    "input_tokens": 100,
    "output_tokens": 50,
    "total_tokens": 150,
    "input_token_details": {"priority_cache_read": 20, "priority": 80},
    "output_token_details": {"priority_reasoning": 8, "priority": 42},
}
"""langchain_openai.chat_models.base._create_usage_metadata"""


@pytest.mark.parametrize(
    ("attributes", "context"),
    [
        (gpt(ANTHROPIC | {"service_tier": "batch"}), BATCH),
        (
            gpt(ANTHROPIC | {"service_tier": "standard", "speed": "fast", "inference_geo": "us"}),
            (("region", "us"), *FAST),
        ),
        (gpt(TIER_IN_NAMES), PRIORITY),
        (gpt({**GEMINI_USAGE, "trafficType": "ON_DEMAND_FLEX"}), FLEX),
        (gpt({**GEMINI_USAGE, "trafficType": "ON_DEMAND"}), ()),
        (OPENINFERENCE | {"output.value": '{"service_tier": "flex", "usage": {}}'}, FLEX),
        (OPENINFERENCE | {"output.value": '{"content": "\\"service_tier\\": \\"flex\\""}'}, ()),
        (OPENINFERENCE | {"input.value": '{"service_tier": "flex"}'}, ()),
        (
            {
                "langsmith.span.kind": "llm",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 50,
                "gen_ai.usage.input_token_details": str(TIER_IN_NAMES["input_token_details"]),
            },
            PRIORITY,
        ),
        (
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.usage_details": json.dumps(
                    {
                        "input": 0,
                        "output": 0,
                        "total": 150,
                        "input_flex": 80,
                        "input_flex_cache_read": 20,
                        "output_flex": 50,
                    }
                ),
            },
            FLEX,
        ),
        (
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.usage.inputTokens": 100,
                "ai.usage.outputTokens": 50,
                "ai.response.providerMetadata": '{"openai": {"serviceTier": "flex"}}',
            },
            FLEX,
        ),
    ],
)
def test_terms_in_responses(attributes: dict[str, Any], context: tuple[tuple[str, str], ...]) -> None:
    call = read(span(attributes))
    assert call.usage is not None
    assert (call.usage.input, call.usage.output, call.price_context) == (100, 50, context)


def test_provisioned_throughput_is_a_plan() -> None:
    """https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse#TrafficType"""
    assert read(span(gpt({**GEMINI_USAGE, "trafficType": "PROVISIONED_THROUGHPUT"}))).plan == "provisioned"


def test_a_gateway_tells_what_the_provider_charges_a_key_of_ones_own() -> None:
    """https://openrouter.ai/docs/use-cases/usage-accounting"""
    given: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 50, "cost": 0.001, "is_byok": True}
    given["cost_details"] = {"upstream_inference_cost": 0.02}
    cost = read(span(gpt(given))).reported
    assert cost is not None
    assert (cost.amount, cost.billed, cost.upstream, cost.own_key) == (USD // 1000, True, USD // 50, True)


@pytest.mark.parametrize(("own", "means"), [(True, True), ("true", True), ("false", False), ("maybe", None)])
def test_voltagent_tells_it_flat(own: Any, *, means: bool | None) -> None:
    """Attributes that went through a store of texts spell truth values out."""
    cost = read(
        span(
            {
                "span.type": "llm",
                "llm.usage.prompt_tokens": 100,
                "llm.usage.completion_tokens": 50,
                "usage.cost": 0.0,
                "usage.cost_details.upstream_inference_cost": 0.02,
                "usage.is_byok": own,
            },
            scope="@voltagent/core",
        )
    ).reported
    assert cost is not None
    assert (cost.amount, cost.billed, cost.upstream, cost.own_key) == (0, True, USD // 50, means)


@pytest.mark.parametrize(
    ("source", "currency", "billed"),
    [("provider", "USD", True), ("local", "USD", False), ("local", "", False), ("provider", "EUR", None)],
)
def test_the_conventions_cost_proposal(source: str, currency: str, *, billed: bool | None) -> None:
    """open-telemetry/semantic-conventions-genai, pull request 443: a cost in another currency is neither."""
    cost = read(
        span(
            chat(input_tokens=100, output_tokens=50)
            | {
                "gen_ai.usage.cost.amount": 0.5,
                "gen_ai.usage.cost.currency": currency,
                "gen_ai.usage.cost.source": source,
            }
        )
    ).reported
    assert (cost.billed if cost is not None else None) is billed


@pytest.mark.parametrize(
    ("attributes", "cached"),
    [
        (chat(input_tokens=100, output_tokens=50) | {"litellm.call_id": "1", "litellm.cache_hit": True}, True),
        (chat(input_tokens=100, output_tokens=50) | {"litellm.call_id": "1", "litellm.cache_hit": "True"}, True),
        (chat(input_tokens=100, output_tokens=50) | {"litellm.call_id": "1", "litellm.cache_hit": False}, False),
        (gpt(LANGCHAIN_USAGE | {"total_cost": 0}), True),  # langchain_core: _convert_cached_generations
        (gpt(LANGCHAIN_USAGE | {"total_cost": 0.5}), False),
        (gpt(LANGCHAIN_USAGE), False),
    ],
)
def test_answers_from_a_cache_of_ones_own(attributes: dict[str, Any], *, cached: bool) -> None:
    assert read(span(attributes)).response_cache is cached


def failed(attributes: dict[str, Any]) -> Call:
    return read(span(chat() | attributes, status_code=2))


OI = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-5"}


def langchain(*generations: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """A span of LangChain with these texts, and what the metadata of their messages has."""
    made = [{"text": text, "message": {"kwargs": {"response_metadata": more}}} for text, more in generations]
    return OI | {
        "output.value": json.dumps({"generations": [made], "type": "LLMResult"}),
        "llm.output_messages.0.message.role": "assistant",
    }


AI_SDK = {"ai.operationId": "ai.streamText.doStream", "ai.model.id": "gpt-5", "ai.model.provider": "openai.chat"}
LANGFUSE = {"langfuse.observation.type": "generation", "langfuse.observation.model.name": "gpt-5"}
TRACELOOP = {"llm.request.type": "chat", "gen_ai.system": "OpenAI", "gen_ai.request.model": "gpt-5"}


@pytest.mark.parametrize(
    ("attributes", "answered"),
    [
        (OI | {"output.value": "partial"}, True),
        (OI | {"llm.output_messages.0.message.role": "assistant"}, True),
        (OI | {"llm.output_messages.0.message.contents.0.message_content.type": "text"}, True),
        (OI | {"llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "f"}, True),
        (OI | {"input.value": "question"}, False),
        (AI_SDK | {"ai.response.msToFirstChunk": 120.5}, True),
        (AI_SDK | {"ai.response.msToFinish": 120.5}, True),
        (AI_SDK | {"ai.response.reasoning": "hm"}, True),
        (AI_SDK | {"ai.response.object": "{}"}, True),
        (AI_SDK | {"ai.prompt.messages": "[]"}, False),
        (LANGFUSE | {"langfuse.observation.completion_start_time": '"2026-11-02T00:00:00Z"'}, True),
        (LANGFUSE | {"langfuse.observation.level": "ERROR", "langfuse.observation.status_message": "429"}, False),
        (TRACELOOP | {"gen_ai.completion.0.content": "partial"}, True),
        (TRACELOOP | {"gen_ai.completion.0.role": "assistant"}, True),
        (TRACELOOP | {"gen_ai.prompt.0.content": "question"}, False),
        (TRACELOOP | {"gen_ai.output.messages": '[{"role": "assistant", "parts": []}]'}, True),
        (TRACELOOP | {"gen_ai.output.messages": "[]"}, False),  # a refused response: OpenLLMetry 0.62.4
    ],
)
def test_where_a_failed_request_of_a_library_becomes_a_call(attributes: dict[str, Any], *, answered: bool) -> None:
    """Keys that the libraries set from an answer's first piece on, and keys that a refused request has too."""
    call = read(span(attributes, status_code=2))
    assert (call.usage, call.answered) == (None, answered)


@pytest.mark.parametrize(
    ("attributes", "answered"),
    [
        (langchain(("", {"status_code": 400, "body": {"error": {}}})), False),
        (langchain(("", {"status_code": 503})), False),
        (langchain(), False),
        (langchain(("The wea", {}), ("", {"status_code": 503})), True),
        (langchain(("", {})), True),  # a call of a tool has no text
        (langchain(("", {"status_code": "x"})), True),
    ],
)
def test_what_langchain_makes_of_a_refusal_is_no_answer(attributes: dict[str, Any], *, answered: bool) -> None:
    """`_generate_response_from_error` of langchain_core.language_models.chat_models, as OpenInference puts it down."""
    assert read(span(attributes, scope="openinference.instrumentation.langchain", status_code=2)).answered is answered
    assert read(span(attributes, scope="openinference.instrumentation.other", status_code=2)).answered


def test_what_beeai_says_of_an_error_is_no_answer() -> None:
    """`record_exception` of openinference-instrumentation-beeai 0.1.30: the output is `FrameworkError.explain()`."""
    explained = OI | {
        "metadata.class_name": "OpenAIChatModel",
        "output.value": "ChatModelError(beeai_framework.backend.errors): Chat Model error",
    }
    scope = "openinference.instrumentation.beeai"
    assert not read(span(explained, scope=scope, status_code=2)).answered
    begun = explained | {"llm.output_messages.0.message.role": "assistant"}
    assert read(span(begun, scope=scope, status_code=2)).answered
    assert read(span(explained, scope="openinference.instrumentation.other", status_code=2)).answered
    event = {"openinference.span.kind": "LLM", "metadata.path": "backend.openai.chat.error"}
    assert read(span(event, "error", scope)).kind == "other"


def test_beeai_tells_caches_in_its_own_usage() -> None:
    """`ChatModelProcessor` of openinference-instrumentation-beeai 0.1.30; `parse_chat_model_usage` of beeai-framework
    0.1.85: LiteLLM's counts, whose prompt includes caches.
    """
    usage = {"llm.token_count.prompt": 1042, "llm.token_count.completion": 62, "llm.token_count.total": 1104}
    cached = {"metadata.usage.cached_prompt_tokens": 768, "metadata.usage.cached_creation_tokens": 0}
    call = read(span(OI | usage | cached, scope="openinference.instrumentation.beeai", version="0.1.85"))
    assert (call.usage, call.estimate) == (Usage(1042, 62, 768, 0), False)


@pytest.mark.parametrize("name", ["First Token Stream Event", "llm.content.completion.chunk"])
def test_the_first_piece_of_a_stream_shows_that_an_answer_began(name: str) -> None:
    """`_Stream` of openinference-instrumentation-openai 0.1.66; `LLM_CONTENT_COMPLETION_CHUNK` of OpenLLMetry."""
    assert read(span(OI, status_code=2, events=[PlainEvent(name)])).answered
    assert not read(span(OI, status_code=2, events=[PlainEvent("exception")])).answered


UNREAD = "1 validation error for Weather\n  Invalid JSON: expected value at line 1 column 1 [type=json_invalid]"
NO_JSON = "Unexpected token 'T', \"The weather\"... is not valid JSON"
PAGE = "Unexpected token '<', \"<!DOCTYPE \"... is not valid JSON"


@pytest.mark.parametrize(
    ("attributes", "exception", "answered"),
    [
        # opentelemetry-instrumentation-genai-openai and -langchain 1.3b0
        (chat() | {"error.type": "pydantic_core._pydantic_core.ValidationError"}, {}, True),
        # OpenLLMetry's OpenAI and LangChain instrumentations 0.62.4, Logfire 5.4.0
        (TRACELOOP, {"exception.type": "pydantic_core._pydantic_core.ValidationError"}, True),
        # `_parse_chat_completion` of openai 3.57.0
        (TRACELOOP, {"exception.type": "openai.LengthFinishReasonError"}, True),
        (TRACELOOP, {"exception.type": "langchain_core.exceptions.OutputParserException"}, True),
        # @arizeai/openinference-instrumentation-langchain 4.1.1 tells no type
        (OI, {"exception.message": f"{NO_JSON}\n\nSyntaxError: {NO_JSON}"}, True),
        # Genkit 1.42.0
        ({"genkit:type": "action", "genkit:metadata:subtype": "model"}, {"exception.type": "SyntaxError"}, True),
        # langfuse.langchain.CallbackHandler 5.0.4
        (LANGFUSE | {"langfuse.observation.status_message": UNREAD}, {}, True),
        (LANGFUSE | {"langfuse.observation.status_message": "429 validation errors"}, {}, False),
        (OI, {"exception.type": "SyntaxError", "exception.message": PAGE}, False),
        (OI, {"exception.type": "openai.RateLimitError", "exception.message": "Error code: 429"}, False),
        (OI, {"exception.type": "openai.APITimeoutError", "exception.message": "Request timed out."}, False),
        (chat() | {"error.type": "openai.BadRequestError"}, {"exception.message": "is not valid JSON"}, False),
    ],
)
def test_an_answer_that_could_not_be_read_is_one(
    attributes: dict[str, Any], exception: dict[str, Any], *, answered: bool
) -> None:
    """Libraries raise before an instrumentation has seen the answer, which was paid for; as each put it on its span."""
    events = [PlainEvent("exception", PlainAttributes(exception))] if exception else []
    call = read(span(attributes, status_code=2, events=events))
    assert (call.usage, call.answered) == (None, answered)


def test_a_cost_of_nothing_on_a_refused_request_is_none() -> None:
    """`on_llm_error` of langfuse.langchain.CallbackHandler 5.0.4 sets a total of 0."""
    attributes = LANGFUSE | {"langfuse.observation.cost_details": '{"total": 0}'}
    assert read(span(attributes, status_code=2)).reported is None
    assert read(span(attributes)).reported is not None
    paid = read(span(LANGFUSE | {"langfuse.observation.cost_details": '{"total": 0.25}'}, status_code=2)).reported
    assert paid is not None
    assert paid.amount == USD // 4


def test_the_event_of_an_answer_shows_that_one_began() -> None:
    """https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-events/ of release 1.36: `gen_ai.choice`."""
    asked = PlainEvent("gen_ai.user.message")
    assert read(span(chat(), status_code=2, events=[asked, PlainEvent("gen_ai.choice")])).answered
    assert not read(span(chat(), status_code=2, events=[asked])).answered


@pytest.mark.parametrize(
    ("attributes", "answered"),
    [
        ({"gen_ai.response.id": "r1"}, True),
        ({"gen_ai.response.model": "gpt-5.1-2025-11-13"}, True),
        ({"gen_ai.response.model": "gpt-5.1"}, False),  # logfire 5.4.0, `_default_gen_ai_response_model`
        ({"gen_ai.response.finish_reasons": ["stop"]}, True),
        ({"gen_ai.response.time_to_first_chunk": 0.2}, True),
        ({"http.response.status_code": 200}, True),
        ({"http.response.status_code": 429}, False),
        ({"http.response.status_code": 400, "gen_ai.response.id": "r1"}, False),  # litellm 1.106.2: its own call id
        ({"http.response.status_code": 408, "gen_ai.response.id": "r1"}, True),  # `litellm.Timeout`: it did not wait
        ({"http.response.status_code": 499, "gen_ai.response.id": "r1"}, True),
        ({"http.response.status_code": 500, "gen_ai.response.id": "r1"}, True),  # `litellm.APIConnectionError`
        ({"error.type": "429"}, False),
        ({"error.type": "ConnectError"}, False),
    ],
)
def test_where_a_failed_request_becomes_a_call(attributes: dict[str, Any], *, answered: bool) -> None:
    """What only a response can give shows that one began; a request that was refused has nothing of the kind."""
    call = failed(attributes)
    assert (call.usage, call.answered) == (None, answered)


def test_what_was_told_before_an_error_may_not_be_all() -> None:
    call = failed({"gen_ai.usage.input_tokens": 5000, "gen_ai.usage.output_tokens": 1})
    assert (call.usage, call.estimate) == (Usage(5000, 1), True)


def test_the_ai_sdk_5_tells_writes_in_metadata_beside_reads_of_zero() -> None:
    """vercel/ai, @ai-sdk/anthropic 2: input and reads are Anthropic's own, writes stand in the metadata only."""
    metadata = {"anthropic": {"usage": ANTHROPIC | {"input_tokens": 4}, "cacheCreationInputTokens": 2183}}
    call = read(
        span(
            {
                "ai.operationId": "ai.streamText.doStream",
                "ai.model.provider": "anthropic.messages",
                "ai.usage.inputTokens": 4,
                "ai.usage.outputTokens": 104,
                "ai.usage.totalTokens": 108,
                "ai.usage.cachedInputTokens": 0,
                "ai.response.providerMetadata": json.dumps(metadata),
            },
            scope="ai",
        )
    )
    assert (call.usage, call.estimate, call.problem) == (Usage(2187, 104, 0, 2183), False, "")


@pytest.mark.parametrize(
    "scope", ["@arizeai/openinference-instrumentation-langchain", "openinference.instrumentation.x"]
)
def test_caches_beyond_an_inclusive_input_are_a_contradiction(scope: str) -> None:
    call = read(span(OPENINFERENCE | {"llm.token_count.prompt_details.cache_read": 101}, scope=scope, version="4.0.0"))
    assert call.problem


def test_a_total_without_the_caches_leaves_a_doubt() -> None:
    call = read(span(chat(input_tokens=40, output_tokens=1, total_tokens=41, cache_read__input_tokens=300)))
    assert (call.usage, call.estimate) == (Usage(340, 1, 300), True)


def test_langsmith_keeps_usage_in_metadata_where_outputs_hold_none() -> None:
    """langsmith._internal.otel._otel_exporter: each key of a run's metadata becomes `langsmith.metadata.<key>`."""
    given = {"langsmith.span.kind": "llm", "langsmith.metadata.usage_metadata": str(LANGCHAIN_USAGE)}
    usage = read(span(given)).usage
    assert usage is not None
    assert (usage.input, usage.output, usage.cache_read, usage.input_audio) == (100, 50, 20, 60)
    flat = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 50}
    usage = read(span(given | flat)).usage
    assert usage is not None
    assert (usage.input, usage.cache_read, usage.output_audio) == (100, 20, 40)


def test_the_ai_sdk_5_tells_searches_in_metadata() -> None:
    """vercel/ai, @ai-sdk/anthropic 2: `usage` is Anthropic's own, with what its server-side tools were asked for."""
    metadata = {"anthropic": {"usage": ANTHROPIC | {"server_tool_use": {"web_search_requests": 2}}}}
    usage = read(
        span(
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.model.provider": "anthropic.messages",
                "ai.usage.inputTokens": ANTHROPIC["input_tokens"],
                "ai.usage.outputTokens": ANTHROPIC["output_tokens"],
                "ai.response.providerMetadata": json.dumps(metadata),
            },
            scope="ai",
        )
    ).usage
    assert usage is not None
    assert usage.web_searches == 2


@pytest.mark.parametrize(
    ("metadata", "charged", "upstream"),
    [
        ({"gateway": {"cost": "0.001", "routing": {}}}, USD // 1000, None),
        ({"anthropic": {"usage": {"cost": 5}}, "gateway": {"cost": "0.001"}}, USD // 1000, None),
        ({"openrouter": {"provider": "", "usage": {"promptTokens": 100, "cost": 0.001}}}, USD // 1000, None),
        (
            {"openrouter": {"usage": {"cost": 0.001, "costDetails": {"upstreamInferenceCost": 0.02}}}},
            USD // 1000,
            USD // 50,
        ),
        ({"perplexity": {"usage": {"numSearchQueries": None}, "cost": {"totalCost": 0.001}}}, USD // 1000, None),
        ({"perplexity": {"usage": {"numSearchQueries": 2}, "cost": None}}, None, None),
        ({"mine": {"usage": {"cost": 0.001}, "cost": {"totalCost": 0.001}}}, None, None),
    ],
)
@pytest.mark.parametrize("scope", ["ai", "gen_ai"])
def test_the_ai_sdk_keeps_what_sellers_say_that_they_charged(
    scope: str, metadata: dict[str, Any], charged: int | None, upstream: int | None
) -> None:
    """In the provider's metadata, in USD: https://vercel.com/docs/ai-gateway, @openrouter/ai-sdk-provider 2.10.0, which
    tells what the provider charges for calls with the caller's own key alone, and @ai-sdk/perplexity 3.0.61.
    """
    keys = {"ai.operationId": "ai.generateText.doGenerate", "ai.usage.inputTokens": 100, "ai.usage.outputTokens": 50}
    given = keys if scope == "ai" else chat(input_tokens=100, output_tokens=50)
    cost = read(span(given | {"ai.response.providerMetadata": json.dumps(metadata)}, scope=scope)).reported
    assert (cost.amount if cost is not None else None) == charged
    assert cost is None or (cost.billed, cost.upstream) == (True, upstream)


def test_perplexitys_searches_and_citations_are_told_by_the_ai_sdk() -> None:
    """@ai-sdk/perplexity 3.0.61: a request of deep research pays for both."""
    given = {"ai.operationId": "ai.generateText.doGenerate", "ai.usage.inputTokens": 100, "ai.usage.outputTokens": 50}
    metadata = {"perplexity": {"usage": {"citationTokens": 2000, "numSearchQueries": 10}}}
    call = read(span(given | {"ai.response.providerMetadata": json.dumps(metadata)}, scope="ai"))
    assert call.usage is not None
    assert (call.usage.web_searches, call.unclassed) == (10, ("citation tokens",))


def test_a_plans_call_from_a_file_is_charged_nothing() -> None:
    """The sidecar's `spanledger.source.charged` beside a cost of 0 (Mux's `costsIncluded`)."""
    given = chat(input_tokens=100, output_tokens=50) | {"spanledger.source": "file:mux"}
    given |= {"spanledger.source.charged": True, "spanledger.cost.reported_usd": 0.0}
    assert read(span(given)).plan == "subscription"


ANSWER = {"role": "assistant", "parts": []}
TOOL_RESULT = {"role": "tool", "parts": []}


@pytest.mark.parametrize("operation", ["chat", "invoke_agent"])
@pytest.mark.parametrize(
    ("messages", "indexes", "several"),
    [
        ([ANSWER], [], False),
        ([ANSWER, ANSWER], [], False),  # choices of one call
        ([ANSWER, TOOL_RESULT, ANSWER], [], True),
        ([], [0], False),
        ([], [0, 1], False),  # choices of one call
        ([], [0, 0], True),
        ([], [None, None], False),
    ],
)
def test_usage_beside_several_answers_may_be_of_the_last_only(
    operation: str, messages: list[Any], indexes: list[Any], *, several: bool
) -> None:
    """What was counted stays as it is, and is an estimate."""
    given = chat(input_tokens=100, output_tokens=50) | {"gen_ai.operation.name": operation}
    if messages:
        given["gen_ai.output.messages"] = json.dumps(messages)
    events = [PlainEvent("gen_ai.choice", PlainAttributes(index=index)) for index in indexes]
    call = read(span(given, events=events))
    assert (call.usage, call.estimate, bool(call.note)) == (Usage(100, 50), several, several)


IMAGE_PART = {"role": "assistant", "parts": [{"type": "blob", "modality": "image", "mime_type": "image/png"}]}


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"gen_ai.output.type": "image"}, ("image output",)),
        ({"gen_ai.output.type": "speech"}, ("audio output",)),
        ({"gen_ai.output.type": "text"}, ()),
        ({"gen_ai.output.type": "json"}, ()),
        ({"gen_ai.output.type": "image", "gen_ai.usage.image.output_tokens": 5}, ()),
        ({"gen_ai.output.type": "speech", "gen_ai.usage.audio.output_tokens": 0}, ()),
        ({"gen_ai.output.messages": json.dumps([IMAGE_PART])}, ("image output",)),
        ({"gen_ai.output.messages": [IMAGE_PART]}, ("image output",)),
        ({"gen_ai.output.messages": json.dumps([IMAGE_PART | {"role": "user"}])}, ()),
        ({"gen_ai.output.messages": json.dumps([IMAGE_PART]), "gen_ai.output.type": "image"}, ("image output",)),
    ],
)
def test_output_that_is_no_text_and_is_not_counted_is_an_estimate(given: dict[str, Any], what: tuple[str, ...]) -> None:
    """gen_ai.output.type and the parts of output messages in the convention; the model has a rate for each."""
    attributes = chat(input_tokens=40, output_tokens=1300) | given
    attributes |= {"gen_ai.provider.name": "gcp.gemini", "gen_ai.request.model": "gemini-2.5-flash-image"}
    call = read(span(attributes, scope="opentelemetry.instrumentation.genai.x"))
    assert call.unclassed == what
    cost = Pricer().cost(call, AT)
    assert (cost.estimate and "output" in cost.note) or not what


@pytest.mark.parametrize("key", ["mimeType", "mediaType"])
def test_files_that_a_model_made_are_output_that_is_no_text(key: str) -> None:
    """ai 4.3 to 6: `ai.response.files` is the JSON of the files with their media types."""
    given = {"ai.operationId": "ai.generateText.doGenerate", "ai.usage.inputTokens": 40, "ai.usage.outputTokens": 1300}
    files = json.dumps([{"type": "file", key: "image/png", "data": "aGk="}])
    assert read(span(given | {"ai.response.files": files}, scope="ai")).unclassed == ("image output",)
    counted: dict[str, Any] = {"promptTokenCount": 40, "candidatesTokenCount": 1300}
    counted |= {"candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}]}
    metadata = {"ai.response.providerMetadata": json.dumps({"google": {"usageMetadata": counted}})}
    assert read(span(given | metadata | {"ai.response.files": files}, scope="ai")).unclassed == ()


BYOK: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150, "cost": 0, "is_byok": True}
BYOK |= {"cost_details": {"upstream_inference_cost": 0.004}}


@pytest.mark.parametrize(
    "given",
    [
        OPENINFERENCE | {"output.value": json.dumps({"usage": BYOK})},
        OPENINFERENCE | {"output.value": str({"id": "x", "usage": BYOK})},
        OPENINFERENCE
        | {
            "output.value": "ChatCompletion(usage=CompletionUsage(completion_tokens=50, prompt_tokens=100, "
            "total_tokens=150, completion_tokens_details=None, prompt_tokens_details=PromptTokensDetails("
            "audio_tokens=0, x=[Count(a=<Kind.B: 'b'>, n=1)]), cost=0, is_byok=True, "
            "cost_details={'upstream_inference_cost': 0.004, 'parts': [1, 2]}))"
        },
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": json.dumps({"input": 100, "output": 50, "total": 150}),
            "langfuse.observation.output": json.dumps({"choices": [], "usage": BYOK}),
        },
    ],
    ids=["JSON", "dictionary", "repr", "Langfuse's output"],
)
def test_with_ones_own_key_the_upstream_charge_is_read(given: dict[str, Any]) -> None:
    """https://openrouter.ai/docs/use-cases/usage-accounting, as JSON and as Python prints it."""
    reported = read(span(given)).reported
    assert reported is not None
    assert (reported.amount, reported.upstream, reported.own_key) == (0, 4 * USD // 1000, True)


@pytest.mark.parametrize(
    ("output", "searches"),
    [
        ([{"type": "web_search_call", "id": "a", "action": {"type": "search"}}, {"type": "message", "content": []}], 1),
        ({"stop_reason": "end_turn", "usage": {"input_tokens": 100, "output_tokens": 50,
          "cache_read_input_tokens": 0, "server_tool_use": {"web_search_requests": 2}}}, 2),
        ({"role": "assistant", "content": [{"type": "web_search_call", "id": "a", "action": {"type": "search"}}]}, 1),
        ({"answer": {"type": "web_search_call"}}, None),  # what a model wrote
        ([{"type": "web_search_call"}, "text"], None),
        ("web_search_call", None),
    ],
)  # fmt: skip
def test_langfuse_keeps_responses_beside_what_models_wrote(output: Any, searches: int | None) -> None:
    """langfuse.openai: the output of a response is the list of its items."""
    given = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.usage_details": json.dumps({"input": 100, "output": 50, "cache_read_input_tokens": 0}),
        "langfuse.observation.output": json.dumps(output),
    }
    usage = read(span(given)).usage
    assert usage is not None
    assert usage.web_searches == searches


def test_a_providers_own_items_are_parts_of_an_answer() -> None:
    """The convention's generic part has any type: https://github.com/open-telemetry/semantic-conventions-genai."""
    parts = [{"type": "web_search_call", "id": str(n)} for n in range(2)] + [{"type": "code_interpreter_call"}]
    given = chat(input_tokens=100, output_tokens=50)
    call = read(span(given | {"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": parts}])}))
    assert call.usage is not None
    assert (call.usage.web_searches, call.unclassed) == (2, ("code executions",))


def test_what_laminar_answers_from_its_cache_is_not_charged() -> None:
    """lmnr: the span of an answer from its own cache has the type CACHED, and the usage of the answer."""
    given = chat(input_tokens=100, output_tokens=50) | {"lmnr.span.type": "CACHED"}
    assert Pricer().cost(read(span(given)), AT).source == "response_cache"


@pytest.mark.parametrize(
    "model", ["gpt-4o-search-preview", "gpt-4o-mini-search-preview-2025-03-11", "gpt-5-search-api"]
)
def test_a_model_that_searches_for_every_answer_has_a_fee(model: str) -> None:
    """https://platform.openai.com/docs/pricing: these models charge for the search, which no usage tells."""
    given = chat(input_tokens=100, output_tokens=50, cache_read__input_tokens=0) | {"gen_ai.request.model": model}
    cost = Pricer().cost(read(span(given)), AT)
    assert (cost.estimate, cost.note) == (True, "no sure price for: web searches")


@pytest.mark.parametrize("given", [OPENINFERENCE, chat(input_tokens=100, output_tokens=50)])
def test_a_provider_that_says_what_it_charged_is_believed_in_every_vocabulary(given: dict[str, Any]) -> None:
    """gen_ai.usage.cost.{amount,currency,source}, proposed to the convention."""
    charged = {"gen_ai.usage.cost.amount": 0.01, "gen_ai.usage.cost.currency": "USD"}
    reported = read(span(given | charged | {"gen_ai.usage.cost.source": "provider"})).reported
    assert reported is not None
    assert (reported.amount, reported.billed) == (USD // 100, True)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.0.55", (400, None)),
        ("0.4.0", (400, None)),
        ("0.8.0", (None, 400)),
        ("2.68.0", (None, 400)),
        ("", (None, 400)),
    ],
)
def test_pydantic_ai_copies_sound_of_one_side_of_openais(version: str, expected: tuple[int | None, int | None]) -> None:
    """pydantic_ai/models/openai: the details are the completion's, before 0.8 with the prompt's written over them."""
    given = {"gen_ai.request.model": "gpt-audio", "gen_ai.usage.details.audio_tokens": 400}
    call = read(span(chat(input_tokens=1000, output_tokens=500) | given, scope="pydantic-ai", version=version))
    assert call.usage is not None
    assert (call.usage.input_audio, call.usage.output_audio) == expected
    assert Pricer().cost(call, AT).estimate  # nothing tells the other side


def test_openllmetry_tells_the_items_of_a_response_among_its_tool_calls() -> None:
    """opentelemetry-instrumentation-openai 0.47.5, v1/responses_wrappers.py: the name is the item's type."""
    names = ["lookup", "web_search_call", "file_search_call", "web_search_call"]
    given = {f"gen_ai.completion.0.tool_calls.{place}.name": name for place, name in enumerate(names)}
    attributes = chat(input_tokens=100, output_tokens=50, cache_read__input_tokens=0) | {"llm.request.type": "chat"}
    call = read(span(attributes | given, scope="opentelemetry.instrumentation.openai.v1", version="0.47.5"))
    assert call.usage is not None
    assert (call.usage.web_searches, call.usage.file_searches) == (2, 1)
    assert call.unclassed == ("web searches",)  # opened pages are items as well, and not charged
    call = read(span(attributes | {"gen_ai.completion.0.tool_calls.0.name": "lookup"}, scope="traceloop.x"))
    assert call.usage is not None
    assert (call.usage.web_searches, call.unclassed) == (None, ())


PRIORITY_AND_SOUND = {
    "input": 196, "output": 128, "total": 388, "input_audio": 41, "output_audio": 23,
    "input_priority_cache_read": 100, "input_priority": 137, "output_priority_reasoning": 12, "output_priority": 139,
}  # fmt: skip


def test_langfuse_takes_sound_away_from_what_the_priority_tier_is_not() -> None:
    """langfuse 5.0.4, langchain/CallbackHandler.py `_parse_usage_model`: 237 in, 41 of it sound; 151 out, 23 of it."""
    given = {"langfuse.observation.type": "generation"}
    call = read(span(given | {"langfuse.observation.usage_details": json.dumps(PRIORITY_AND_SOUND)}))
    assert call.usage == Usage(237, 151, 100, None, None, 12, input_audio=41, output_audio=23)
    assert call.price_context == PRIORITY
    assert not call.estimate


@pytest.mark.parametrize(("key", "doubt"), [("gen_ai.is_streaming", True), ("llm.is_streaming", True), ("x", False)])
def test_openllmetry_adds_anthropics_first_event_to_the_last(key: str, *, doubt: bool) -> None:
    """opentelemetry-instrumentation-anthropic 0.40.0 to 0.62.4, streaming.py: the last event's count holds it."""
    given = chat(input_tokens=100, output_tokens=51, cache_read__input_tokens=0, cache_creation__input_tokens=0)
    call = read(span(given | {key: True}, scope="opentelemetry.instrumentation.anthropic", version="0.62.4"))
    assert call.estimate is doubt


def test_xais_own_spans_say_what_was_charged() -> None:
    """xai_sdk 1.21.0, chat.py `_make_span_response_attributes`; 10,000,000,000 ticks are 1 USD.

    The flat counts leave thoughts out of the output, and name cached tokens in words of their own.
    """
    given = {"gen_ai.request.model": "grok-4", "gen_ai.usage.cost_in_usd_ticks": 87_500_000}
    call = read(span(chat(input_tokens=1000, output_tokens=500) | given, scope="xai_sdk.sync.chat"))
    assert call.reported is not None
    assert (call.reported.amount, call.reported.billed) == (USD * 875 // 100_000, True)
