"""Whatever class, modality, tier or fee a span tells: the amount is the list's own, or the span is marked.

The reference is genai-prices' `calc_price` on the same counts. Each vocabulary writes them in its own keys, or leaves
the provider's raw usage on the span.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

import pytest
from genai_prices import Usage as ReferenceUsage
from genai_prices import calc_price
from genai_prices.data_units import unit_data
from hypothesis import given, settings
from hypothesis import strategies as st

from dialect_view import PlainView, read, span
from spanledger_processor.model import USAGE_CLASSES, Cost
from spanledger_processor.pricing import Pricer
from spanledger_processor.units import USD

MOMENT = datetime(2026, 11, 3, 12, tzinfo=UTC)
AT = int(MOMENT.timestamp()) * 10**9
PRICER = Pricer()
Counts: TypeAlias = dict[str, int]
NAMES = {unit["price_key"]: name for name, unit in unit_data.items()}


def convention(provider: str, model: str, counts: Counts) -> PlainView:
    keys = {
        "input": "input_tokens",
        "output": "output_tokens",
        "cache_read": "cache_read.input_tokens",
        "cache_write": "cache_creation.input_tokens",
        "reasoning": "reasoning.output_tokens",
        "input_audio": "audio.input_tokens",
        "input_image": "image.input_tokens",
        "cache_read_audio": "audio.cache_read.input_tokens",
        "cache_read_image": "image.cache_read.input_tokens",
        "output_audio": "audio.output_tokens",
        "output_image": "image.output_tokens",
    }
    reported = {f"gen_ai.usage.{keys[name]}": count for name, count in counts.items() if name in keys}
    named = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": provider, "gen_ai.request.model": model}
    return span(named | reported, scope="opentelemetry.instrumentation.genai.x")


def openinference(provider: str, model: str, counts: Counts) -> PlainView:
    keys = {
        "input": "prompt",
        "output": "completion",
        "cache_read": "prompt_details.cache_read",
        "cache_write": "prompt_details.cache_write",
        "reasoning": "completion_details.reasoning",
        "input_audio": "prompt_details.audio",
        "output_audio": "completion_details.audio",
    }
    reported = {f"llm.token_count.{keys[name]}": count for name, count in counts.items() if name in keys}
    named = {"openinference.span.kind": "LLM", "llm.provider": provider, "llm.model_name": model}
    return span(named | reported, scope="openinference.instrumentation.x", version="0.1.30")


def raw(usage: Callable[[Counts], dict[str, Any]], around: Callable[[dict[str, Any]], dict[str, Any]]) -> Writer:
    """OpenInference's plain counts, and the provider's response beside them."""

    def write(provider: str, model: str, counts: Counts) -> PlainView:
        view = openinference(provider, model, {name: counts[name] for name in ("input", "output")})
        view.attributes["output.value"] = json.dumps(around(usage(counts)) | {"model": model})
        view.attributes["output.mime_type"] = "application/json"
        return view

    return write


def openai_usage(counts: Counts) -> dict[str, Any]:
    return {
        "prompt_tokens": counts["input"],
        "completion_tokens": counts["output"],
        "total_tokens": counts["input"] + counts["output"],
        "prompt_tokens_details": {
            "cached_tokens": counts["cache_read"],
            "audio_tokens": counts["input_audio"],
            "image_tokens": counts["input_image"],
        },
        "completion_tokens_details": {
            "reasoning_tokens": counts["reasoning"],
            "audio_tokens": counts["output_audio"],
            "image_tokens": counts["output_image"],
        },
    }


def gemini_usage(counts: Counts) -> dict[str, Any]:
    def parts(whole: str, *kinds: str) -> list[dict[str, Any]]:
        reported = {kind.upper(): counts[f"{whole}_{kind}"] for kind in kinds}
        return [
            {"modality": "TEXT", "tokenCount": counts[whole] - sum(reported.values())},
            *({"modality": kind, "tokenCount": count} for kind, count in reported.items() if count),
        ]

    return {
        "promptTokenCount": counts["input"],
        "candidatesTokenCount": counts["output"],
        "totalTokenCount": counts["input"] + counts["output"],
        "cachedContentTokenCount": counts["cache_read"],
        "promptTokensDetails": parts("input", "audio", "image"),
        "cacheTokensDetails": parts("cache_read", "audio", "image"),
        "candidatesTokensDetails": parts("output", "audio", "image"),
    }


def anthropic_usage(counts: Counts) -> dict[str, Any]:
    return {
        "input_tokens": counts["input"] - counts["cache_read"] - counts["cache_write"],
        "output_tokens": counts["output"],
        "cache_read_input_tokens": counts["cache_read"],
        "cache_creation_input_tokens": counts["cache_write"],
        "server_tool_use": {"web_search_requests": counts["web_searches"]},
    }


def responses(counts: Counts) -> dict[str, Any]:
    """OpenAI's Responses API: each search is an item of the output."""
    kinds = ["web_search_call"] * counts["web_searches"] + ["file_search_call"] * counts["file_searches"]
    actions = {"web_search_call": {"action": {"type": "search", "query": "q"}}}
    output = [
        {"type": kind, "id": f"{kind}_{place}", "status": "completed", **actions.get(kind, {})}
        for place, kind in enumerate(kinds)
    ]
    return {
        "object": "response",
        "output": [*output, {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "ok"}]}],
        "usage": {
            "input_tokens": counts["input"],
            "input_tokens_details": {"cached_tokens": counts["cache_read"]},
            "output_tokens": counts["output"],
            "output_tokens_details": {"reasoning_tokens": counts["reasoning"]},
            "total_tokens": counts["input"] + counts["output"],
        },
    }


def langfuse(provider: str, model: str, counts: Counts) -> PlainView:
    """Buckets of Langfuse's documentation: disjoint, told by their names."""
    plain = counts["input"] - counts["cache_read"] - counts["input_audio"]
    details = {
        "input": plain,
        "output": counts["output"] - counts["output_audio"],
        "input_cached_tokens": counts["cache_read"],
        "input_audio_tokens": counts["input_audio"],
        "output_audio_tokens": counts["output_audio"],
    }
    return span(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": model,
            "gen_ai.system": provider,
            "langfuse.observation.usage_details": json.dumps(details),
        },
        scope="langfuse-sdk",
        version="4.0.0",
    )


def pydantic_ai(provider: str, model: str, counts: Counts) -> PlainView:
    keys = {
        "input_audio": "input_audio_tokens",
        "cache_read_audio": "cache_audio_read_tokens",
        "output_audio": "output_audio_tokens",
        "web_searches": "web_search_requests",
    }
    view = convention(
        provider, model, {name: counts[name] for name in ("input", "output", "cache_read", "cache_write")}
    )
    view.attributes |= {f"gen_ai.usage.details.{key}": counts[name] for name, key in keys.items()}
    view.scope_name = "pydantic-ai"
    view.scope_version = "2.0"
    return view


def litellm(provider: str, model: str, counts: Counts) -> PlainView:
    view = convention(
        provider, model, {name: counts[name] for name in ("input", "output", "cache_read", "cache_write")}
    )
    used = {
        "prompt_tokens": counts["input"],
        "completion_tokens": counts["output"],
        "total_tokens": counts["input"] + counts["output"],
        "server_tool_use": {"web_search_requests": counts["web_searches"]},
        "prompt_tokens_details": {"audio_tokens": counts["input_audio"], "cached_tokens": counts["cache_read"]},
    }
    view.attributes |= {"llm.request.type": "completion", "metadata.usage_object": str(used)}
    view.scope_name = "litellm"
    return view


def openllmetry(provider: str, model: str, counts: Counts) -> PlainView:
    view = convention(provider, model, counts)
    view.attributes |= {
        "llm.request.type": "chat",
        "gen_ai.usage.server_tool_use.web_search_requests": counts["web_searches"],
    }
    view.scope_name = "opentelemetry.instrumentation.anthropic"
    return view


def own_names(scope: str, marks: dict[str, Any], keys: dict[str, str]) -> Writer:
    """Input and output of the convention, and other classes under a library's own keys for them."""

    def write(provider: str, model: str, counts: Counts) -> PlainView:
        view = convention(provider, model, {name: counts[name] for name in ("input", "output")})
        view.attributes |= marks | {f"gen_ai.usage.{key}": counts[name] for name, key in keys.items()}
        view.scope_name, view.scope_version = scope, "1.8.9"
        return view

    return write


mastra = own_names(
    "@mastra/otel-exporter",
    {"mastra.span.type": "model_inference"},
    {
        "cache_read": "cached_input_tokens",
        "cache_write": "cache_write_tokens",
        "input_audio": "audio_input_tokens",
        "output_audio": "audio_output_tokens",
        "reasoning": "reasoning_tokens",
    },
)
livekit = own_names(
    "livekit-agents",
    {"lk.realtime_model_metrics": "{}"},
    {"cache_read": "input_cached_tokens", "input_audio": "input_audio_tokens", "output_audio": "output_audio_tokens"},
)


def langsmith(provider: str, model: str, counts: Counts) -> PlainView:
    view = convention(provider, model, {name: counts[name] for name in ("input", "output")})
    names = {"cache_read": "cache_read", "cache_write": "cache_creation", "input_audio": "audio"}
    view.attributes |= {
        "langsmith.span.kind": "llm",
        "gen_ai.usage.input_token_details": json.dumps({key: counts[name] for name, key in names.items()}),
        "gen_ai.usage.output_token_details": json.dumps(
            {"audio": counts["output_audio"], "reasoning": counts["reasoning"]}
        ),
    }
    return view


def vercel_5(provider: str, model: str, counts: Counts) -> PlainView:
    """Flat counts, and Google's own beside them."""
    return span(
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.model.id": model,
            "ai.model.provider": {"google": "google.generative-ai"}.get(provider, f"{provider}.chat"),
            "ai.usage.inputTokens": counts["input"],
            "ai.usage.outputTokens": counts["output"],
            "ai.usage.cachedInputTokens": counts["cache_read"],
            "ai.response.providerMetadata": json.dumps({"google": {"usageMetadata": gemini_usage(counts)}}),
        },
        scope="ai",
    )


Writer: TypeAlias = Callable[[str, str, Counts], PlainView]


@dataclass(frozen=True)
class Vocabulary:
    """How a vocabulary writes counts, and the classes beyond input and output that it can tell."""

    write: Writer
    tells: frozenset[str]


CACHE = frozenset({"cache_read"})
AUDIO = frozenset({"input_audio", "output_audio"})
IMAGE = frozenset({"input_image", "output_image"})
CACHED = frozenset({"cache_read_audio", "cache_read_image"})
VOCABULARIES = {
    "convention": Vocabulary(convention, CACHE | AUDIO | IMAGE | CACHED | {"reasoning", "cache_write"}),
    "openinference": Vocabulary(openinference, CACHE | AUDIO | {"reasoning", "cache_write"}),
    "raw OpenAI chat": Vocabulary(
        raw(openai_usage, lambda used: {"usage": used}), CACHE | AUDIO | IMAGE | {"reasoning"}
    ),
    "raw Gemini": Vocabulary(raw(gemini_usage, lambda used: {"usageMetadata": used}), CACHE | AUDIO | IMAGE | CACHED),
    "raw Anthropic": Vocabulary(
        raw(anthropic_usage, lambda used: {"usage": used}), CACHE | {"cache_write", "web_searches"}
    ),
    "raw OpenAI responses": Vocabulary(
        raw(responses, lambda whole: whole), CACHE | {"reasoning", "web_searches", "file_searches"}
    ),
    "langfuse": Vocabulary(langfuse, CACHE | AUDIO),
    "pydantic-ai": Vocabulary(pydantic_ai, CACHE | AUDIO | {"cache_read_audio", "cache_write", "web_searches"}),
    "openllmetry": Vocabulary(openllmetry, CACHE | AUDIO | {"reasoning", "cache_write", "web_searches"}),
    "mastra": Vocabulary(mastra, CACHE | AUDIO | {"reasoning", "cache_write"}),
    "livekit": Vocabulary(livekit, CACHE | AUDIO),
    "langsmith": Vocabulary(langsmith, CACHE | AUDIO | {"reasoning", "cache_write"}),
    "vercel 5": Vocabulary(vercel_5, CACHE | AUDIO | IMAGE | CACHED),
    "litellm": Vocabulary(litellm, CACHE | {"input_audio", "cache_write", "web_searches"}),
}

MODELS = [
    ("openai", "gpt-audio"),
    ("openai", "gpt-realtime"),
    ("openai", "gpt-image-1.5"),
    ("openai", "gpt-4.1"),
    ("openai", "gpt-4o"),
    ("google", "gemini-3-flash-preview"),
    ("google", "gemini-3.8-live"),
    ("anthropic", "claude-sonnet-4-6"),
]


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, str, str, Counts]:
    """A vocabulary, a model, and counts that the vocabulary can tell: each token in one of the finest classes."""
    name = draw(st.sampled_from(sorted(VOCABULARIES)))
    tells = VOCABULARIES[name].tells

    def some(*needs: str) -> int:
        return draw(st.integers(0, 5000)) if tells.issuperset(needs) else 0

    counts = {one.name: 0 for one in USAGE_CLASSES}
    text, read_text, written = draw(st.integers(1, 5000)), some("cache_read"), some("cache_write")
    audio, image = some("input_audio"), some("input_image")
    read_audio = some("cache_read_audio", "input_audio")
    read_image = some("cache_read_image", "input_image")
    output, out_audio, out_image = draw(st.integers(1, 5000)), some("output_audio"), some("output_image")
    counts |= {
        "input": text + read_text + written + audio + image + read_audio + read_image,
        "cache_read": read_text + read_audio + read_image,
        "cache_write": written,
        "input_audio": audio + read_audio,
        "input_image": image + read_image,
        "cache_read_audio": read_audio,
        "cache_read_image": read_image,
        "output": output + out_audio + out_image,
        "output_audio": out_audio,
        "output_image": out_image,
        "reasoning": min(some("reasoning"), output),
        "web_searches": draw(st.integers(0, 3)) if "web_searches" in tells else 0,
        "file_searches": draw(st.integers(0, 3)) if "file_searches" in tells else 0,
    }
    provider, model = draw(st.sampled_from(MODELS))
    return name, provider, model, counts


def listed(provider: str, model: str, counts: Counts, context: dict[str, str] | None = None) -> Decimal:
    """What the list's own arithmetic gives for the counts."""
    usage = ReferenceUsage(**{NAMES[one.price]: counts[one.name] for one in USAGE_CLASSES})
    return calc_price(
        usage, model, provider_id=provider, genai_request_timestamp=MOMENT, price_context=context or {}
    ).total_price


def is_it(cost: Cost, reference: Decimal) -> bool:
    return cost.amount is not None and abs(cost.amount - Fraction(reference) * USD) <= len(USAGE_CLASSES) + 1


@settings(max_examples=400, deadline=None)
@given(calls())
def test_what_a_span_tells_is_priced_as_the_list_does_or_marked(call: tuple[str, str, str, Counts]) -> None:
    name, provider, model, counts = call
    reported = read(VOCABULARIES[name].write(provider, model, counts))
    cost = PRICER.cost(reported, AT)
    assert is_it(cost, listed(provider, model, counts)) or cost.estimate or cost.unpriced, (reported.usage, cost)


@pytest.mark.parametrize("name", sorted(VOCABULARIES))
def test_what_a_vocabulary_can_tell_arrives(name: str) -> None:
    """Each class by itself is on the call: for the property a mark would do, and hide a class that is not read."""
    vocabulary = VOCABULARIES[name]
    assert vocabulary.tells
    for one in sorted(vocabulary.tells):
        counts = {each.name: 0 for each in USAGE_CLASSES} | {"input": 900, "output": 800, one: 3}
        if one.startswith("cache_read_"):
            counts |= {"cache_read": 3, one.replace("cache_read_", "input_"): 3}
        reported = read(vocabulary.write("openai", "gpt-realtime", counts))
        assert reported.usage is not None
        assert (reported.usage.input, reported.usage.output, getattr(reported.usage, one)) == (900, 800, 3), one


TIERS = [
    ("openai", "gpt-5.2", "service_tier", "priority"),
    ("openai", "gpt-5.2", "service_tier", "flex"),
    ("openai", "gpt-5.2", "service_tier", "default"),
    ("openai", "gpt-5.2", "service_tier", "scale"),
    ("openai", "gpt-4.1", "service_tier", "fast"),
    ("anthropic", "claude-opus-4-8", "service_tier", "batch"),
    ("anthropic", "claude-opus-4-8", "service_tier", "standard"),
    ("anthropic", "claude-opus-4-8", "service_tier", "priority"),
    ("anthropic", "claude-opus-4-8", "speed", "fast"),
    ("anthropic", "claude-opus-4-8", "speed", "standard"),
    ("anthropic", "claude-opus-4-8", "inference_geo", "us"),
    ("anthropic", "claude-opus-4-8", "inference_geo", "global"),
]


@pytest.mark.parametrize(("provider", "model", "what", "value"), TIERS)
def test_what_was_served_is_priced_as_the_list_does_or_marked(provider: str, model: str, what: str, value: str) -> None:
    """In the provider's own response, and under the convention's keys for it."""
    counts = {one.name: 0 for one in USAGE_CLASSES} | {"input": 10_000, "output": 1000}
    context = {"processing": "batch"} if value == "batch" else {what: value}
    reference, standard = listed(provider, model, counts, context), listed(provider, model, counts)
    surcharged = what == "inference_geo" and value == "us"  # 1.1 times, says Anthropic; the list has no word for it
    usage = {**anthropic_usage(counts), what: value} if provider == "anthropic" else openai_usage(counts)
    response = {"usage": usage} | ({what: value} if provider == "openai" else {})
    in_response = openinference(provider, model, {"input": 10_000, "output": 1000})
    in_response.attributes["output.value"] = json.dumps(response | {"model": model})
    views = [in_response]
    if what != "inference_geo":
        views.append(convention(provider, model, counts))
        views[-1].attributes[f"{provider}.response.{what}"] = value
    for view in views:
        cost = PRICER.cost(read(view), AT)
        assert cost.estimate if surcharged else is_it(cost, reference) or cost.estimate, view.attributes
        if reference != standard:
            assert cost.amount is not None
            assert not is_it(cost, standard) or cost.estimate


@pytest.mark.parametrize(
    "view",
    [
        # Gemini with video in the prompt (https://ai.google.dev/api/generate-content#Modality)
        raw(
            lambda counts: (
                gemini_usage(counts)
                | {
                    "promptTokensDetails": [
                        {"modality": "VIDEO", "tokenCount": 500},
                        {"modality": "TEXT", "tokenCount": 400},
                    ]
                }
            ),
            lambda used: {"usageMetadata": used},
        ),
        # Anthropic's code execution (https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/code-execution-tool)
        raw(
            lambda counts: anthropic_usage(counts) | {"server_tool_use": {"code_execution_requests": 2}},
            lambda used: {"usage": used},
        ),
    ],
)
def test_what_has_no_class_is_marked(view: Writer) -> None:
    counts = {one.name: 0 for one in USAGE_CLASSES} | {"input": 900, "output": 800}
    reported = read(view("google", "gemini-3-flash-preview", counts))
    cost = PRICER.cost(reported, AT)
    assert cost.estimate
    assert reported.unclassed
    assert cost.note
