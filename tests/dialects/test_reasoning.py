"""Whether a count of output has the reasoning in it."""

from __future__ import annotations

from dialect_view import chat, read, span
from spanledger_processor.model import Usage


def test_openlit_on_gemini_leaves_it_out_and_tells_it() -> None:
    view = span(
        chat(input_tokens=10, output_tokens=6, reasoning_tokens=4) | {"gen_ai.provider.name": "gcp.gemini"},
        scope="openlit.instrumentation.google_ai_studio",
    )
    assert read(view).usage == Usage(10, 10, reasoning=4)


def test_openlit_on_openai_has_it_in() -> None:
    view = span(chat(input_tokens=10, output_tokens=6, reasoning_tokens=4), scope="openlit.instrumentation.openai")
    assert read(view).usage == Usage(10, 6, reasoning=4)


def test_openllmetry_on_gemini_tells_it_by_the_total() -> None:
    view = span(
        chat(input_tokens=10, output_tokens=6, total_tokens=20) | {"gen_ai.provider.name": "gcp.gen_ai"},
        scope="opentelemetry.instrumentation.google_generativeai",
    )
    assert read(view).usage == Usage(10, 10, reasoning=4)


def test_early_google_genai_may_lack_it_and_says_nothing() -> None:
    view = span(
        chat(input_tokens=10, output_tokens=6), scope="opentelemetry.instrumentation.google_genai", version="0.2b0"
    )
    assert (read(view).usage, read(view).estimate) == (Usage(10, 6), True)


def test_gemini_cli_spans_are_no_ground_for_a_price() -> None:
    view = span(
        chat(input_tokens=10, output_tokens=6) | {"gen_ai.operation.name": "llm_call"},
        scope="gemini-cli",
    )
    assert (read(view).kind, read(view).problem != "") == ("llm", True)


def test_vercel_4_tells_reasoning_in_the_providers_metadata_only() -> None:
    """OpenAI's completion tokens have it in, so the output stays."""
    attributes = {
        "ai.operationId": "ai.generateText.doGenerate",
        "ai.model.id": "gpt-5.1",
        "ai.model.provider": "openai.chat",
        "ai.usage.promptTokens": 1042,
        "ai.usage.completionTokens": 62,
        "ai.response.providerMetadata": '{"openai":{"reasoningTokens":16,"cachedPromptTokens":768}}',
    }
    assert read(span(attributes)).usage == Usage(1042, 62, 768, reasoning=16)
