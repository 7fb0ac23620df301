"""Usage objects as providers and client libraries write them, told apart by their shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from spanledger_processor.dialects.normalize import Counts, Input, NormalizedUsage, Output, Terms, no_text, normalize
from spanledger_processor.dialects.values import NoCountError, count, money, text
from spanledger_processor.model import ReportedCost
from spanledger_processor.units import USD

Paths = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UsageShape:
    """A form of usage object: all of `needs` are there, and one of `any_of` if there are any.

    Each class names the places it may stand at, dots going one level down; the first that holds a count is taken.
    `adds` are further input tokens that `input` leaves out.
    """

    name: str
    needs: Paths
    means: Input
    input: Paths
    output: Paths
    any_of: Paths = ()
    total: Paths = ()
    cache_read: Paths = ()
    cache_write: Paths = ()
    cache_write_5m: Paths = ()
    cache_write_1h: Paths = ()
    reasoning: Paths = ()
    adds: Paths = ()
    output_means: Output = Output.INCLUSIVE


_COUNTS = tuple(one.name for one in fields(Counts) if one.type.startswith("int") and one.name != "parts")
_PATHS = ("needs", "any_of", "adds", *_COUNTS)

USAGE_SHAPES = (
    UsageShape(
        "OpenAI chat completions, and what imitates it (LiteLLM, DeepSeek, Mistral, Groq, OpenRouter)",
        needs=("prompt_tokens",),
        means=Input.INCLUSIVE,
        input=("prompt_tokens",),
        output=("completion_tokens",),
        total=("total_tokens",),
        cache_read=(
            "prompt_tokens_details.cached_tokens",
            "cache_read_input_tokens",
            "prompt_cache_hit_tokens",
            "prompt_cached_tokens",
            "num_cached_tokens",
        ),
        cache_write=(
            "prompt_tokens_details.cache_write_tokens",
            "prompt_tokens_details.cache_creation_tokens",
            "cache_creation_input_tokens",
        ),
        cache_write_5m=(
            "prompt_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens",
            "cache_creation.ephemeral_5m_input_tokens",
        ),
        cache_write_1h=(
            "prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens",
            "cache_creation.ephemeral_1h_input_tokens",
        ),
        reasoning=("completion_tokens_details.reasoning_tokens",),
    ),
    UsageShape(
        "OpenAI responses",
        needs=("input_tokens", "input_tokens_details"),
        means=Input.INCLUSIVE,
        input=("input_tokens",),
        output=("output_tokens",),
        total=("total_tokens",),
        cache_read=("input_tokens_details.cached_tokens",),
        cache_write=("input_tokens_details.cache_write_tokens",),
        reasoning=("output_tokens_details.reasoning_tokens",),
    ),
    UsageShape(
        "OpenAI realtime",
        needs=("input_tokens", "input_token_details"),
        any_of=tuple(f"input_token_details.{kind}_tokens" for kind in ("cached", "text", "audio", "image")),
        means=Input.INCLUSIVE,
        input=("input_tokens",),
        output=("output_tokens",),
        total=("total_tokens",),
        cache_read=("input_token_details.cached_tokens",),
    ),
    UsageShape(
        "LangChain usage_metadata",
        needs=("input_tokens", "total_tokens"),
        any_of=("input_token_details", "output_token_details"),
        means=Input.INCLUSIVE,
        input=("input_tokens",),
        output=("output_tokens",),
        total=("total_tokens",),
        cache_read=(
            "input_token_details.cache_read",
            "input_token_details.priority_cache_read",
            "input_token_details.flex_cache_read",
        ),
        cache_write=(
            "input_token_details.cache_creation",
            "input_token_details.priority_cache_creation",
            "input_token_details.flex_cache_creation",
        ),
        cache_write_5m=("input_token_details.ephemeral_5m_input_tokens",),
        cache_write_1h=("input_token_details.ephemeral_1h_input_tokens",),
        reasoning=(
            "output_token_details.reasoning",
            "output_token_details.priority_reasoning",
            "output_token_details.flex_reasoning",
        ),
    ),
    UsageShape(
        "Anthropic messages",
        needs=("input_tokens",),
        any_of=("cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation"),
        means=Input.EXCLUSIVE,
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read=("cache_read_input_tokens",),
        cache_write=("cache_creation_input_tokens",),
        cache_write_5m=("cache_creation.ephemeral_5m_input_tokens",),
        cache_write_1h=("cache_creation.ephemeral_1h_input_tokens",),
        reasoning=("output_tokens_details.thinking_tokens",),
    ),
    UsageShape(
        "Gemini (REST)",
        needs=("promptTokenCount",),
        means=Input.INCLUSIVE,
        input=("promptTokenCount",),
        output=("candidatesTokenCount", "responseTokenCount"),
        total=("totalTokenCount",),
        cache_read=("cachedContentTokenCount",),
        reasoning=("thoughtsTokenCount",),
        adds=("toolUsePromptTokenCount",),
        output_means=Output.EXCLUSIVE,
    ),
    UsageShape(
        "Gemini (Python)",
        needs=("prompt_token_count",),
        means=Input.INCLUSIVE,
        input=("prompt_token_count",),
        output=("candidates_token_count", "response_token_count"),
        total=("total_token_count",),
        cache_read=("cached_content_token_count",),
        reasoning=("thoughts_token_count",),
        adds=("tool_use_prompt_token_count",),
        output_means=Output.EXCLUSIVE,
    ),
    UsageShape(
        "Bedrock converse",
        needs=("inputTokens",),
        any_of=("cacheReadInputTokens", "cacheWriteInputTokens"),
        means=Input.EXCLUSIVE,
        input=("inputTokens",),
        output=("outputTokens",),
        total=("totalTokens",),
        cache_read=("cacheReadInputTokens",),
        cache_write=("cacheWriteInputTokens",),
    ),
    UsageShape(
        "AI SDK from version 6",
        needs=("inputTokens", "inputTokenDetails"),
        means=Input.INCLUSIVE,
        input=("inputTokens",),
        output=("outputTokens",),
        total=("totalTokens",),
        cache_read=("inputTokenDetails.cacheReadTokens", "cachedInputTokens"),
        cache_write=("inputTokenDetails.cacheWriteTokens",),
        reasoning=("outputTokenDetails.reasoningTokens", "reasoningTokens"),
    ),
    UsageShape(
        "AI SDK language model, version 3",
        needs=("inputTokens.total",),
        means=Input.INCLUSIVE,
        input=("inputTokens.total",),
        output=("outputTokens.total",),
        cache_read=("inputTokens.cacheRead",),
        cache_write=("inputTokens.cacheWrite",),
        reasoning=("outputTokens.reasoning",),
    ),
    UsageShape(
        "Genkit",
        needs=("inputTokens",),
        any_of=("thoughtsTokens", "inputCharacters", "cachedContentTokens"),
        means=Input.INCLUSIVE,
        input=("inputTokens",),
        output=("outputTokens",),
        total=("totalTokens",),
        cache_read=("cachedContentTokens",),
        reasoning=("thoughtsTokens",),
        output_means=Output.FROM_TOTAL,
    ),
    UsageShape(
        "AI SDK version 5",
        needs=("inputTokens",),
        means=Input.UNSURE,
        input=("inputTokens",),
        output=("outputTokens",),
        total=("totalTokens",),
        cache_read=("cachedInputTokens",),
        reasoning=("reasoningTokens",),
    ),
    UsageShape(
        "Cohere",
        needs=("billed_units.input_tokens",),
        means=Input.INCLUSIVE,
        input=("billed_units.input_tokens",),
        output=("billed_units.output_tokens",),
    ),
    UsageShape(
        "Cohere rerank",
        needs=("search_units",),
        means=Input.INCLUSIVE,
        input=("input_tokens",),
        output=("output_tokens",),
    ),
    UsageShape(
        "Cohere rerank, whole",
        needs=("billed_units.search_units",),
        means=Input.INCLUSIVE,
        input=("billed_units.input_tokens",),
        output=("billed_units.output_tokens",),
    ),
    UsageShape(
        "input and output, no caches told",
        needs=("input_tokens",),
        means=Input.INCLUSIVE,
        input=("input_tokens",),
        output=("output_tokens",),
        total=("total_tokens",),
        reasoning=("output_tokens_details.reasoning_tokens", "reasoning_tokens"),
    ),
)


PARTS: Mapping[str, Paths] = {
    "input_audio": (
        "prompt_tokens_details.audio_tokens",
        "input_tokens_details.audio_tokens",
        "input_token_details.audio_tokens",
        "input_token_details.audio",
        "promptTokensDetails.AUDIO.tokenCount",
        "prompt_tokens_details.AUDIO.token_count",
    ),
    "input_image": (
        "prompt_tokens_details.image_tokens",
        "input_tokens_details.image_tokens",
        "input_token_details.image_tokens",
        "promptTokensDetails.IMAGE.tokenCount",
        "prompt_tokens_details.IMAGE.token_count",
    ),
    "cache_read_audio": (
        "prompt_tokens_details.cached_tokens_details.audio_tokens",
        "input_token_details.cached_tokens_details.audio_tokens",
        "cacheTokensDetails.AUDIO.tokenCount",
        "cache_tokens_details.AUDIO.token_count",
    ),
    "cache_read_image": (
        "input_token_details.cached_tokens_details.image_tokens",
        "cacheTokensDetails.IMAGE.tokenCount",
        "cache_tokens_details.IMAGE.token_count",
    ),
    "output_audio": (
        "completion_tokens_details.audio_tokens",
        "output_tokens_details.audio_tokens",
        "output_token_details.audio_tokens",
        "output_token_details.audio",
        "candidatesTokensDetails.AUDIO.tokenCount",
        "candidates_tokens_details.AUDIO.token_count",
        "responseTokensDetails.AUDIO.tokenCount",
        "response_tokens_details.AUDIO.token_count",
    ),
    "output_image": (
        "completion_tokens_details.image_tokens",
        "output_tokens_details.image_tokens",
        "candidatesTokensDetails.IMAGE.tokenCount",
        "candidates_tokens_details.IMAGE.token_count",
    ),
    "web_searches": (
        "server_tool_use.web_search_requests",
        "serverToolUse.webSearchRequests",
        "prompt_tokens_details.web_search_requests",
        "server_side_tool_usage_details.web_search_calls",
        "num_search_queries",
        "connectors.web_search",
    ),
    "file_searches": ("server_side_tool_usage_details.file_search_calls",),
    "search_units": ("search_units", "billed_units.search_units"),
}
"""Paths in usage objects of any shape of the classes that are copied as they are.

OpenAI: https://platform.openai.com/docs/api-reference/chat/object, .../responses/object, .../realtime-server-events;
Google: https://ai.google.dev/api/generate-content#UsageMetadata; Anthropic: https://docs.anthropic.com/en/api/messages;
Cohere: https://docs.cohere.com/reference/rerank; xAI: https://docs.x.ai/docs/guides/tools/tool-usage-details;
Perplexity: https://docs.perplexity.ai/api-reference/chat-completions-post; Mistral (`ConversationUsageInfo`):
https://docs.mistral.ai/api/endpoint/beta/conversations.
"""
UNCLASSED: Mapping[str, Paths] = {
    "video tokens": (
        "promptTokensDetails.VIDEO.tokenCount",
        "prompt_tokens_details.VIDEO.token_count",
        "prompt_tokens_details.video_tokens",
        "completion_tokens_details.video_tokens",
    ),
    "seconds of audio": ("prompt_audio_seconds", "seconds"),
    "code executions": (
        "server_tool_use.code_execution_requests",
        "server_side_tool_usage_details.code_interpreter_calls",
        "connectors.code_interpreter",
    ),
    "connector tokens": ("connector_tokens",),
    "cache writes for 12 hours": ("input_tokens_details.cache_write_tokens_details.ttl_12h_tokens",),
    "orchestration tokens": (
        "input_tokens_details.orchestration_input_tokens",
        "output_tokens_details.orchestration_output_tokens",
    ),
    "generated images": ("connectors.image_generation",),
    "social searches": ("server_side_tool_usage_details.x_search_calls",),
    "document searches": ("server_side_tool_usage_details.document_search_calls", "connectors.document_library"),
    "search sources": ("num_sources_used",),
    "citation tokens": ("citation_tokens",),
}
"""Paths of counts that have no class and may have a price.

OpenAI bills cache writes for 12 hours at a higher rate (the documentation in @ai-sdk/openai 4.0.118).
"""
_TEXT: Paths = (
    "prompt_tokens_details.text_tokens",
    "input_tokens_details.text_tokens",
    "input_token_details.text_tokens",
)
"""The input's text, where OpenAI's details tell it. Google's tell documents beside it, at the price of text."""
_CONTEXT: Mapping[str, Paths] = {
    "service_tier": ("service_tier", "serviceTier"),
    "speed": ("speed", "performanceConfig", "performance_config"),
    "region": ("inference_geo",),
}
_TRAFFIC = ("traffic_type", "trafficType")
STANDARD = frozenset(
    {"", "auto", "default", "normal", "not_available", "global", "null", "none"}
    | {"on_demand", "on-demand", "standard", "standard_only", "unspecified", "traffic_type_unspecified"}
)
"""Values of a tier, speed or region that stand for the list price."""
_TICK = USD // 10**10
_MOST_ITERATIONS = 64
_WRITES = "cache_creation_tokens"
"""Told by LiteLLM since it counts writes in; between 1.60 and 1.80 there are releases whose prompt lacks them."""


@dataclass(slots=True)
class ParsedUsage:
    """A usage object: its numbers as they came, the usage that they stand for, and terms of the price."""

    counts: Counts
    normalized: NormalizedUsage
    terms: Terms


def read_usage(value: Mapping[str, Any]) -> ParsedUsage | None:
    """Return the usage that an object tells, None if it has no known shape or counts that are none."""
    shape = usage_shape_of(value)
    if shape is None:
        return None
    try:
        counts = read_counts(value, shape)
        added = sum(count(_at(value, path)) or 0 for path in shape.adds)
        terms = read_terms(value)
        text_in = _first(value, _tables_for(value).text)
    except NoCountError:
        return None
    if added and counts.input is not None:
        counts.input += added
    normalized = normalize(counts, shape.means, shape.output_means)
    if text_in is not None:
        terms.unclassed += no_text(counts, {"input": text_in})
    counts.terms = terms
    return ParsedUsage(counts, normalized, terms)


_STEPS = {
    path: tuple(path.split("."))
    for paths in (
        *(getattr(shape, name) for shape in USAGE_SHAPES for name in _PATHS),
        *PARTS.values(),
        *UNCLASSED.values(),
        _TEXT,
    )
    for path in paths
}
_TOPS = frozenset(_STEPS[path][0] for shape in USAGE_SHAPES for path in shape.needs)
_KNOWN_TOPS = frozenset(steps[0] for steps in _STEPS.values())
_TERM_KEYS = frozenset(
    (
        *(key for keys in _CONTEXT.values() for key in keys),
        *_TRAFFIC,
        *("iterations", "input_token_details", "output_token_details", "total_cost"),
        *("cache_creation_input_tokens", "cost", "cost_in_usd_ticks"),
    )
)
"""Keys of which one is there wherever an object says anything of the price besides classes."""


@dataclass(frozen=True, slots=True)
class _Tables:
    """What objects with some keys may have: the tables above, with the paths that begin with one of these."""

    shapes: tuple[UsageShape, ...]
    parts: Mapping[str, Paths]
    unclassed: Mapping[str, Paths]
    text: Paths


def _tables_for(value: Mapping[str, Any]) -> _Tables:
    return _narrowed(_KNOWN_TOPS.intersection(value))


@lru_cache(maxsize=1024)
def _narrowed(keys: frozenset[str]) -> _Tables:
    """Return what stands under `keys`. Bounded: which of them an object has comes from the network."""

    def begun(paths: Paths) -> Paths:
        return tuple(path for path in paths if _STEPS[path][0] in keys)

    def rows(table: Mapping[str, Paths]) -> Mapping[str, Paths]:
        return {name: left for name, paths in table.items() if (left := begun(paths))}

    shapes: list[UsageShape] = []
    for shape in USAGE_SHAPES:
        if begun(shape.needs) == shape.needs and (not shape.any_of or begun(shape.any_of)):
            changes: dict[str, Any] = {name: begun(getattr(shape, name)) for name in ("any_of", "adds", *_COUNTS)}
            shapes.append(replace(shape, **changes))
    return _Tables(tuple(shapes), rows(PARTS), rows(UNCLASSED), begun(_TEXT))


def usage_shape_of(value: Mapping[str, Any]) -> UsageShape | None:
    """Return the first shape that an object has."""
    if _TOPS.isdisjoint(value):
        return None
    for shape in _tables_for(value).shapes:
        if all(_at(value, path) is not None for path in shape.needs) and (
            not shape.any_of or any(_at(value, path) is not None for path in shape.any_of)
        ):
            return shape
    return None


def read_counts(value: Mapping[str, Any], shape: UsageShape) -> Counts:
    """Return the counts of an object by a shape.

    Raises:
        NoCountError: a value that should be a count is none.
    """
    return Counts(
        _first(value, shape.input),
        _first(value, shape.output),
        _first(value, shape.total),
        _first(value, shape.cache_read),
        _first(value, shape.cache_write),
        _first(value, shape.cache_write_5m),
        _first(value, shape.cache_write_1h),
        _first(value, shape.reasoning),
        read_parts(value),
    )


def read_parts(value: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the classes that are copied as they are, None if the object tells none.

    Raises:
        NoCountError: a value that should be a count is none.
    """
    parts = _tables_for(value).parts
    if not parts:
        return None
    found = {name: number for name, paths in parts.items() if (number := _first(value, paths)) is not None}
    return found or None


def read_terms(value: Mapping[str, Any]) -> Terms:
    """Return what a usage object says of the price besides its classes."""
    terms = Terms()
    if unclassed := _tables_for(value).unclassed:
        terms.unclassed = tuple([what for what, paths in unclassed.items() if _some(value, paths)])
    if _TERM_KEYS.isdisjoint(value):
        return terms
    terms.context = read_context(value)
    traffic = next((text(value.get(key)).lower() for key in _TRAFFIC if value.get(key)), None)
    if traffic is not None:
        terms.plan = "provisioned" if "provisioned" in traffic else ""
        terms.context["service_tier"] = traffic.removeprefix("on_demand").strip("_") if "on_demand" in traffic else ""
    terms.unclassed += _further_sampling(value.get("iterations"))
    _langchain_terms(value, terms)
    details = value.get("prompt_tokens_details")
    if value.get("cache_creation_input_tokens") and isinstance(details, dict) and _WRITES not in details:
        terms.doubt = "LiteLLM may have left cache writes out of its sum"
    terms.reported = _charged(value)
    return terms


def _further_sampling(iterations: Any) -> tuple[str, ...]:
    """Return what a request of Anthropic's sampled beside its answer, which the counts around it leave out.

    https://platform.claude.com/docs/en/build-with-claude/compaction-threshold: `usage.iterations`.
    """
    listed = iterations[:_MOST_ITERATIONS] if isinstance(iterations, list) else []
    kinds = [text(one.get("type")) for one in listed if isinstance(one, dict)]
    return tuple(dict.fromkeys(f"{kind[:64]} tokens" for kind in kinds if kind and kind != "message"))


def read_context(value: Mapping[str, Any]) -> dict[str, str]:
    """Return tier, speed and region that an object names, by the names of `Call.price_context`; "" is the standard.

    Bedrock wraps them: `serviceTier.type`, `performanceConfig.latency`
    (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html).
    """
    context: dict[str, str] = {}
    for name, keys in _CONTEXT.items():
        for key in keys:
            told = value.get(key)
            if isinstance(told, dict):
                told = told.get("type") or told.get("latency")
            if isinstance(told, str):
                tier = text(told).lower()[:64]
                context[name] = "" if tier in STANDARD else tier
                break
    return context


def _langchain_terms(value: Mapping[str, Any], terms: Terms) -> None:
    """LangChain writes the tier into the names of its classes, and a total cost of 0 on a cached generation."""
    for details in (value.get("input_token_details"), value.get("output_token_details")):
        for tier in ("priority", "flex"):
            if isinstance(details, dict) and any(str(key).startswith(tier) for key in details):
                terms.context.setdefault("service_tier", tier)
    cost = value.get("total_cost")
    terms.own_cache = "total_tokens" in value and type(cost) in (int, float) and cost == 0


def _charged(value: Mapping[str, Any]) -> ReportedCost | None:
    """Return what the response says was charged: by OpenRouter, Perplexity or xAI.

    https://openrouter.ai/docs/use-cases/usage-accounting, https://docs.perplexity.ai/api-reference/chat-completions-post,
    https://docs.x.ai/docs/guides/tools/tool-usage-details.
    """
    cost, details = value.get("cost"), value.get("cost_details") or value.get("costDetails")
    if isinstance(cost, dict):
        amount = money(cost.get("total_cost"))
        return None if amount is None else ReportedCost(amount, True, "usage.cost.total_cost")
    if "cost_in_usd_ticks" in value:
        amount = money(value.get("cost_in_usd_ticks"), _TICK)
        return None if amount is None else ReportedCost(amount, True, "usage.cost_in_usd_ticks")
    amount = money(cost)
    if amount is None or not ("is_byok" in value or "isByok" in value or isinstance(details, dict)):
        return None
    told = details if isinstance(details, dict) else {}
    upstream = money(told.get("upstream_inference_cost") or told.get("upstreamInferenceCost"))
    own_key = value.get("is_byok", value.get("isByok"))
    return ReportedCost(amount, True, "usage.cost", upstream, own_key if isinstance(own_key, bool) else None)


def _some(value: Mapping[str, Any], paths: Paths) -> bool:
    return any(isinstance(found := _at(value, path), int | float) and found > 0 for path in paths)


def _first(value: Mapping[str, Any], paths: Paths) -> int | None:
    for path in paths:
        found = _at(value, path)
        if found is not None and (number := count(found)) is not None:
            return number
    return None


def _at(value: Mapping[str, Any], path: str) -> Any:
    steps = _STEPS[path]
    found = value.get(steps[0])
    for step in steps[1:]:
        if isinstance(found, dict):
            found = found.get(step)
        else:
            found = _of_modality(found, step) if isinstance(found, list) else None
    return found


def _of_modality(details: list[Any], modality: str) -> Any:
    """Google lists a count for each modality."""
    for item in details[:16]:
        if isinstance(item, dict) and str(item.get("modality", "")).rpartition(".")[2].upper() == modality:
            return item
    return None
