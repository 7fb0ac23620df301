"""Inputs made after public reports (`tests/data/reports`, each with its source and what is right in `want.json`).

Amounts are worked out beside each test from genai-prices 0.2.3, or are the providers' own figures on the span.
"""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from captures import one_by_one
from pipelines import Pipeline
from spanledger_processor.otlp import json_form

FOLDER = Path(__file__).parents[1] / "data" / "reports"
Reported = dict[str, Any]


def request(name: str) -> ExportTraceServiceRequest:
    body = json_form.to_protobuf("traces", (FOLDER / name / "in.json").read_bytes())
    return ExportTraceServiceRequest.FromString(body)


def want(name: str) -> Any:
    return json.loads((FOLDER / name / "want.json").read_bytes())["expect"]


def together(name: str) -> tuple[list[Reported], Reported]:
    """What the spans of a report carry when they come in one request, and the ledger."""
    pipeline = Pipeline()
    pipeline.take([("traces", request(name).SerializeToString())])
    return list(pipeline.sent.values()), pipeline.ledger()


def alone(name: str) -> dict[str, Reported]:
    """What each span of a report carries when it comes alone, by its name."""
    found: dict[str, Reported] = {}
    for resource in request(name).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                pipeline = Pipeline()
                pipeline.take([("traces", _only(name, span).SerializeToString())])
                (result,) = pipeline.sent.values()
                key = span.name if span.name not in found else f"{span.name} {len(found) + 1}"
                found[key] = {attribute.removeprefix("spanledger."): value for attribute, value in result.items()}
    assert found, name
    return found


def _only(name: str, wanted: Span) -> ExportTraceServiceRequest:
    kept = request(name)
    for resource in kept.resource_spans:
        for scope in resource.scope_spans:
            spans = [span for span in scope.spans if span == wanted]
            del scope.spans[:]
            scope.spans.extend(spans)
    return kept


def usage(result: Reported, *names: str) -> tuple[Any, ...]:
    return tuple(result.get(f"usage.{name}_tokens") for name in names)


def test_ai_sdk_5_tells_cache_writes_in_the_provider_metadata_only() -> None:
    """claude-haiku-4-5: input 1, cache write 1.25, cache read 0.1, output 5."""
    first, second = alone("01-aisdk5-cachewrite").values()
    expected = want("01-aisdk5-cachewrite")
    assert usage(first, "input", "cache_write") == (2187, 2183)
    assert first["cost.usd"] == expected["span1"]["cost"]  # 4 x 1 + 2,183 x 1.25 + 104 x 5
    assert usage(second, "input", "cache_read") == (2187, 2183)
    assert second["cost.usd"] == expected["span2"]["cost"]  # 4 x 1 + 2,183 x 0.1 + 110 x 5


def test_langchain_writes_the_tier_into_the_names_of_the_classes() -> None:
    """gpt-6-sol by priority: input 4, cache read 0.4, cache write 5, output 20; flex: 1, 0.1 and 5 for the output."""
    spans = alone("02-langchain-tier-keys")
    for name, output in (
        ("ChatOpenAI-oi", 50),
        ("ChatOpenAI-ls-tierkey", 50),
        ("ChatOpenAI-lf-prio", 50),
        ("ChatOpenAI-ls", 51),
    ):
        assert usage(spans[name], "input", "cache_read", "cache_write", "output") == (2304, 256, 1024, output)
        assert spans[name]["cost.usd"] == pytest.approx((1024 * 4 + 256 * 0.4 + 1024 * 5 + output * 20) / 1e6)
    flex = spans["ChatOpenAI-lf-flex"]
    assert usage(flex, "input", "cache_read", "output") == (2304, 256, 50)
    assert flex["cost.usd"] == pytest.approx((2048 * 1 + 256 * 0.1 + 50 * 5) / 1e6)


def test_reports_of_two_tiers_are_two_calls_in_any_order() -> None:
    """Three libraries tell of one call by priority, one of another output, and one of a call by flex."""
    body = request("02-langchain-tier-keys").SerializeToString()
    sums: set[str] = set()
    for order in permutations(one_by_one([("traces", body)])):
        pipeline = Pipeline()
        pipeline.take(order)
        sums.add(pipeline.ledger()["cost_usd_exact"])
    by_priority = 2 * (1024 * 4 + 1024 * 5) + 2 * 256 * Decimal("0.4") + (50 + 51) * 20
    assert sums == {str((by_priority + 2048 * 1 + 256 * Decimal("0.1") + 50 * 5) / 10**6)}


def test_sound_has_its_own_rate_or_is_an_estimate() -> None:
    """gemini-2.5-flash: input 0.3, sound 1, output 2.5; gpt-4o-audio-preview has no rate for sound in the list."""
    spans = alone("03-audio-modality")
    for name, text in (("gemini-audio", 500), ("oi-gemini-audio", 501), ("pydantic-gemini-audio", 502)):
        assert usage(spans[name], "input_audio") == (19_500,)
        assert spans[name]["cost.usd"] == pytest.approx((text * 0.3 + 19_500 * 1 + 100 * 2.5) / 1e6)
    unlisted = spans["openai-audio"]
    assert usage(unlisted, "input_audio", "output_audio") == (1800, 320)
    assert unlisted["cost.estimate"]
    assert unlisted["note"] == "no sure price for: input audio, output audio"


def test_caches_beyond_an_input_that_includes_them_are_a_contradiction() -> None:
    for result in alone("04-langchainjs-doubled-cache").values():
        assert result.get("cost.unpriced") == "inconsistent_usage" or result.get("cost.estimate")
        assert result.get("usage.input_tokens") in (None, 5100)


def test_with_ones_own_key_the_providers_charge_counts() -> None:
    spans = alone("09-openrouter-byok")
    assert spans["byok-0"]["cost.usd"] == 0.04868  # upstream_inference_cost
    assert spans["byok-fee"]["cost.usd"] == 0.051114  # and the fee, 0.002434
    for name in ("byok-0", "byok-fee"):
        assert spans[name]["cost.source"] == "billed"
    nothing = spans["broadcast-0"]  # 9,174 x 5 + 113 x 25, billed as 0 and no word why
    assert (nothing["cost.usd"], nothing["cost.source"], nothing["cost.estimate"]) == (0.048695, "computed", True)


def test_searches_by_the_provider_cost_what_the_list_says() -> None:
    """claude-sonnet-4-6: input 3, output 15, a thousand searches 10."""
    first, second = alone("10-web-search-fee").values()
    assert first["usage.web_searches"] == second["usage.web_searches"] == 2
    assert first["cost.other_usd"] == second["cost.other_usd"] == want("10-web-search-fee")["search"]
    assert first["cost.usd"] == want("10-web-search-fee")["cost"]  # 9,548 x 3 + 528 x 15 per million, and 0.02
    assert second["cost.usd"] == 0.056567  # LiteLLM's own figure, too


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # claude-opus-4-8: 5 and 25, fast twice that; gpt-5.2: 1.75 and 14, priority twice that
        ("fast asked, standard served", (10_000 * 5 + 25_000) / 1e6),
        ("fast served", (10_001 * 10 + 50_000) / 1e6),
        ("fast asked, nothing told", (10_002 * 10 + 50_000) / 1e6),
        ("priority asked, default served", (10_010 * 1.75 + 14_000) / 1e6),
        ("priority asked, standard served", (10_011 * 1.75 + 14_000) / 1e6),
        ("gen_ai flex asked, standard served", (10_012 * 1.75 + 14_000) / 1e6),
        ("auto asked, priority served", (10_013 * 3.5 + 28_000) / 1e6),
    ],
)
def test_what_was_served_is_paid(name: str, expected: float) -> None:
    result = alone("11-served-tier")[name]
    assert result["cost.usd"] == pytest.approx(expected)
    assert "cost.estimate" not in result


def test_an_instrumentation_changed_what_its_input_means() -> None:
    """openinference-instrumentation-claude-agent-sdk: the input includes both caches from 0.1.13 on."""
    for result in alone("12-oi-claude-agent-sdk-versions").values():
        assert usage(result, "input") == (want("12-oi-claude-agent-sdk-versions")["both"]["input"],)
        assert result["cost.usd"] == want("12-oi-claude-agent-sdk-versions")["both"]["cost"]


def test_an_answer_from_the_proxys_cache_costs_nothing() -> None:
    spans, ledger = together("22-litellm-cache-hit")
    hits = [result for result in spans if "hit" in result["span name"]]
    assert len(hits) == 3
    for result in hits:
        assert result["spanledger.cost.usd"] == 0
        assert result["spanledger.cost.source"] == "response_cache"
        assert not [key for key in result if key.startswith("spanledger.usage.")]
    assert (ledger["calls"], ledger["tokens"]["input"], ledger["tokens"]["output"]) == (1, 8120, 950)
    assert Decimal(ledger["cost_usd_exact"]) == Decimal(str(want("22-litellm-cache-hit")["sum"]))


def test_rankings_without_a_count_are_calls_without_usage() -> None:
    spans, ledger = together("25-rerank-units")
    result = {span["span name"]: span for span in spans}
    assert result["CohereRerank"]["spanledger.cost.unpriced"] == "no_usage"
    assert result["rerank"]["spanledger.cost.unpriced"] == "no_usage"
    reported = result["litellm_request"]
    assert (reported["spanledger.cost.usd"], reported["spanledger.cost.source"]) == (0.002, "reported")
    assert (ledger["calls"], ledger["unpriced"]) == (3, {"no_usage": 2})


def test_an_aborted_answer_is_unknown_and_not_free() -> None:
    spans = alone("29-aborted-stream")
    for name in ("zeros", "nothing"):
        assert spans[name]["cost.unpriced"] == "no_usage"
        assert "cost.usd" not in spans[name]
    assert spans["message_start only"]["cost.estimate"]


def test_two_services_with_equal_counts_make_two_calls() -> None:
    """gpt-4.1-mini: 812 x 0.4 + 1 x 1.6 per million each; different services, sessions and traces."""
    spans, ledger = together("28-probe-false-twins")
    assert [result.get("spanledger.cost.usd") for result in spans] == [0.0003264, 0.0003264]
    assert (ledger["calls"], ledger["cost_usd_exact"]) == (2, "0.0006528")


def test_a_call_that_comes_to_something_new_is_no_loop() -> None:
    """Polling, and tests after edits: the same call each time, and another result."""
    wanted = want("14-loop-polling")["tool.loop"]
    spans, _ = together("14-loop-polling")
    assert max(span["spanledger.tool.repeats"] for span in spans) >= 5
    assert {span["spanledger.tool.loop"] for span in spans} == {wanted}
    assert {span["tool.loop"] for span in alone("14-loop-polling").values()} == {wanted}


def test_the_same_calls_without_results_are_a_loop() -> None:
    """What no span tells cannot be taken for progress."""
    body = request("14-loop-polling")
    for resource in body.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                kept = [attribute for attribute in span.attributes if attribute.key != "gen_ai.tool.call.result"]
                del span.attributes[:]
                span.attributes.extend(kept)
    pipeline = Pipeline()
    pipeline.take([("traces", body.SerializeToString())])
    assert any(span["spanledger.tool.loop"] for span in pipeline.sent.values())


def test_two_calls_of_one_library_stay_two_beside_anothers_whichever_tells_more() -> None:
    """Each of Langfuse's two spans is a call; OpenInference's, with equal counts at the same time, is one of them."""
    spans = {
        ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0].name: body
        for _, body in one_by_one([("traces", request("02-langchain-tier-keys").SerializeToString())])
    }
    for names in permutations(["ChatOpenAI-lf-flex", "ChatOpenAI-lf-prio", "ChatOpenAI-oi"]):
        pipeline = Pipeline()
        pipeline.take([("traces", spans[name]) for name in names])
        assert pipeline.ledger()["calls"] == 2, names
