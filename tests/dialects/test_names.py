"""Models, providers and ids from odd places."""

from __future__ import annotations

import pytest

from dialect_view import PlainAttributes, chat, read, span
from spanledger_processor.model import Usage


def test_a_quoted_model_name() -> None:
    assert read(span(chat(input_tokens=1) | {"gen_ai.request.model": '"gpt-5.1"'})).model == "gpt-5.1"


def test_a_provider_that_only_the_scope_tells() -> None:
    view = span(
        {"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.token_count.prompt": 1},
        scope="openinference.instrumentation.bedrock",
    )
    assert read(view).provider == "aws.bedrock"


@pytest.mark.parametrize(("behind", "provider"), [("bedrock", "aws.bedrock"), ("firstParty", "anthropic")])
def test_claude_code_on_another_cloud(behind: str, provider: str) -> None:
    view = span(
        {"span.type": "llm_request", "gen_ai.system": "anthropic", "anthropic.provider": behind, "input_tokens": 1},
        "claude_code.llm_request",
    )
    assert read(view).provider == provider


def test_claude_codes_subagents() -> None:
    view = span({"span.type": "llm_request", "agent_id": "a2", "parent_agent_id": "a1"}, "claude_code.llm_request")
    assert (read(view).agent_id, read(view).agent_parent_id) == ("a2", "a1")


def test_claude_codes_request_id_is_the_response_id() -> None:
    view = span({"span.type": "llm_request", "request_id": "req_1"}, "claude_code.llm_request")
    assert read(view).response_id == "req_1"


def test_a_model_and_its_provider_on_the_resource() -> None:
    resource = PlainAttributes({"gen_ai.system": "openai", "gen_ai.request.model": "gpt-5.1"})
    view = span({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 1}, resource=resource)
    assert (read(view).provider, read(view).model) == ("openai", "gpt-5.1")


def test_the_span_beats_the_resource() -> None:
    resource = PlainAttributes({"gen_ai.system": "openai", "gen_ai.request.model": "gpt-5.1"})
    view = span(chat(input_tokens=1) | {"gen_ai.provider.name": "groq", "gen_ai.request.model": "m"}, resource=resource)
    assert (read(view).provider, read(view).model) == ("groq", "m")


def test_an_unknown_operation_with_usage_counts_as_other() -> None:
    call = read(span(chat(input_tokens=40, output_tokens=1) | {"gen_ai.operation.name": "dream"}))
    assert (call.kind, call.unknown_operation, call.usage) == ("other", "dream", Usage(40, 1))
