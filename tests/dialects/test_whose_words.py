"""Two vocabularies on one span, and two spellings in one."""

from __future__ import annotations

from dialect_view import chat, read, span
from spanledger_processor.model import Usage


def test_a_library_beats_a_translator() -> None:
    """OpenInference's AI SDK processor writes the part without caches where the prompt belongs."""
    found = read(
        span(
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.model.id": "gpt-5.1",
                "ai.model.provider": "openai.chat",
                "ai.usage.inputTokens": 100,
                "ai.usage.outputTokens": 10,
                "ai.usage.cachedInputTokens": 60,
                "openinference.span.kind": "LLM",
                "llm.token_count.prompt": 40,
                "llm.token_count.completion": 10,
            },
            scope="ai",
        )
    )
    assert (found.dialect, found.usage) == ("vercel_legacy", Usage(100, 10, 60))


def test_another_dialect_lends_usage_to_one_that_has_none() -> None:
    found = read(
        span(
            {
                "traceloop.span.kind": "agent",
                "openinference.span.kind": "AGENT",
                "llm.token_count.prompt": 40,
                "llm.token_count.completion": 10,
                "llm.model_name": "gpt-5.1",
            }
        )
    )
    assert (found.dialect, found.usage, found.model) == ("openllmetry", Usage(40, 10), "gpt-5.1")


def test_old_and_new_names_of_one_class_are_not_added_up() -> None:
    """cache_creation became cache_write; Strands writes both spellings of both classes."""
    found = read(
        span(
            chat(
                input_tokens=100,
                output_tokens=10,
                cache_write__input_tokens=30,
                cache_creation__input_tokens=30,
                cache_read__input_tokens=0,
                cache_read_input_tokens=20,
            )
        )
    )
    assert found.usage == Usage(100, 10, 20, 30)


def test_deprecated_names() -> None:
    found = read(
        span(
            {
                "gen_ai.system": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.usage.prompt_tokens": 100,
                "gen_ai.usage.completion_tokens": 10,
            }
        )
    )
    assert (found.kind, found.provider, found.usage) == ("llm", "openai", Usage(100, 10))


def test_an_llm_spans_own_tool_call_is_no_execution() -> None:
    """OpenLIT puts the tool that the model asked for on the LLM span."""
    found = read(
        span(
            chat(input_tokens=10, output_tokens=1)
            | {"gen_ai.tool.name": "get_weather", "gen_ai.tool.call.arguments": "{}"},
            scope="openlit.instrumentation.openai",
        )
    )
    assert (found.kind, found.tool) == ("llm", None)
