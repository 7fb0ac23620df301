"""Usage objects of providers and client libraries, one sample each."""

from __future__ import annotations

from typing import Any

import pytest

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.responses import usages_in
from spanledger_processor.dialects.usage_objects import read_usage
from spanledger_processor.dialects.usage_shapes import USAGE_SHAPES
from spanledger_processor.dialects.vendors.langfuse import usage as langfuse_usage
from spanledger_processor.model import Usage

SAMPLES: list[tuple[str, dict[str, Any], Usage]] = [
    (
        "OpenAI chat",
        {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "total_tokens": 110,
            "prompt_tokens_details": {"cached_tokens": 60},
            "completion_tokens_details": {"reasoning_tokens": 4},
        },
        Usage(100, 10, 60, reasoning=4),
    ),
    (
        "LiteLLM of an Anthropic call",
        {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "prompt_tokens_details": {
                "cached_tokens": 60,
                "cache_creation_tokens": 30,
                "cache_creation_token_details": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            },
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 30,
        },
        Usage(100, 10, 60, 30, 20),
    ),
    (
        "OpenAI responses",
        {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 0},
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 4},
            "total_tokens": 110,
        },
        Usage(100, 10, 60, 0, reasoning=4),
    ),
    (
        "Anthropic",
        {
            "input_tokens": 10,
            "output_tokens": 10,
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        },
        Usage(100, 10, 60, 30, 20),
    ),
    (
        "Anthropic, a stream's first event in LangChain for JavaScript",
        {
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            "service_tier": "standard",
        },
        Usage(None, None, 60, 30, 20),
    ),
    (
        "LangChain",
        {
            "input_tokens": 100,
            "output_tokens": 10,
            "total_tokens": 110,
            "input_token_details": {
                "cache_read": 60,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 10,
                "ephemeral_1h_input_tokens": 20,
            },
            "output_token_details": {"reasoning": 4},
        },
        Usage(100, 10, 60, 30, 20, 4),
    ),
    (
        "Gemini",
        {
            "promptTokenCount": 95,
            "toolUsePromptTokenCount": 5,
            "candidatesTokenCount": 6,
            "thoughtsTokenCount": 4,
            "cachedContentTokenCount": 60,
            "totalTokenCount": 110,
        },
        Usage(100, 10, 60, reasoning=4),
    ),
    (
        "Bedrock",
        {
            "inputTokens": 10,
            "outputTokens": 10,
            "totalTokens": 110,
            "cacheReadInputTokens": 60,
            "cacheWriteInputTokens": 30,
        },
        Usage(100, 10, 60, 30),
    ),
    (
        "AI SDK 6",
        {
            "inputTokens": 100,
            "inputTokenDetails": {"noCacheTokens": 10, "cacheReadTokens": 60, "cacheWriteTokens": 30},
            "outputTokens": 10,
            "outputTokenDetails": {"textTokens": 6, "reasoningTokens": 4},
        },
        Usage(100, 10, 60, 30, reasoning=4),
    ),
    (
        "AI SDK language model",
        {
            "inputTokens": {"total": 100, "noCache": 10, "cacheRead": 60, "cacheWrite": 30},
            "outputTokens": {"total": 10, "reasoning": 4},
        },
        Usage(100, 10, 60, 30, reasoning=4),
    ),
    ("Cohere", {"billed_units": {"input_tokens": 100, "output_tokens": 10}}, Usage(100, 10)),
    ("no caches told", {"input_tokens": 100, "output_tokens": 10}, Usage(100, 10)),
]


@pytest.mark.parametrize(("name", "reported", "usage"), SAMPLES, ids=[name for name, _, _ in SAMPLES])
def test_a_usage_object(name: str, reported: dict[str, Any], usage: Usage) -> None:
    found = read_usage(reported)
    assert found is not None
    assert (found.normalized.usage, found.normalized.problem) == (usage, "")


@pytest.mark.parametrize("reported", [{}, {"usage": 1}, {"input_tokens": "x"}, {"prompt_tokens": -1}, {"tokens": 3}])
def test_what_is_no_usage(reported: dict[str, Any]) -> None:
    assert read_usage(reported) is None


def test_shapes_are_told_apart_by_their_names() -> None:
    assert len({shape.name for shape in USAGE_SHAPES}) == len(USAGE_SHAPES)


BUCKETS: list[tuple[dict[str, Any], Usage]] = [
    (
        {"input": 23, "output": 51, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 316},
        Usage(339, 51, 0, 316),
    ),
    (
        {"input": 40, "output": 6, "input_cached_tokens": 60, "output_reasoning_tokens": 4},
        Usage(100, 10, 60, reasoning=4),
    ),
    ({"input": 10, "output": 10, "input_cache_read": 60, "input_cache_creation": 30}, Usage(100, 10, 60, 30)),
    (
        {
            "input": 10,
            "output": 10,
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 30,
            "cache_creation_ephemeral_5m_input_tokens": 10,
            "cache_creation_ephemeral_1h_input_tokens": 20,
        },
        Usage(100, 10, 60, 30, 20),
    ),
    (
        {
            "input": 10,
            "output": 10,
            "input_cache_creation": 0,
            "input_ephemeral_5m_input_tokens": 10,
            "input_ephemeral_1h_input_tokens": 20,
            "input_cache_read": 60,
        },
        Usage(100, 10, 60, 30, 20),
    ),
    ({"input": 100, "output": 10, "total": 110, "input_cached_tokens": 60}, Usage(100, 10, 60)),
    ({"input": 100, "output": 6, "total": 110, "thoughts_token_count": 4}, Usage(100, 10, reasoning=4)),
    ({"input": 40, "output": 10, "input_priority": 40, "output_priority": 10}, Usage(40, 10)),
    (
        {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}},
        Usage(100, 10, 60),
    ),
]


@pytest.mark.parametrize(("buckets", "usage"), BUCKETS)
def test_langfuse_buckets(buckets: dict[str, Any], usage: Usage) -> None:
    counts, _ = langfuse_usage(buckets)
    assert (counts.input, counts.output, counts.cache_read, counts.cache_write) == (
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
    )
    assert (counts.cache_write_1h, counts.reasoning) == (usage.cache_write_1h, usage.reasoning)


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 1, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}',
        "{'id': None, 'usage': {'prompt_tokens': 1, 'completion_tokens': 2}, 'more': True}",
        '{"a": {"b": [{"usage_metadata": {"prompt_tokens": 1, "completion_tokens": 2}}]}}',
        '[1, {"usage" : {"prompt_tokens": 1, "completion_tokens": 2',
        "ChatCompletion(id='x', usage=CompletionUsage(completion_tokens=2, prompt_tokens=1, details=None))",
    ],
)
def test_usage_in_a_text(text: str) -> None:
    found = list(texts.usages(text))
    expected = [] if text.startswith("[1") else [1]
    assert [usage["prompt_tokens"] for usage in found] == expected


def test_a_text_that_a_model_wrote_into_json_is_no_usage() -> None:
    """Inside a JSON string quotation marks are escaped."""
    text = '{"content": "look: {\\"usage\\": {\\"prompt_tokens\\": 1}}"}'
    assert list(texts.usages(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "{'a': " * 5000,
        "[" * 100_000,
        '"usage": {' * 100_000,
        "'usage': {'" * 50_000,
        "usage=Usage(" * 50_000,
        "{" + "'x': 1, " * 5000,
        '{"usage": {"' + '\\"' * 100_000,
    ],
)
def test_hostile_texts_end(text: str) -> None:
    """Each takes milliseconds; reading them again and again from every brace would outlast the test's time limit."""
    assert not isinstance(texts.parse(text), str)
    assert len(list(texts.usages(text))) <= 16


def test_a_nested_value_is_searched_within_bounds() -> None:
    deep: Any = {"usage": {"input_tokens": 1}}
    for _ in range(50):
        deep = {"a": deep}
    assert list(usages_in(deep)) == []
    assert list(usages_in([{"usage": {"input_tokens": 1}}])) == [{"input_tokens": 1}]
    assert len(list(usages_in([{"x": {}}] * 10_000 + [{"usage": {"input_tokens": 1}}]))) == 0
