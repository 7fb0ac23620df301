"""Usage inside a provider's raw answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialect_view import PlainView, chat, read, span
from spanledger_processor.dialects.usage_objects import read_usage
from spanledger_processor.model import Call, Usage


def test_numbers_that_do_not_agree_are_another_calls() -> None:
    raw = {"usage": {"prompt_tokens": 99, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}}
    found = read(_openinference({"output.value": json.dumps(raw)}))
    assert found.usage == Usage(100, 10)


def test_missing_classes_come_from_one_that_does() -> None:
    raw = {"usage": {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}}
    assert read(_openinference({"output.value": json.dumps(raw)})).usage == Usage(100, 10, 60)


def test_anthropics_own_numbers_are_read_exclusively() -> None:
    raw = {
        "usage": {
            "input_tokens": 10,
            "output_tokens": 10,
            "cache_read_input_tokens": 60,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        }
    }
    assert read(_openinference({"output.value": json.dumps(raw)})).usage == Usage(100, 10, 60, 30, 20)


OPENAIS = {"id": "resp_68a1f0", "object": "response", "output": [{"id": "msg_68a1f1_c0ffee", "type": "message"}]}
LANGCHAINS = {
    "generations": [
        [{"message": {"kwargs": {"id": "lc_run--01a22646", "response_metadata": {"id": "msg_01XFDUDYJgAA"}}}}]
    ],
    "llm_output": {"id": "msg_01XFDUDYJgAA"},
}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"id": "chatcmpl-9f2a7c41d0b8", "object": "chat.completion"}, "chatcmpl-9f2a7c41d0b8"),
        ({**OPENAIS, "id": "resp_68a1f0c0ffee"}, "resp_68a1f0c0ffee"),
        (LANGCHAINS, "msg_01XFDUDYJgAA"),
        ({"messages": [{"id": "msg_01XFDUDYJgAA"}, {"id": "msg_01AbCdEfGhIj"}]}, ""),
        ({"choices": [{"message": {"content": '{"id": "chatcmpl-9f2a7c41d0b8"}'}}]}, ""),
        ({"id": "9f2a7c41d0b8"}, ""),
    ],
    ids=["chat completion", "response", "LangChain", "several", "what a model wrote", "of nobody"],
)
def test_the_id_of_the_response_stands_in_it(answer: dict[str, Any], expected: str) -> None:
    """OpenInference, LangSmith and MLflow copy a response, and have no key of their own for its id."""
    for written in (
        _openinference({"output.value": json.dumps(answer)}),
        span({"mlflow.spanType": '"CHAT_MODEL"', "mlflow.spanOutputs": json.dumps(answer)}),
        span({"langsmith.span.kind": "llm", "gen_ai.completion": json.dumps(answer)}),
    ):
        assert read(written).response_id == expected
    assert not read(_openinference({"input.value": json.dumps(answer)})).response_id


def test_input_attributes_are_never_looked_at() -> None:
    raw = {"usage": {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}}
    assert read(_openinference({"input.value": json.dumps(raw)})).usage == Usage(100, 10)


def test_whole_usage_is_only_a_fallback() -> None:
    raw = {"usage": {"prompt_tokens": 100, "completion_tokens": 10}}
    found = read(span({"openinference.span.kind": "LLM", "output.value": json.dumps(raw)}))
    assert (found.usage, found.fallback) == (None, Usage(100, 10))


def test_a_raw_answer_without_caches_takes_none_away() -> None:
    """The raw numbers are the span's own, but tell less than the span does."""
    found = read(
        span(
            chat(input_tokens=10, output_tokens=5, cache_read__input_tokens=60)
            | {"gen_ai.usage.raw": '{"input_tokens": 10, "output_tokens": 5}'}
        )
    )
    assert found.usage == Usage(70, 5, 60)


def test_langchains_zero_sum_of_writes_gives_way_to_their_parts() -> None:
    """MLflow takes the sum; the message beside it has the parts."""
    given = {
        "input_tokens": 100,
        "output_tokens": 10,
        "total_tokens": 110,
        "input_token_details": {"cache_read": 60, "cache_creation": 0, "ephemeral_1h_input_tokens": 20},
    }
    found = read(
        span(
            {
                "mlflow.spanType": '"CHAT_MODEL"',
                "mlflow.chat.tokenUsage": '{"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 60, '
                '"cache_creation_input_tokens": 0}',
                "mlflow.spanOutputs": json.dumps({"generations": [[{"message": {"usage_metadata": given}}]]}),
            }
        )
    )
    assert found.usage == Usage(100, 10, 60, 20, 20)


def test_a_raw_answer_may_be_bytes() -> None:
    given = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_token_details": {"cache_read": 4}}
    raw = json.dumps({"usage_metadata": given}).encode()
    found = read(
        span(
            {
                "langsmith.span.kind": "llm",
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.output_tokens": 5,
                "gen_ai.completion": raw,
            }
        )
    )
    assert found.usage == Usage(10, 5, 4)


def test_an_ai_sdk_span_with_the_providers_own_counts() -> None:
    found = read(
        _vercel(
            {
                "anthropic": {
                    "usage": {
                        "input_tokens": 10,
                        "output_tokens": 5,
                        "cache_read_input_tokens": 60,
                        "cache_creation_input_tokens": 30,
                    }
                }
            }
        )
    )
    assert (found.usage, found.estimate) == (Usage(100, 5, 60, 30), False)


def test_early_ai_sdk_metadata_tells_caches_only() -> None:
    found = read(_vercel({"anthropic": {"cacheReadInputTokens": 60, "cacheCreationInputTokens": 30}}))
    assert found.usage == Usage(100, 5, 60, 30)


def test_bedrock_tells_cache_writes_by_time_to_live() -> None:
    """`TokenUsage.cacheDetails` of its runtime API (botocore 1.44.8), kept by @ai-sdk/amazon-bedrock 4.0.186."""
    details = [{"ttl": "5m", "inputTokens": 10}, {"ttl": "1h", "inputTokens": 20}]
    usage = {"cacheReadInputTokens": 60, "cacheWriteInputTokens": 30, "cacheDetails": details}
    assert read(_vercel({"bedrock": {"usage": usage}})).usage == Usage(100, 5, 60, 30, 20)
    keys = chat(input_tokens=100, output_tokens=5, cache_read__input_tokens=60, cache_creation__input_tokens=30)
    keys["ai.response.providerMetadata"] = json.dumps({"bedrock": {"usage": usage}})
    assert read(span(keys, scope="gen_ai")).usage == Usage(100, 5, 60, 30, 20)
    parsed = read_usage({**usage, "inputTokens": 10, "outputTokens": 5, "totalTokens": 105})
    assert parsed is not None
    assert (parsed.normalized.usage, parsed.normalized.estimate) == (Usage(100, 5, 60, 30, 20), False)


def test_a_service_tier_in_metadata() -> None:
    found = read(_vercel({"openai": {"responseId": "r", "serviceTier": "flex"}}))
    assert found.price_context == (("service_tier", "flex"),)


def test_litellm_repeats_a_call_in_the_providers_words() -> None:
    """Where LiteLLM wrote over the application's span, this is all that is left of a call."""
    found = read(
        span(
            {
                "llm.openai.usage": "{'prompt_tokens': 100, 'completion_tokens': 10, 'total_tokens': 110}",
                "llm.openai.model": "gpt-5.1-2025-11-13",
                "llm.openai.id": "chatcmpl-1",
            },
            "raw_gen_ai_request",
            "litellm",
        )
    )
    assert (found.kind, found.provider, found.model) == ("llm", "openai", "gpt-5.1-2025-11-13")
    assert (found.response_id, found.usage) == ("chatcmpl-1", Usage(100, 10))


def test_a_mastra_step_holds_its_calls_answer() -> None:
    body = {
        "id": "resp_1",
        "model": "gpt-5.1",
        "usage": {
            "input_tokens": 100,
            "output_tokens": 10,
            "input_tokens_details": {"cached_tokens": 60},
            "output_tokens_details": {"reasoning_tokens": 4},
        },
    }
    found = read(
        span(
            {
                "mastra.span.type": "model_step",
                "mastra.metadata.body": json.dumps(body),
                "mastra.metadata.modelMetadata": '{"modelId":"gpt-5.1","modelProvider":"openai.responses"}',
            }
        )
    )
    assert (found.kind, found.granularity, found.usage) == ("workflow", "per-turn", Usage(100, 10, 60, reasoning=4))
    assert (found.model, found.provider, found.response_id) == ("gpt-5.1", "openai.responses", "resp_1")


def _openinference(more: dict[str, Any]) -> PlainView:
    return span(
        {"openinference.span.kind": "LLM", "llm.token_count.prompt": 100, "llm.token_count.completion": 10, **more}
    )


def _vercel(metadata: dict[str, Any]) -> PlainView:
    return span(
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.model.id": "m",
            "ai.model.provider": "anthropic.messages",
            "ai.usage.inputTokens": 10,
            "ai.usage.outputTokens": 5,
            "ai.response.providerMetadata": json.dumps(metadata),
        },
        scope="ai",
    )


def test_langchains_zero_sum_alone_is_unknown_to_mlflow() -> None:
    usage = '{"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}'
    attributes = {"mlflow.spanType": '"CHAT_MODEL"', "mlflow.chat.tokenUsage": usage}
    assert read(span(attributes | {"mlflow.message.format": '"langchain"'})).usage == Usage(100, 10, 0)
    assert read(span(attributes | {"mlflow.message.format": '"anthropic"'})).usage == Usage(100, 10, 0, 0)


LANGCHAIN = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
ANTHROPIC = {
    "input_tokens": 100,
    "output_tokens": 10,
    "cache_read_input_tokens": 0,
    "cache_creation_input_tokens": 0,
}


def _message(metadata: dict[str, Any]) -> Call:
    """Read a LangChain message: its usage, then the provider's own words of the same call."""
    usage = LANGCHAIN | {"input_token_details": {"cache_read": 0, "cache_creation": 0}}
    kwargs = {"usage_metadata": usage, "response_metadata": metadata}
    return read(_openinference({"output.value": json.dumps({"generations": [[{"message": {"kwargs": kwargs}}]]})}))


def test_a_second_telling_of_the_call_adds_what_the_first_lacks() -> None:
    """langchain-anthropic keeps Anthropic's usage in `response_metadata`, beside LangChain's own."""
    given = ANTHROPIC | {
        "server_tool_use": {"web_search_requests": 2, "code_execution_requests": 1},
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "service_tier": "batch",
        "speed": "fast",
        "inference_geo": "us",
    }
    found = _message({"usage": given})
    assert found.usage == Usage(100, 10, 0, 0, 0, web_searches=2)
    assert found.price_context == (("region", "us"), ("service_tier", "batch"), ("speed", "fast"))
    assert found.unclassed == ("code executions",)


def test_a_second_telling_of_what_vertex_provisioned() -> None:
    """langchain-google-vertexai: `response_metadata["usage_metadata"]`."""
    given = {
        "prompt_token_count": 100,
        "candidates_token_count": 10,
        "total_token_count": 110,
        "traffic_type": "PROVISIONED_THROUGHPUT",
    }
    assert _message({"usage_metadata": given}).plan == "provisioned"


def test_a_second_telling_of_who_paid() -> None:
    """https://openrouter.ai/docs/use-cases/usage-accounting, as langchain-openai keeps it."""
    given = {
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "total_tokens": 110,
        "prompt_tokens_details": {"audio_tokens": 60},
        "cost": 0.00138,
        "is_byok": True,
        "cost_details": {"upstream_inference_cost": 0.0277},
    }
    found = _message({"token_usage": given})
    assert found.reported is not None
    assert found.usage is not None
    assert (found.reported.own_key, found.reported.upstream) == (True, 27_700_000_000)
    assert found.usage.input_audio == 60


def test_a_second_telling_of_another_call_adds_nothing() -> None:
    given = ANTHROPIC | {"input_tokens": 101, "speed": "fast", "server_tool_use": {"web_search_requests": 2}}
    found = _message({"usage": given})
    assert (found.usage, found.price_context) == (Usage(100, 10, 0, 0), ())


def test_openais_realtime_usage_tells_its_caches() -> None:
    """https://platform.openai.com/docs/api-reference/realtime-server-events/response/done"""
    given = {
        "total_tokens": 110,
        "input_tokens": 100,
        "output_tokens": 10,
        "input_token_details": {
            "text_tokens": 40,
            "audio_tokens": 60,
            "cached_tokens": 20,
            "cached_tokens_details": {"text_tokens": 5, "audio_tokens": 15},
        },
        "output_token_details": {"text_tokens": 2, "audio_tokens": 8},
    }
    found = read(_openinference({"output.value": json.dumps({"type": "response.done", "response": {"usage": given}})}))
    assert found.usage == Usage(100, 10, 20, input_audio=60, cache_read_audio=15, output_audio=8)


GEMINIS = {"promptTokenCount": 237, "candidatesTokenCount": 139, "thoughtsTokenCount": 12, "totalTokenCount": 407}
GENKITS = {"inputTokens": 237, "outputTokens": 139, "thoughtsTokens": 12, "totalTokens": 407}
OPENAIS_USAGE = {
    "prompt_tokens": 1042,
    "completion_tokens": 162,
    "total_tokens": 1204,
    "prompt_tokens_details": {"cached_tokens": 768},
    "completion_tokens_details": {"reasoning_tokens": 16},
}


@pytest.mark.parametrize(
    ("output", "expected", "response_id"),
    [
        (
            {"custom": {"usageMetadata": {**GEMINIS, "toolUsePromptTokenCount": 19}}, "usage": GENKITS},
            Usage(256, 151, 0, None, None, 12),
            "",
        ),
        (
            {
                "raw": {"id": "chatcmpl-9f2a7c41d0b8", "usage": OPENAIS_USAGE},
                "usage": {"inputTokens": 1042, "outputTokens": 162, "totalTokens": 1204},
            },
            Usage(1042, 162, 768, None, None, 16),
            "chatcmpl-9f2a7c41d0b8",
        ),
        ({"usage": {"inputTokens": 1042, "outputTokens": 162, "totalTokens": 1204}}, Usage(1042, 162), ""),
    ],
    ids=["Gemini", "OpenAI", "Genkit's own"],
)
def test_genkit_keeps_the_providers_usage_beside_its_own(
    output: dict[str, Any], expected: Usage, response_id: str
) -> None:
    """Recorded with genkit 1.42.0, @genkit-ai/google-genai and @genkit-ai/compat-oai 1.42.0."""
    given = {"genkit:type": "action", "genkit:metadata:subtype": "model", "genkit:output": json.dumps(output)}
    call = read(span(given | {"genkit:name": "googleai/gemini-2.5-flash"}))
    assert (call.usage, call.response_id) == (expected, response_id)


@pytest.mark.parametrize(("total", "reasoning", "estimate"), [(376, 0, False), (388, None, True)])
def test_gemini_leaves_out_classes_of_zero(total: int, reasoning: int | None, *, estimate: bool) -> None:
    """REST answers leave out fields of 0 (https://protobuf.dev/programming-guides/json/); a total may tell more."""
    raw = {"usageMetadata": {"promptTokenCount": 237, "candidatesTokenCount": 139, "totalTokenCount": total}}
    call = read(span({"openinference.span.kind": "LLM", "output.value": json.dumps(raw)}))
    assert call.fallback is not None
    assert (call.fallback.cache_read, call.fallback.reasoning) == (0, reasoning)
    genkits = read(span({"genkit:metadata:subtype": "model", "genkit:output": json.dumps({"custom": raw})}))
    assert genkits.estimate is estimate


@pytest.mark.parametrize(
    "told",
    [
        {
            "mlflow.spanType": '"EMBEDDING"',
            "model": '"text-embedding-3-small"',
            "mlflow.spanOutputs": json.dumps({"model": "m", "data": [], "usage": {"prompt_tokens": 385}}),
        },
        {
            "openinference.span.kind": "EMBEDDING",
            "embedding.model_name": "text-embedding-3-small",
            "output.value": json.dumps({"model": "m", "data": [], "usage": {"prompt_tokens": 385}}),
        },
    ],
)
def test_an_embeddings_raw_answer_is_its_own_usage(told: dict[str, Any]) -> None:
    """mlflow 3.18.0, `mlflow.openai.autolog`: no `mlflow.chat.tokenUsage` on embeddings; no span hands vectors on."""
    call = read(span(told))
    assert call.usage is not None
    assert (call.usage.input, call.fallback) == (385, None)


COHERES = {
    "id": "c14c80c3",
    "usage": {
        "billed_units": {"input_tokens": 37.0, "output_tokens": 11.0},
        "tokens": {"input_tokens": 237.0, "output_tokens": 63.0},
    },
}
COUNTED = {"llm.token_count.prompt": 237, "llm.token_count.completion": 63, "llm.token_count.total": 300}


def _of_cohere(output: str, mime_type: str = "application/json") -> Call:
    attributes = {"openinference.span.kind": "LLM", "llm.provider": "cohere", "llm.model_name": "command-r-08-2024"}
    scope = "openinference.instrumentation.cohere"
    return read(span({**attributes, **COUNTED, "output.value": output, "output.mime_type": mime_type}, scope=scope))


def test_cohere_bills_fewer_tokens_than_it_counts() -> None:
    """https://docs.cohere.com/reference/chat, `usage`: openinference-instrumentation-cohere 0.1.15 copies `tokens`."""
    call = _of_cohere(json.dumps(COHERES))
    assert (call.usage, call.estimate) == (Usage(37, 11), False)


def test_what_cohere_counts_in_a_stream_is_an_estimate() -> None:
    """The span of a stream holds the text alone (`_EventAccumulator` there)."""
    call = _of_cohere('they are its "billed_units"', "text/plain")
    assert (call.usage, call.estimate) == (Usage(237, 63), True)
    assert "bills fewer" in call.note


def test_units_of_several_answers_are_nobodys() -> None:
    other = {"usage": {"billed_units": {"input_tokens": 5, "output_tokens": 6}}}
    assert _of_cohere(json.dumps([COHERES, other])).usage == Usage(237, 63)


def test_units_without_output_take_the_place_of_no_counts() -> None:
    """An output that is not known has no price: the call would be cheaper than it was."""
    assert _of_cohere(json.dumps({"usage": {"billed_units": {"input_tokens": 37}}})).usage == Usage(237, 63)
