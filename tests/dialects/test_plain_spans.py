"""What is no GenAI span, however much it looks like one."""

from __future__ import annotations

from typing import Any

import pytest

from dialect_view import span
from spanledger_processor.dialects import detect


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
