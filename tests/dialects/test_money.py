"""Costs that came in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialect_view import chat, read, span
from spanledger_processor.model import Call
from spanledger_processor.units import USD


@pytest.mark.parametrize(
    ("key", "value", "scope"),
    [
        ("gen_ai.usage.cost", 0.25, "openlit.instrumentation.openai"),
        ("operation.cost", 0.25, "pydantic-ai"),
        ("gen_ai.cost.total_cost", 0.25, "litellm"),
        ("litellm.cost.total", "0.25", "litellm"),
        ("hidden_params", '{"response_cost": 0.25}', "litellm"),
        ("gen_ai.usage.cost", 0.25, "my-app"),
    ],
)
def test_a_librarys_estimate(key: str, value: Any, scope: str) -> None:
    found = read(span(chat(input_tokens=1, output_tokens=1) | {key: value}, scope=scope)).reported
    assert found is not None
    assert (found.amount, found.billed) == (USD // 4, False)


def test_openrouter_says_what_it_charged() -> None:
    found = read(span(chat(input_tokens=1, output_tokens=1, total_cost=0.25))).reported
    assert found is not None
    assert (found.amount, found.billed, found.key) == (USD // 4, True, "gen_ai.usage.total_cost")


@pytest.mark.parametrize("key", ["github.copilot.cost", "github.copilot.aiu"])
def test_copilot_counts_in_no_currency(key: str) -> None:
    view = span(chat(input_tokens=1, output_tokens=1) | {key: 3.0}, scope="github.copilot")
    assert read(view).reported is None


def test_sentrys_total_tokens_are_dollars() -> None:
    view = span({"sentry.op": "gen_ai.chat", "gen_ai.cost.total_tokens": 0.25, "gen_ai.usage.input_tokens": 1})
    found = read(view).reported
    assert found is not None
    assert found.amount == USD // 4


@pytest.mark.parametrize(
    ("attributes", "amount"),
    [
        (
            {"langfuse.observation.type": "generation", "langfuse.observation.cost_details": '{"total": 0.25}'},
            USD // 4,
        ),
        ({"mlflow.spanType": '"LLM"', "mlflow.llm.cost": '{"total_cost": 0.25}'}, USD // 4),
        ({"openinference.span.kind": "AGENT", "llm.cost.total": 0.25}, USD // 4),
    ],
)
def test_a_cost_without_usage(attributes: dict[str, Any], amount: int) -> None:
    found = read(span(attributes))
    assert found.reported is not None
    assert (found.granularity, found.reported.amount) == ("cost-only", amount)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), True, "much", "", None, 1e300, [0.25]])
def test_what_is_no_amount_is_none(value: Any) -> None:
    assert read(span(chat(input_tokens=1, output_tokens=1) | {"gen_ai.usage.cost": value})).reported is None


def test_cost_keys_that_came_in_are_remembered() -> None:
    view = span(chat(input_tokens=1, output_tokens=1, cost=0.25) | {"llm.cost.total": 0.25})
    assert read(view).present == {"gen_ai.usage.cost", "llm.cost.total"}


def _langfuse(given: dict[str, Any]) -> Call:
    attributes = {f"langfuse.observation.{key}": json.dumps(value) for key, value in given.items()}
    return read(span(attributes | {"langfuse.observation.type": "generation"}))


def test_langchains_cache_through_langfuse() -> None:
    """`langchain_core.language_models.chat_models` adds `total_cost: 0` to the usage of an answer from its cache; the
    handler of `langfuse.langchain` passes on every integer in it.
    """
    usage = {"input": 100, "output": 10, "total": 110, "input_cache_read": 0}
    assert _langfuse({"usage_details": usage | {"total_cost": 0}}).response_cache
    assert not _langfuse({"usage_details": usage}).response_cache


def test_a_cost_of_zero_that_langfuse_was_told() -> None:
    """Langfuse's SDKs compute no cost: what stands there the application or the gateway said."""
    found = _langfuse({"usage_details": {"input": 100, "output": 10}, "cost_details": {"total": 0}}).reported
    assert found is not None
    assert (found.amount, found.means_zero) == (0, True)


@pytest.mark.parametrize(
    ("details", "amount"),
    [
        ({"input": 0.03, "output": 0.05}, 80_000_000_000),
        ({"total_cost": 0.0023}, 2_300_000_000),  # the example of `langfuse._client.client`
        ({"input": 0.03, "total": 0.5}, 500_000_000_000),
        ({"input": 0.03, "output": "much"}, None),
        ({"input": 0.03, "output": -1}, None),
        ({}, None),
        ([0.03], None),
    ],
)
def test_langfuses_cost_is_its_total_or_the_sum_of_its_parts(details: Any, amount: int | None) -> None:
    """https://langfuse.com/docs/observability/features/token-and-cost-tracking: any class, and the total if told."""
    found = _langfuse({"usage_details": {"input": 100, "output": 10}, "cost_details": details}).reported
    assert (found.amount if found is not None else None) == amount


OPENINFERENCE = {"openinference.span.kind": "LLM", "llm.token_count.prompt": 100, "llm.token_count.completion": 10}
LITELLM = chat(input_tokens=100, output_tokens=10) | {"litellm.call_id": "1"}


@pytest.mark.parametrize("hit", [True, False])
@pytest.mark.parametrize(
    ("attributes", "key"),
    [
        (OPENINFERENCE, "metadata"),
        (LITELLM, "hidden_params"),
        ({"langfuse.observation.type": "generation"}, "langfuse.observation.metadata"),
    ],
)
def test_a_cache_hit_in_an_object(attributes: dict[str, Any], key: str, *, hit: bool) -> None:
    """LiteLLM's `cache_hit`, as its callbacks and its users hand it on with a call's metadata."""
    assert read(span(attributes | {key: json.dumps({"cache_hit": hit})})).response_cache is hit
    assert read(span(attributes | {key: str({"cache_hit": hit, "of": "x"})})).response_cache is hit
    assert not read(span(attributes | {key: json.dumps({"about": {"cache_hit": hit}})})).response_cache


def test_a_cache_hit_in_langfuses_flat_metadata() -> None:
    """`langfuse._client.attributes` writes each key of the metadata as an attribute."""
    assert _langfuse({"metadata.cache_hit": True}).response_cache
    assert not _langfuse({"metadata.cache_hit": False}).response_cache


def test_litellms_cost_of_zero_on_arizes_spans() -> None:
    """`litellm.integrations.arize._utils`: 0 for an answer from the cache, nothing where the price is not known."""
    call = read(span(OPENINFERENCE | {"llm.request.type": "completion", "llm.cost.total": 0.0}, scope="litellm"))
    assert call.reported is not None
    assert (call.reported.amount, call.reported.means_zero) == (0, True)
