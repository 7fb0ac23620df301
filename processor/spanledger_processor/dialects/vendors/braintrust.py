"""Braintrust's SDKs on OpenTelemetry (Go, Java, Ruby): all that they tell of a call, as JSON in a few attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger_processor.dialects.normalize import Counts, Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    Detection,
    Dialect,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.texts import parse
from spanledger_processor.dialects.values import count, text
from spanledger_processor.model import Call, Kind

_METRICS, _METADATA, _ABOUT = "braintrust.metrics", "braintrust.metadata", "braintrust.span_attributes"
_OUTPUT = "braintrust.output_json"
_KINDS: Mapping[str, Kind] = {
    "llm": "llm",
    "tool": "tool",
    "function": "workflow",
    "task": "workflow",
    "eval": "workflow",
    "score": "other",
}
_PARTS = {
    "input_audio": "prompt_audio_tokens",
    "input_image": "prompt_image_tokens",
    "output_audio": "completion_audio_tokens",
    "output_image": "completion_image_tokens",
}
_COPIES = ("anthropic", "bedrock")
"""Providers whose own counts of input, which leave caches out, the SDK for Java copies."""


def _object(view: ScopedSpan, key: str) -> Mapping[str, Any]:
    value = parse(view.attributes.get(key))
    return value if isinstance(value, Mapping) else {}


def _kind(view: ScopedSpan) -> Kind | None:
    """Return the kind that the span names; where it names none, a call of a model if it tells one's tokens."""
    named = _KINDS.get(text(_object(view, _ABOUT).get("type")).lower())
    if named is not None:
        return named
    metrics = _object(view, _METRICS)
    return "llm" if "prompt_tokens" in metrics or "completion_tokens" in metrics else None


def _counts(metrics: Mapping[str, Any]) -> tuple[Counts | None, Input | None]:
    """Return the counts of a span's metrics, None where it has neither input nor output."""
    given, output = count(metrics.get("prompt_tokens")), count(metrics.get("completion_tokens"))
    if given is None and output is None:
        return None, None
    reasoning = count(metrics.get("completion_reasoning_tokens"))
    counts = Counts(
        given,
        output,
        count(metrics.get("tokens")),
        count(metrics.get("prompt_cached_tokens")),
        count(metrics.get("prompt_cache_creation_tokens")),
        count(metrics.get("prompt_cache_creation_5m_tokens")),
        count(metrics.get("prompt_cache_creation_1h_tokens")),
        reasoning,
        {name: number for name, key in _PARTS.items() if (number := count(metrics.get(key))) is not None},
    )
    return counts, None


def _provider(view: ScopedSpan) -> str:
    return text(_object(view, _METADATA).get("provider")).lower()


def _leaves_caches_out(view: ScopedSpan) -> bool:
    return view.scope_name.startswith("braintrust-") and _provider(view).startswith(_COPIES)


def _of_provider(view: ScopedSpan, counts: Counts) -> None:
    """Complete counts by what the provider's mean: Gemini's candidates, Anthropic's input where it is copied."""
    provider = _provider(view)
    if _leaves_caches_out(view):
        counts.means = Input.EXCLUSIVE
    missing = (counts.total or 0) - (counts.input or 0) - (counts.output or 0)
    if provider.startswith(("gemini", "google")) and counts.output is not None and missing > 0:
        counts.output, counts.reasoning = counts.output + missing, missing


def _names(view: ScopedSpan, call: Call) -> None:
    """Read the model, the provider and the id of the answer, which stand in the span's metadata."""
    metadata = _object(view, _METADATA)
    call.response_model = text(metadata.get("model"))
    call.provider = text(metadata.get("provider"))
    if call.kind == "llm":
        call.response_id = text(metadata.get("id")) or call.response_id
    if call.usage is not None and call.usage.cache_read is None and _leaves_caches_out(view):
        call.estimate = True  # what was cached is missing from the input as well


BRAINTRUST = Dialect(
    name="braintrust",
    precedence=Precedence.CONVENTION,
    rank=3,
    about="Braintrust SDKs on OpenTelemetry",
    detection=Detection(keys=(_METRICS, _ABOUT)),
    kind_of=_kind,
    answers=(_OUTPUT,),
    usage_texts=(UsageText(_METRICS, whole=True, read=_counts), UsageText(_OUTPUT, mixed=True)),
    sources=(
        Source(Input.INCLUSIVE, why="the SDKs for Go and Ruby add Anthropic's classes up; the one for Java does not"),
    ),
    asked_in=(_METADATA,),
    answered=(_OUTPUT,),
    tool=ToolKeys(arguments=("braintrust.input_json",), result=(_OUTPUT,), name_from_span=True),
    completes=_of_provider,
    rules=(_names,),
    content=ContentKeys(
        keys={
            "braintrust.input*": ANY_INPUT,
            "braintrust.output*": ANY_INPUT,
            "braintrust.expected*": ANY_INPUT,
            _METADATA: ANY_INPUT,
        },
        prefixes=("braintrust.",),
        plain=(
            "braintrust.parent",
            "braintrust.org",
            "braintrust.app_url",
            "braintrust.scores*",
            "braintrust.tags",
            "braintrust.metrics.*",
        ),
    ),
    notes=(
        "Spans that speak another vocabulary as well are read by that one; Braintrust's span processors mark any span.",
        "Read in braintrust-sdk-go 0.1.0, braintrust-sdk-java (`InstrumentationSemConv`, June 2026) and"
        " braintrust-sdk-ruby (August 2026); not run. Java tells no caches of OpenAI and Bedrock: an estimate.",
    ),
)
