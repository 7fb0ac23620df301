"""Counts that are none."""

from __future__ import annotations

from typing import Any

import pytest

from dialect_view import chat, read, span
from spanledger_processor.model import Usage


@pytest.mark.parametrize("value", [-1, 2**63, 1e300, float("inf"), 1.5, True, "many", [1], {"a": 1}])
def test_what_is_no_count_is_a_problem(value: Any) -> None:
    found = read(span(chat(input_tokens=value, output_tokens=7)))
    assert found.problem
    assert found.usage == Usage(None, 7)


def test_a_number_that_javascript_does_not_have_is_not_told() -> None:
    """ai 4.3.19 and 6.0.326: `tokens: NaN` where a provider tells no usage."""
    reported = {
        "ai.operationId": "ai.embedMany.doEmbed",
        "ai.model.id": "gemini-embedding-001",
        "ai.usage.tokens": float("nan"),
    }
    found = read(span(reported))
    assert (found.usage, found.problem) == (None, "")


@pytest.mark.parametrize("value", ["12", 12.0, " 12 ", "12.0"])
def test_a_count_may_be_spelled_otherwise(value: Any) -> None:
    found = read(span(chat(input_tokens=value, output_tokens=7)))
    assert (found.usage, found.problem) == (Usage(12, 7), "")


def test_a_bad_cache_count_spoils_no_other() -> None:
    found = read(span(chat(input_tokens=12, output_tokens=7, cache_read__input_tokens=-1)))
    assert (found.usage, found.problem != "") == (Usage(12, 7), True)


def test_a_split_larger_than_the_writes() -> None:
    found = read(
        span(
            chat(input_tokens=100, output_tokens=7, cache_write__input_tokens=10)
            | {"anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 20}
        )
    )
    assert found.problem


@pytest.mark.parametrize("details", ['{"input": -1}', '{"input": "x", "output": 1}', "[]", "{", "null", 3])
def test_bad_usage_objects(details: Any) -> None:
    found = read(span({"langfuse.observation.type": "generation", "langfuse.observation.usage_details": details}))
    assert found.usage in (None, Usage())


def test_a_call_that_was_asked_nothing_does_not_exist() -> None:
    """What streams leave whose usage was not told, or told in part: zero is not what was billed."""
    assert read(span(chat(input_tokens=0, output_tokens=7))).usage == Usage(None, 7)
    assert read(span(chat(input_tokens=0, output_tokens=0))).usage is None


def test_a_files_increase_may_have_no_input() -> None:
    found = read(span(chat(input_tokens=0, output_tokens=7) | {"spanledger.source": "file:mux"}))
    assert found.usage == Usage(0, 7)


@pytest.mark.parametrize(
    "scope", ["opentelemetry.instrumentation.langchain", "openlit.instrumentation.langchain", "gen_ai"]
)
def test_langchains_zero_writes_are_unknown(scope: str) -> None:
    """The sum, which LangChain leaves at 0 where it tells writes by time to live, is all that is passed on."""
    view = span(
        chat(input_tokens=553, output_tokens=51, cache_read__input_tokens=0, cache_creation__input_tokens=0),
        scope=scope,
    )
    assert read(view).usage == Usage(553, 51, 0, 0 if scope == "gen_ai" else None)


@pytest.mark.parametrize(
    ("total", "more", "estimate"),
    [
        (1100, {}, False),
        (0, {}, False),  # not told
        (1105, {}, False),  # a client's tokenizer
        (1100, {"cache_read__input_tokens": 400}, False),
        (700, {"cache_read__input_tokens": 400}, False),  # without caches
        (1040, {"reasoning__output_tokens": 60}, False),  # without reasoning
        # https://ai.google.dev/gemini-api/docs/openai: thoughts are in the total only
        (3100, {}, True),
        # https://ai.google.dev/api/generate-content#UsageMetadata: toolUsePromptTokenCount is in the total only
        (1400, {"cache_read__input_tokens": 0, "reasoning__output_tokens": 0}, True),
        (110, {}, True),
    ],
)
def test_a_total_that_differs_strongly_is_a_doubt(total: int, more: dict[str, int], *, estimate: bool) -> None:
    found = read(
        span(
            chat(input_tokens=1000, output_tokens=100, total_tokens=total, **more), scope="opentelemetry.x", version="1"
        )
    )
    assert found.usage is not None
    assert (found.usage.input, found.usage.output, found.estimate) == (1000, 100, estimate)
    assert bool(found.note) is estimate


def test_a_total_is_looked_at_whatever_was_read_before() -> None:
    """A span of a shape that was read before takes a shorter way."""
    reported = chat(input_tokens=1000, output_tokens=100) | {"gen_ai.response.id": "r"}
    estimates = [read(span(reported | {"gen_ai.usage.total_tokens": total})).estimate for total in (1100, 1100, 3100)]
    assert estimates == [False, False, True]
