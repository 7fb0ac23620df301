"""Usage objects as providers and client libraries write them, told apart by their shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from spanledger_processor.dialects.normalize import Counts, Input, NormalizedUsage, Output, normalize
from spanledger_processor.dialects.values import NoCountError, count

Paths = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shape:
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


_PATHS = ("needs", "any_of", "adds", *Counts.__slots__)

USAGE_SHAPES = (
    Shape(
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
    Shape(
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
    Shape(
        "LangChain usage_metadata",
        needs=("input_tokens", "total_tokens"),
        any_of=("input_token_details", "output_token_details"),
        means=Input.INCLUSIVE,
        input=("input_tokens",),
        output=("output_tokens",),
        total=("total_tokens",),
        cache_read=("input_token_details.cache_read",),
        cache_write=("input_token_details.cache_creation",),
        cache_write_5m=("input_token_details.ephemeral_5m_input_tokens",),
        cache_write_1h=("input_token_details.ephemeral_1h_input_tokens",),
        reasoning=("output_token_details.reasoning",),
    ),
    Shape(
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
    Shape(
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
    Shape(
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
    Shape(
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
    Shape(
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
    Shape(
        "AI SDK language model, version 3",
        needs=("inputTokens.total",),
        means=Input.INCLUSIVE,
        input=("inputTokens.total",),
        output=("outputTokens.total",),
        cache_read=("inputTokens.cacheRead",),
        cache_write=("inputTokens.cacheWrite",),
        reasoning=("outputTokens.reasoning",),
    ),
    Shape(
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
    Shape(
        "AI SDK version 5",
        needs=("inputTokens",),
        means=Input.UNSURE,
        input=("inputTokens",),
        output=("outputTokens",),
        total=("totalTokens",),
        cache_read=("cachedInputTokens",),
        reasoning=("reasoningTokens",),
    ),
    Shape(
        "Cohere",
        needs=("billed_units.input_tokens",),
        means=Input.INCLUSIVE,
        input=("billed_units.input_tokens",),
        output=("billed_units.output_tokens",),
    ),
    Shape(
        "input and output, no caches told",
        needs=("input_tokens",),
        means=Input.INCLUSIVE,
        input=("input_tokens",),
        output=("output_tokens",),
        total=("total_tokens",),
        reasoning=("output_tokens_details.reasoning_tokens", "reasoning_tokens"),
    ),
)


@dataclass(slots=True)
class ParsedUsage:
    """What a usage object tells: its numbers as they came, and the usage that they stand for."""

    counts: Counts
    normalized: NormalizedUsage


def read_usage(value: Mapping[str, Any]) -> ParsedUsage | None:
    """The usage that an object tells, None if it has no known shape or counts that are none."""
    shape = usage_shape_of(value)
    if shape is None:
        return None
    try:
        counts = read_counts(value, shape)
        added = sum(count(_at(value, path)) or 0 for path in shape.adds)
    except NoCountError:
        return None
    if added and counts.input is not None:
        counts.input += added
    return ParsedUsage(counts, normalize(counts, shape.means, shape.output_means))


_STEPS = {path: tuple(path.split(".")) for shape in USAGE_SHAPES for name in _PATHS for path in getattr(shape, name)}
_TOPS = frozenset(_STEPS[path][0] for shape in USAGE_SHAPES for path in shape.needs)


def usage_shape_of(value: Mapping[str, Any]) -> Shape | None:
    """The first shape that an object has."""
    if _TOPS.isdisjoint(value):
        return None
    for shape in USAGE_SHAPES:
        if all(_at(value, path) is not None for path in shape.needs) and (
            not shape.any_of or any(_at(value, path) is not None for path in shape.any_of)
        ):
            return shape
    return None


def read_counts(value: Mapping[str, Any], shape: Shape) -> Counts:
    """The counts of an object by a shape.

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
    )


def _first(value: Mapping[str, Any], paths: Paths) -> int | None:
    for path in paths:
        number = count(_at(value, path))
        if number is not None:
            return number
    return None


def _at(value: Mapping[str, Any], path: str) -> Any:
    first, *below = _STEPS[path]
    found = value.get(first)
    for step in below:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


USAGE_KEYS = frozenset(
    {"usage", "usage_metadata", "usageMetadata", "token_usage", "tokenUsage", "usage_object", "llm_output"}
)


def usages_in(value: Any, *, depth: int = 8, nodes: int = 400) -> Iterator[Mapping[str, Any]]:
    """Objects that a nested value holds under a key for usage, outermost first. Looks at so many nodes at most."""
    level: list[Any] = [value]
    for _ in range(depth):
        below: list[Any] = []
        for node in level:
            nodes -= 1
            if nodes < 0:
                return
            if isinstance(node, Mapping):
                for key, inner in node.items():
                    if key in USAGE_KEYS and isinstance(inner, Mapping):
                        yield inner
                    if isinstance(inner, Mapping | list):
                        below.append(inner)
            elif isinstance(node, list):
                below += [inner for inner in node[:64] if isinstance(inner, Mapping | list)]
        level = below
