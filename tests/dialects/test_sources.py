"""Rows of a library that changed what its counts mean hold for the versions that they were read in."""

from __future__ import annotations

from typing import Any

import pytest

from dialect_view import chat, read, span
from spanledger_processor.dialects.registry import DIALECTS
from spanledger_processor.dialects.values import version_of
from tools.sources import newer, read_last

OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.token_count.prompt": 40,
    "llm.token_count.completion": 1,
    "llm.token_count.prompt_details.cache_read": 30,
}


@pytest.mark.parametrize(
    ("scope", "version", "total"),
    [
        ("openinference.instrumentation.claude_agent_sdk", "0.1.12", 70),
        ("openinference.instrumentation.claude_agent_sdk", "0.1.13", 40),
        ("openinference.instrumentation.claude_agent_sdk", "0.1.22", 40),
        ("openinference.instrumentation.bedrock", "0.1.59", 70),
        ("openinference.instrumentation.bedrock", "0.1.60", 40),
        ("@arizeai/openinference-instrumentation-claude-agent-sdk", "0.3.1", 70),
        ("@arizeai/openinference-instrumentation-bedrock", "0.5.1", 70),
    ],
)
def test_openinference_by_version(scope: str, version: str, total: int) -> None:
    """Read in the wheels and packages of these releases: `LLM_TOKEN_COUNT_PROMPT` is a sum from the fix on."""
    usage = read(span(OPENINFERENCE, scope=scope, version=version)).usage
    assert usage is not None
    assert usage.input == total


@pytest.mark.parametrize(
    ("provider", "version", "total"),
    [
        ("bedrock", "1.39.0", 70),
        ("bedrock", "1.40.0", 40),
        ("anthropic", "0.1.8", 70),
        ("anthropic", "0.1.9", 40),
        ("anthropic", "2.68.0", 40),
        ("openai", "0.1.0", 40),
    ],
)
def test_pydantic_ai_by_version(provider: str, version: str, total: int) -> None:
    """pydantic_ai.models.bedrock and .anthropic: `_map_usage` adds the caches up from these releases on."""
    attributes: dict[str, Any] = chat(input_tokens=40, output_tokens=1, cache_read__input_tokens=30)
    usage = read(span(attributes | {"gen_ai.provider.name": provider}, scope="pydantic-ai", version=version)).usage
    assert usage is not None
    assert usage.input == total


def test_rows_were_read_in_versions_that_they_hold_for() -> None:
    for source in (source for dialect in DIALECTS for source in dialect.sources if source.package):
        first, last = map(version_of, source.read)
        assert source.package.startswith(("pypi:", "npm:"))
        assert source.since <= first <= last
        assert not source.before or last < source.before


def test_what_is_newer_than_what_was_read() -> None:
    assert newer("0.1.9", ["0.1.8", "0.1.9", "0.1.10", "0.2.0a1", "0.2"]) == ["0.1.10", "0.2"]
    assert read_last()["pypi:openinference-instrumentation-bedrock"] == "0.1.61"


def test_the_ai_sdk_6_tells_no_parts_in_its_early_releases() -> None:
    """ai 6.0.0 to 6.0.90 write an inclusive sum under the keys of version 5: Anthropic's own usage tells."""
    told: dict[str, Any] = {"ai.operationId": "ai.generateText.doGenerate", "ai.model.provider": "anthropic.messages"}
    told |= {"ai.usage.outputTokens": 1, "ai.usage.cachedInputTokens": 30}
    metadata = '{"anthropic": {"usage": {"input_tokens": 40, "cache_read_input_tokens": 30, "output_tokens": 1}}}'
    for given in (40, 70):
        call = read(span(told | {"ai.usage.inputTokens": given, "ai.response.providerMetadata": metadata}, scope="ai"))
        assert call.usage is not None
        assert (call.usage.input, call.estimate) == (70, False)


@pytest.mark.parametrize(
    ("details", "estimate"),
    [({"cached_tokens": 20}, True), ({"cached_tokens": 20, "cache_creation_tokens": 30}, False)],
)
def test_litellm_left_cache_writes_out_for_some_releases(details: dict[str, int], *, estimate: bool) -> None:
    """litellm 1.70.0, llms/anthropic/chat/transformation.py: `prompt_tokens` is input and reads; 1.80.0 adds writes."""
    told: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 5, "cache_creation_input_tokens": 30}
    told |= {"cache_read_input_tokens": 20, "prompt_tokens_details": details}
    attributes = chat(input_tokens=100, output_tokens=5) | {"litellm.call_id": "1", "metadata.usage_object": str(told)}
    call = read(span(attributes, "litellm_request", "litellm"))
    assert call.usage is not None
    assert (call.usage.cache_write, call.estimate) == (30, estimate)


def test_a_usage_object_that_contradicts_itself_is_no_sure_price() -> None:
    told = {"prompt_tokens": 100, "completion_tokens": 5, "cache_creation_input_tokens": 2000}
    attributes = chat(input_tokens=100, output_tokens=5) | {"litellm.call_id": "1", "metadata.usage_object": str(told)}
    assert read(span(attributes, "litellm_request", "litellm")).problem
