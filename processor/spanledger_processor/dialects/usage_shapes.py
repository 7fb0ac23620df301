"""Usage objects as providers and client libraries write them, by their shape: tables for `usage_objects`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spanledger_processor.dialects.normalize import COUNTS, Input, Output

Paths = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UsageShape:
    """A form of usage object: all of `needs` are there, and one of `any_of` if there are any.

    Each class names the places it may stand at, dots going one level down; the first that holds a count is taken.
    `adds` are further input tokens that `input` leaves out. `omits_zeros`: a class of 0 is not written. `billed`: these
    are the counts that the provider bills, whatever others it counts beside them.
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
    omits_zeros: bool = False
    billed: bool = False


SHAPE_PATHS = ("needs", "any_of", "adds", *COUNTS)
"""Fields of `UsageShape` that hold paths."""

USAGE_SHAPES = (
    UsageShape(
        "OpenAI chat completions, and what imitates it (LiteLLM, DeepSeek, Mistral, Groq, OpenRouter, Moonshot)",
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
            "cached_prompt_tokens",
            "num_cached_tokens",
            "cached_tokens",
            "cached_prompt_text_tokens",
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
        reasoning=("completion_tokens_details.reasoning_tokens", "reasoning_tokens"),
    ),
    UsageShape(
        "OpenAI responses",
        needs=("input_tokens", "input_tokens_details"),
        means=Input.INCLUSIVE,
        input=("input_tokens",),
        output=("output_tokens",),
        total=("total_tokens",),
        cache_read=("input_tokens_details.cached_tokens", "input_tokens_details.cache_read_input_tokens"),
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
        "Anthropic messages, less input and output, as LangChain for JavaScript keeps a stream's first event",
        needs=("cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation"),
        means=Input.EXCLUSIVE,
        input=(),
        output=(),
        cache_read=("cache_read_input_tokens",),
        cache_write=("cache_creation_input_tokens",),
        cache_write_5m=("cache_creation.ephemeral_5m_input_tokens",),
        cache_write_1h=("cache_creation.ephemeral_1h_input_tokens",),
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
        omits_zeros=True,
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
        omits_zeros=True,
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
        cache_write_5m=("cacheDetails.5M.inputTokens",),
        cache_write_1h=("cacheDetails.1H.inputTokens",),
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
        billed=True,
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
        "input and output, no caches reported",
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
        "numSearchQueries",
        "connectors.web_search",
        "tool_calls_details.search_web.invocation",
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
    "citation tokens": ("citation_tokens", "citationTokens"),
}
"""Paths of counts that have no class and may have a price.

OpenAI bills cache writes for 12 hours at a higher rate (the documentation in @ai-sdk/openai 4.0.118).
"""
TEXT_PATHS: Paths = (
    "prompt_tokens_details.text_tokens",
    "input_tokens_details.text_tokens",
    "input_token_details.text_tokens",
)
"""The input's text, where OpenAI's details tell it. Google's tell documents beside it, at the price of text."""
CONTEXT_PATHS: Mapping[str, Paths] = {
    "service_tier": ("service_tier", "serviceTier"),
    "speed": ("speed", "performanceConfig", "performance_config"),
    "region": ("inference_geo",),
}
TRAFFIC_KEYS = ("traffic_type", "trafficType")
STANDARD = frozenset(
    {"", "auto", "default", "normal", "not_available", "global", "null", "none"}
    | {"on_demand", "on-demand", "standard", "standard_only", "unspecified", "traffic_type_unspecified"}
)
"""Values of a tier, speed or region that stand for the list price."""
