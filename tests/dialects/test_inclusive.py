"""Whether a count of input has the caches in it.

Input 40, read 30, write 5: large enough that the numbers themselves decide nothing.
"""

from __future__ import annotations

import json

import pytest

from dialect_view import PlainAttributes, PlainEvent, chat, read, span
from spanledger_processor.model import Usage


@pytest.mark.parametrize(
    ("scope", "version", "provider", "total", "estimate"),
    [
        ("opentelemetry.instrumentation.genai.anthropic", "1.3b0", "anthropic", 40, False),
        ("opentelemetry.instrumentation.genai.bedrock", "1.3b0", "aws.bedrock", 75, False),
        ("opentelemetry.instrumentation.anthropic", "0.62.4", "anthropic", 40, False),
        ("opentelemetry.instrumentation.bedrock", "0.62.4", "aws.bedrock", 75, False),
        ("@traceloop/instrumentation-anthropic", "0.27.0", "anthropic", 75, False),
        ("@traceloop/instrumentation-anthropic", "0.28.0", "anthropic", 40, False),
        ("openlit.instrumentation.anthropic", "", "anthropic", 75, False),
        ("openlit.instrumentation.claude_agent_sdk", "", "anthropic", 40, False),
        ("openlit.instrumentation.openai", "", "openai", 40, False),
        ("gen_ai", "", "anthropic", 40, False),
        ("agent_framework", "1.23.0", "anthropic", 75, False),
        ("agent_framework", "1.23.0", "openai", 40, False),
        ("com.anthropic.sdk.python", "2.12.0", "anthropic", 40, False),
        ("pydantic-ai", "2.68.0", "anthropic", 40, False),
        ("@mastra/otel-exporter", "1.4.0", "anthropic.messages", 40, True),
        ("my-app", "1.0", "openai", 40, False),
        ("my-app", "1.0", "anthropic", 40, True),
    ],
)
def test_the_table_decides(scope: str, version: str, provider: str, total: int, *, estimate: bool) -> None:
    found = read(
        span(
            chat(input_tokens=40, output_tokens=1, cache_read__input_tokens=30, cache_creation__input_tokens=5)
            | {"gen_ai.provider.name": provider},
            scope=scope,
            version=version,
        )
    )
    assert found.usage is not None
    assert (found.usage.input, found.usage.cache_read, found.usage.cache_write) == (total, 30, 5)
    assert found.estimate is estimate


@pytest.mark.parametrize(("provider", "estimate"), [("anthropic", False), ("aws.bedrock", False), ("openai", True)])
def test_caches_larger_than_the_input(provider: str, *, estimate: bool) -> None:
    """They prove an exclusive count of providers that count so; of any other it is the likelier reading only."""
    reported = chat(input_tokens=40, output_tokens=1, cache_read__input_tokens=300) | {"gen_ai.provider.name": provider}
    found = read(span(reported, scope="my-app"))
    assert (found.usage, found.problem, found.estimate) == (Usage(340, 1, 300), "", estimate)


@pytest.mark.parametrize("total", [341, None])
def test_only_a_total_proves_a_count_of_an_unknown_source_exclusive(total: int | None) -> None:
    reported: dict[str, str | int | None] = {"llm.token_count.prompt": 40, "llm.token_count.completion": 1}
    reported |= {
        "llm.token_count.total": total,
        "llm.token_count.prompt_details.cache_read": 300,
        "llm.provider": "google",
    }
    found = read(span(reported, scope="my-app"))
    assert (found.usage, found.estimate) == (Usage(340, 1, 300), total is None)


def test_a_total_proves_it_where_the_table_is_unsure() -> None:
    """Bedrock's total has the caches in it."""
    found = read(
        span(
            chat(input_tokens=40, output_tokens=1, total_tokens=71, cache_read__input_tokens=30)
            | {"gen_ai.provider.name": "aws.bedrock"},
            scope="my-app",
        )
    )
    assert (found.usage, found.estimate) == (Usage(70, 1, 30), False)


def test_without_caches_there_is_nothing_to_guess() -> None:
    found = read(span(chat(input_tokens=40, output_tokens=1) | {"gen_ai.provider.name": "anthropic"}))
    assert found.estimate is False


@pytest.mark.parametrize(
    ("scope", "version", "total"),
    [
        ("openinference.instrumentation.anthropic", "1.0.0", 40),
        ("openinference.instrumentation.bedrock", "0.1.61", 40),
        ("openinference.instrumentation.claude_agent_sdk", "0.1.0", 70),
        ("@arizeai/openinference-instrumentation-anthropic", "0.1.22", 70),
        ("@arizeai/openinference-instrumentation-anthropic", "0.2.8", 40),
    ],
)
def test_openinference(scope: str, version: str, total: int) -> None:
    found = read(
        span(
            {
                "openinference.span.kind": "LLM",
                "llm.token_count.prompt": 40,
                "llm.token_count.completion": 1,
                "llm.token_count.prompt_details.cache_read": 30,
            },
            scope=scope,
            version=version,
        )
    )
    assert found.usage == Usage(total, 1, 30)


@pytest.mark.parametrize(
    ("scope", "estimate"),
    [
        ("opentelemetry.instrumentation.bedrock", True),
        ("@arizeai/openinference-instrumentation-bedrock", True),
        ("opentelemetry.instrumentation.genai.bedrock", False),
        ("opentelemetry.instrumentation.openai.v1", False),
    ],
)
def test_an_exclusive_count_without_caches_may_lack_some(scope: str, *, estimate: bool) -> None:
    """OpenLLMetry loses them on Bedrock's InvokeModel; the convention's own instrumentation leaves out zeros."""
    openinference = {"openinference.span.kind": "LLM", "llm.token_count.prompt": 40, "llm.token_count.completion": 1}
    attributes = openinference if scope.startswith("@") else chat(input_tokens=40, output_tokens=1)
    assert read(span(attributes, scope=scope)).estimate is estimate


def test_agentops_names_its_scope_after_the_client_library() -> None:
    """Only the scope says which provider it was, and its count leaves cached input out."""
    found = read(
        span(
            {
                "gen_ai.request.type": "chat",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.usage.prompt_tokens": 40,
                "gen_ai.usage.completion_tokens": 1,
            },
            "anthropic.messages.create",
            "anthropic",
            "2.13.0",
        )
    )
    assert (found.dialect, found.kind, found.provider) == ("agentops", "llm", "anthropic")
    assert (found.usage, found.estimate) == (Usage(40, 1), True)


@pytest.mark.parametrize(
    ("scope", "provider", "metrics", "usage", "estimate"),
    [
        (
            "braintrust",
            "anthropic",
            {"prompt_tokens": 40, "prompt_cached_tokens": 30, "prompt_cache_creation_tokens": 5, "tokens": 50},
            Usage(40, 10, 30, 5),
            False,
        ),
        (
            "braintrust-java",
            "anthropic",
            {"prompt_tokens": 5, "prompt_cached_tokens": 30, "prompt_cache_creation_tokens": 5, "tokens": 15},
            Usage(40, 10, 30, 5),
            False,
        ),
        ("braintrust-aws-bedrock", "bedrock", {"prompt_tokens": 40, "tokens": 50}, Usage(40, 10), True),
        (
            "braintrust",
            "openai",
            {"prompt_tokens": 40, "prompt_cached_tokens": 30, "completion_reasoning_tokens": 4, "tokens": 50},
            Usage(40, 10, 30, reasoning=4),
            False,
        ),
        (
            "braintrust",
            "gemini",
            {"prompt_tokens": 40, "prompt_cached_tokens": 30, "tokens": 57},
            Usage(40, 17, 30, reasoning=7),
            False,
        ),
    ],
)
def test_braintrusts_counts_mean_what_each_of_its_sdks_writes(
    scope: str, provider: str, metrics: dict[str, int], usage: Usage, *, estimate: bool
) -> None:
    """`parseUsageTokens` of braintrust-sdk-go 0.1.0 and `InstrumentationSemConv` of braintrust-sdk-java."""
    metadata = {"provider": provider, "model": "m"}
    attributes = {
        "braintrust.metadata": json.dumps(metadata),
        "braintrust.metrics": json.dumps({"completion_tokens": 10, **metrics}),
    }
    found = read(span(attributes, scope=scope))
    assert (found.dialect, found.kind, found.provider, found.model) == ("braintrust", "llm", provider, "m")
    assert (found.usage, found.estimate, found.problem) == (usage, estimate, "")


def test_braintrusts_marks_on_a_span_of_another_vocabulary_change_nothing() -> None:
    """Its span processors mark whatever they let through."""
    marks = {"braintrust.parent": "project_name:p", "braintrust.span_attributes": json.dumps({"type": "task"})}
    alone = read(span(chat(input_tokens=40, output_tokens=1)))
    assert read(span(chat(input_tokens=40, output_tokens=1) | marks)) == alone


@pytest.mark.parametrize(
    ("system", "tokens", "usage", "estimate"),
    [
        ("anthropic", {}, Usage(40, 10), True),
        ("openai", {"gen_ai.usage.cached_tokens": 30}, Usage(40, 10, 30), False),
        ("gemini", {}, Usage(40, 10), True),
    ],
)
def test_langtraces_counts_mean_what_the_provider_counts(
    system: str, tokens: dict[str, int], usage: Usage, *, estimate: bool
) -> None:
    """`set_usage_attributes` of langtrace-python-sdk 3.8.21 takes two counts, and leaves out caches and thoughts."""
    attributes = {
        "langtrace.service.type": "llm",
        "gen_ai.system": system,
        "gen_ai.operation.name": "openai.responses.create",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.total_tokens": 50,
        **tokens,
    }
    found = read(span(attributes, scope="langtrace_python_sdk.instrumentation.x"))
    assert (found.dialect, found.kind) == ("langtrace", "llm")
    assert (found.usage, found.estimate) == (usage, estimate)


@pytest.mark.parametrize(
    ("provider", "usage", "estimate"),
    [
        ("openai", Usage(40, 10, 30), False),
        ("anthropic", Usage(70, 10, 30), True),
        ("gemini", Usage(40, 17, 30, reasoning=7), False),
    ],
)
def test_monocles_counts_mean_what_the_provider_counts(provider: str, usage: Usage, *, estimate: bool) -> None:
    """`update_span_from_llm_response` of monocle_apptrace 0.8.15; of Anthropic's writes to the cache it tells none."""
    attributes = {
        "monocle_apptrace.version": "0.8.15",
        "span.type": "inference",
        "entity.1.type": f"inference.{provider}",
        "entity.2.type": "model.llm.m",
        "entity.2.name": "m",
    }
    told = {"prompt_tokens": "40", "completion_tokens": "10", "cache_read_input_tokens": "30"}
    event = PlainEvent("metadata", PlainAttributes(told | ({"total_tokens": "57"} if provider == "gemini" else {})))
    found = read(span(attributes, events=[event]))
    assert (found.dialect, found.kind, found.provider, found.model) == ("monocle", "llm", provider, "m")
    assert (found.usage, found.estimate, found.problem) == (usage, estimate, "")


def test_a_count_of_monocles_that_is_none_is_no_usage() -> None:
    attributes = {"monocle_apptrace.version": "0.8.15", "span.type": "inference", "entity.1.type": "inference.openai"}
    found = read(span(attributes, events=[PlainEvent("metadata", PlainAttributes({"prompt_tokens": "many"}))]))
    assert (found.usage, bool(found.problem)) == (None, True)


@pytest.mark.parametrize("provider", ["google", "vertexai"])
def test_outputs_of_traceai_for_google_may_lack_thoughts(provider: str) -> None:
    """`traceai_google_genai/_stream.py` (0.1.2) and `traceai_vertexai/_wrapper.py` (0.1.10): candidates and total."""
    attributes: dict[str, str | int] = {
        "gen_ai.span.kind": "LLM",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": "gemini-2.5-flash",
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.output_tokens": 10,
    }
    found = read(span(attributes | {"gen_ai.usage.total_tokens": 57}, scope="traceai_google_genai"))
    assert (found.dialect, found.usage, found.estimate) == ("traceai", Usage(40, 17, reasoning=7), False)
    assert read(span(attributes, scope="traceai_google_genai")).estimate, "without a total nobody knows"
