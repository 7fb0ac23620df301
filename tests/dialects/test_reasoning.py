"""Whether a count of output has the reasoning in it."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize(
    ("counts", "output", "estimate"),
    [
        # https://github.com/vercel/ai/pull/12425: grok-3-mini, what its API said, and the total that a library made
        ({"input_tokens": 12, "output_tokens": 2, "reasoning_tokens": 317, "total_tokens": 331}, 319, False),
        ({"input_tokens": 12, "output_tokens": 2, "reasoning_tokens": 317, "total_tokens": 14}, 319, True),
        ({"input_tokens": 12, "output_tokens": 2, "reasoning_tokens": 317}, 319, True),
        ({"input_tokens": 12, "output_tokens": 0, "reasoning_tokens": 317}, 317, True),
        # less than the output: the total alone tells
        ({"input_tokens": 20, "output_tokens": 7, "reasoning_tokens": 3, "total_tokens": 30}, 10, True),
        ({"input_tokens": 20, "output_tokens": 7, "reasoning_tokens": 3, "total_tokens": 27}, 7, False),
        ({"input_tokens": 20, "output_tokens": 7, "reasoning_tokens": 3}, 7, False),
    ],
)
def test_an_output_that_cannot_have_it_in_leaves_it_out(
    counts: dict[str, int],
    output: int,
    estimate: bool,  # noqa: FBT001
) -> None:
    """xAI counts reasoning beside the completion, and libraries made for OpenAI's form copy both."""
    found = read(span(chat(**counts, cache_read_tokens=0) | {"gen_ai.provider.name": "x_ai"}))
    assert found.usage is not None
    assert (found.usage.output, found.usage.reasoning, found.estimate) == (output, counts["reasoning_tokens"], estimate)


@pytest.mark.parametrize(("total", "reasoning", "output"), [(16, 4, 6), (16, 40, 46), (20, 4, 10)])
def test_a_total_keeps_reasoning_in_an_output_that_can_have_it_in(total: int, reasoning: int, output: int) -> None:
    """A gateway tells its own counts in Gemini's form; more thoughts than output are beside it all the same."""
    view = span(
        chat(input_tokens=10, output_tokens=6, reasoning_tokens=reasoning, total_tokens=total)
        | {"gen_ai.provider.name": "gcp.gemini"},
        scope="openlit.instrumentation.google_ai_studio",
    )
    found = read(view)
    assert found.usage is not None
    assert found.usage.output == output
