"""What is no GenAI span, however much it looks like one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialect_view import read, span
from spanledger_processor.dialects import detect
from spanledger_processor.model import Usage


@pytest.mark.parametrize(
    "attributes",
    [
        {"http.request.method": "POST", "url.full": "https://api.openai.com/v1/chat", "gen_ai.agent.name": "a"},
        {"traceloop.workflow.name": "w", "traceloop.association.properties.session_id": "s", "http.method": "POST"},
        {"db.statement": "select 'gen_ai.operation.name', 'openinference.span.kind', 'ai.operationId'"},
        {"session.id": "s", "user.id": "u"},
        {"metadata.session_id": "s", "conversation.id": "c"},
        {},
    ],
)
def test_a_plain_span_is_none(attributes: dict[str, Any]) -> None:
    assert detect(span(attributes, "POST", "opentelemetry.instrumentation.httpx")) is None


@pytest.mark.parametrize("scope", ["gen_ai", "ai", "pydantic-ai", "openlit", "strands.telemetry", "litellm"])
def test_a_scope_alone_makes_no_genai_span(scope: str) -> None:
    assert detect(span({"http.request.method": "GET"}, "GET", scope)) is None


def test_a_name_that_only_holds_a_sign_makes_none() -> None:
    assert detect(span({"a": 1}, "call claude_code.tool")) is None


_COUNTED = json.dumps({"input_tokens": 412})


@pytest.mark.parametrize(
    ("attributes", "name", "scope"),
    [
        (
            {"openinference.span.kind": "LLM", "llm.model_name": "claude-sonnet-4-5", "output.value": _COUNTED},
            "beta.messages.count_tokens",
            "openinference.instrumentation.anthropic",
        ),
        (
            {"gen_ai.provider.name": "anthropic", "gen_ai.request.model": "claude-sonnet-4-5"},
            "anthropic.messages.count_tokens",
            "com.anthropic.sdk.python",
        ),
        (
            {
                "gen_ai.provider.name": "anthropic",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.agent.name": "a",
            },
            "anthropic.sessions.create",
            "com.anthropic.sdk.python",
        ),
        (
            {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gemini-2.5-flash"},
            "models.countTokens",
            "my-app",
        ),
    ],
)
def test_a_request_that_asks_no_model_is_no_call(attributes: dict[str, Any], name: str, scope: str) -> None:
    """openinference-instrumentation-anthropic 3.1.0, `_CountTokensWrapper`; anthropic 2.14.0, `SPAN_ATTRIBUTES`."""
    call = read(span(attributes | {"anthropic.request.id": "req_1"}, name, scope))
    assert (call.kind, call.usage, call.fallback) == ("other", None, None)


def test_usage_beside_a_name_like_that_counts() -> None:
    used = {"gen_ai.usage.input_tokens": 40, "gen_ai.usage.output_tokens": 5}
    call = read(span({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"} | used, "app.count_tokens"))
    assert (call.kind, call.usage) == ("llm", Usage(40, 5))
