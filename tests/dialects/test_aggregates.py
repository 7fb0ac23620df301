"""Spans that sum up others, and spans that leave their usage to others."""

from __future__ import annotations

import pytest

from dialect_view import CHAT, chat, read, span
from spanledger_processor.model import Usage


def test_an_agents_sum_is_per_turn() -> None:
    found = read(
        span(
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.usage.input_tokens": 500,
                "gen_ai.usage.output_tokens": 50,
            }
        )
    )
    assert (found.kind, found.granularity) == ("agent", "per-turn")


def test_pydantic_ai_sums_up_under_keys_of_its_own() -> None:
    found = read(
        span(
            {
                "gen_ai.operation.name": "invoke_agent",
                "model_name": "gpt-5.1",
                "gen_ai.aggregated_usage.input_tokens": 500,
                "gen_ai.aggregated_usage.output_tokens": 50,
                "gen_ai.aggregated_usage.cache_read.input_tokens": 300,
                "gen_ai.aggregated_usage.details.reasoning_tokens": 20,
            },
            scope="pydantic-ai",
        )
    )
    assert (found.granularity, found.usage) == ("per-turn", Usage(500, 50, 300, 0, reasoning=20))
    assert found.model == "gpt-5.1"


def test_streamed_logfire_requests_leave_the_usage_to_the_log_span() -> None:
    request = span(CHAT | {"logfire.span_type": "span", "gen_ai.response.model": "gpt-5.1"}, scope="logfire.openai")
    log = span(chat(input_tokens=10, output_tokens=1) | {"logfire.span_type": "log"}, scope="logfire.openai")
    assert (read(request).kind, read(log).kind, read(log).usage) == ("other", "llm", Usage(10, 1))


def test_a_failed_logfire_request_stays_a_call() -> None:
    view = span(CHAT | {"logfire.span_type": "span"}, scope="logfire.openai", status_code=2)
    assert read(view).kind == "llm"


def test_llamaindex_makes_an_llm_span_of_preparing_one() -> None:
    view = span({"openinference.span.kind": "LLM", "llm.model_name": "m"}, "OpenAI._prepare_chat_with_tools")
    assert read(view).kind == "other"


@pytest.mark.parametrize(
    ("recorded", "kind", "usage"),
    [
        ("model_call", "other", None),  # of the `chat` span that ended before it
        ("subtask", "other", None),
        ("compaction", "llm", Usage(107, 5, 40, 60)),
        ("aggregation", "llm", Usage(107, 5, 40, 60)),
    ],
)
def test_ag2_tells_each_usage_on_one_more_span(recorded: str, kind: str, usage: Usage | None) -> None:
    """`record_usage_span` of ag2 1.2.1, with Anthropic's own counts (`normalize_usage`)."""
    attributes = {
        "ag2.span.type": "usage",
        "ag2.usage.kind": recorded,
        "gen_ai.provider.name": "anthropic",
        "gen_ai.response.model": "claude-sonnet-4-5",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read_input_tokens": 40,
        "gen_ai.usage.cache_creation_input_tokens": 60,
    }
    found = read(span(attributes, f"record_usage {recorded}", scope="opentelemetry.instrumentation.ag2"))
    assert (found.dialect, found.kind, found.usage) == ("ag2", kind, usage)


@pytest.mark.parametrize(
    ("provider", "usage"),
    [("openai", Usage(100, 10, 60, 0, reasoning=4)), ("google", Usage(100, 14, 60, 0, reasoning=4))],
)
def test_ag2_copies_what_each_provider_counts(provider: str, usage: Usage) -> None:
    """Google's candidates are without the thoughts (`normalize_usage` of ag2 1.2.1)."""
    attributes = {
        "ag2.span.type": "llm",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.response.model": "m",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cache_read_input_tokens": 60,
        "gen_ai.usage.thinking_tokens": 4,
    }
    assert read(span(attributes, scope="opentelemetry.instrumentation.ag2")).usage == usage


@pytest.mark.parametrize(("version", "hours"), [("2.68.0", 0), ("1.4.0", None)])
def test_pydantic_ai_tells_writes_for_an_hour_where_there_are_any(version: str, hours: int | None) -> None:
    found = read(
        span(
            chat(input_tokens=100, output_tokens=5, cache_creation__input_tokens=30),
            scope="pydantic-ai",
            version=version,
        )
    )
    assert found.usage == Usage(100, 5, 0, 30, hours)


@pytest.mark.parametrize("operation", ["chat", "invoke_agent", "invoke_workflow", "handle_conversation_turn"])
def test_whether_an_invocation_is_nested_the_links_tell(operation: str) -> None:
    """`gen_ai.invocation.is_nested` (proposed to the convention) says what a span's parent says: it adds nothing."""
    reported = chat(input_tokens=500, output_tokens=50) | {"gen_ai.operation.name": operation}
    plain = read(span(reported))
    for nested in (True, False):
        assert read(span(reported | {"gen_ai.invocation.is_nested": nested})) == plain
