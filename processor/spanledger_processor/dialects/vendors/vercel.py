"""Vercel AI SDK, two vocabularies: `ai.*` up to version 6, the convention's keys (`@ai-sdk/otel`) from 7."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.schema import (
    Detection,
    Dialect,
    GroupingKeys,
    Place,
    ScopedSpan,
    Source,
    Tokens,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.values import NoCountError, count, text
from spanledger_processor.dialects.vendors.otel import OTEL, TOKENS
from spanledger_processor.model import Call, Kind, Usage

_CALLS: dict[str, Kind] = {
    "doGenerate": "llm",
    "doStream": "llm",
    "doEmbed": "embedding",
    "doRerank": "rerank",
}
"""Last part of `ai.operationId` where it is one request to a provider; what stands above them repeats them."""


def _kind(view: ScopedSpan) -> Kind | None:
    operation = text(view.attributes.get("ai.operationId"))
    if operation == "ai.toolCall":
        return "tool"
    return _CALLS.get(operation.rpartition(".")[2], "workflow")


_EXCLUSIVE = (
    "anthropic",
    "amazon-bedrock",
    "bedrock",
    "google-vertex-anthropic",
    "vertex.anthropic",
    "googleVertexAnthropic",
)


def _metadata(view: ScopedSpan, call: Call) -> None:
    """What only the provider's metadata tells: caches and reasoning of early versions, and the service tier."""
    value = view.attributes.get("ai.response.providerMetadata")
    if not isinstance(value, str) or not any(word in value for word in ("ache", "erviceTier", "easoningTokens")):
        return
    for provider, told in _objects(texts.parse(value)):
        tier = text(told.get("serviceTier")).lower()
        if tier not in ("", "auto", "default", "standard") and not call.price_context:
            call.price_context = (("service_tier", tier[:64]),)
        if call.usage is not None and call.usage.cache_read is None and call.usage.cache_write is None:
            _early_caches(call, call.usage, told, exclusive=provider in ("anthropic", "bedrock"))
        if call.usage is not None and call.usage.reasoning is None:
            _early_reasoning(call.usage, told)


def _objects(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        yield from ((name, told) for name, told in value.items() if isinstance(told, Mapping))


def _early_caches(call: Call, usage: Usage, told: Mapping[str, Any], *, exclusive: bool) -> None:
    inner = told.get("usage")
    places = (told, inner) if isinstance(inner, Mapping) else (told,)
    try:
        read = _first(places, "cacheReadInputTokens", "cachedPromptTokens")
        write = _first(places, "cacheCreationInputTokens", "cacheWriteInputTokens")
    except NoCountError:
        return
    if read is None and write is None:
        return
    usage.cache_read, usage.cache_write = read, write
    if exclusive and usage.input is not None:
        usage.input += (read or 0) + (write or 0)
        call.estimate = False


def _early_reasoning(usage: Usage, told: Mapping[str, Any]) -> None:
    """Version 4 tells it for OpenAI only, as a part of the output."""
    try:
        reasoning = count(told.get("reasoningTokens"))
    except NoCountError:
        return
    if reasoning is not None and reasoning <= (usage.output or 0):
        usage.reasoning = reasoning


def _first(places: Sequence[Mapping[str, Any]], *names: str) -> int | None:
    numbers = (count(place.get(name)) for place in places for name in names)
    return next((number for number in numbers if number is not None), None)


def _sure(view: ScopedSpan, call: Call) -> None:
    """From version 6 the part without caches is told as well, and the sum is inclusive."""
    if "ai.usage.inputTokenDetails.noCacheTokens" in view.attributes:
        call.estimate = False


_GROUPS = GroupingKeys(session=("ai.telemetry.metadata.sessionId", "ai.settings.context.sessionId"))

VERCEL_LEGACY = Dialect(
    name="vercel_legacy",
    place=Place.OWN_KEYS,
    rank=1,
    about="Vercel AI SDK up to version 6 (experimental_telemetry), opencode",
    detection=Detection(keys=("ai.operationId",)),
    kind_of=_kind,
    request_model=("ai.model.id", "gen_ai.request.model"),
    response_model=("ai.response.model", "gen_ai.response.model"),
    provider=("ai.model.provider", "gen_ai.system"),
    response_id=("ai.response.id", "gen_ai.response.id"),
    tokens=Tokens(
        input=("ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens", "gen_ai.usage.input_tokens"),
        output=("ai.usage.outputTokens", "ai.usage.completionTokens", "gen_ai.usage.output_tokens"),
        total=("ai.usage.totalTokens",),
        cache_read=("ai.usage.inputTokenDetails.cacheReadTokens", "ai.usage.cachedInputTokens"),
        cache_write=("ai.usage.inputTokenDetails.cacheWriteTokens",),
        reasoning=("ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens"),
    ),
    usage_texts=(UsageText("ai.response.providerMetadata"),),
    sources=(
        Source(
            Input.UNSURE,
            providers=_EXCLUSIVE,
            why="up to version 5 these providers' own counts, which exclude caches; the provider's metadata tells",
        ),
        Source(
            Input.INCLUSIVE,
            providers=("google", "vertex"),
            output=Output.FROM_TOTAL,
            why="up to version 5 candidates only; the total has the thoughts",
        ),
        Source(Input.INCLUSIVE, why="OpenAI's counts include caches"),
    ),
    tool=ToolKeys(name=("ai.toolCall.name",), arguments=("ai.toolCall.args",), call_id=("ai.toolCall.id",)),
    groups=_GROUPS,
    rules=(_metadata, _sure),
)

VERCEL = replace(
    OTEL,
    name="vercel",
    place=Place.CONVENTION_KEYS,
    rank=1,
    about="Vercel AI SDK from version 7 (@ai-sdk/otel)",
    detection=Detection(scopes=("gen_ai",), requires=("gen_ai.operation.name",)),
    tokens=replace(
        TOKENS,
        cache_read=(*TOKENS.cache_read, "ai.usage.inputTokenDetails.cacheReadTokens"),
        cache_write=(*TOKENS.cache_write, "ai.usage.inputTokenDetails.cacheWriteTokens"),
        reasoning=(*TOKENS.reasoning, "ai.usage.outputTokenDetails.reasoningTokens"),
    ),
    usage_texts=(UsageText("ai.response.providerMetadata"),),
    sources=(Source(Input.INCLUSIVE, why="the SDK adds the classes up"),),
    groups=_GROUPS,
)
