"""Vercel AI SDK, two vocabularies: `ai.*` up to version 6, the convention's keys (`@ai-sdk/otel`) from 7."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.calls import Kind
from spanledger_processor.dialects.counts import Input
from spanledger_processor.dialects.dialect import (
    Dialect,
    Groups,
    Signs,
    Source,
    Tokens,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.otel import OTEL, TOKENS
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.view import View

_CALLS: dict[str, Kind] = {
    "doGenerate": "llm",
    "doStream": "llm",
    "doEmbed": "embedding",
    "doRerank": "rerank",
}
"""Last part of `ai.operationId` where it is one request to a provider; what stands above them repeats them."""


def _kind(view: View) -> Kind | None:
    operation = text(view.attributes.get("ai.operationId"))
    if operation == "ai.toolCall":
        return "tool"
    return _CALLS.get(operation.rpartition(".")[2], "workflow")


_GROUPS = Groups(session=("ai.telemetry.metadata.sessionId", "ai.settings.context.sessionId"))

VERCEL_LEGACY = Dialect(
    name="vercel_legacy",
    about="Vercel AI SDK up to version 6 (experimental_telemetry), opencode",
    signs=Signs(keys=("ai.operationId",)),
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
            providers=("anthropic", "amazon-bedrock", "bedrock", "google-vertex-anthropic", "vertex.anthropic"),
            why="up to version 5 these providers' own counts, which exclude caches; the provider's metadata tells",
        ),
        Source(Input.INCLUSIVE, why="OpenAI's and Google's counts include caches"),
    ),
    tool=ToolKeys(name=("ai.toolCall.name",), arguments=("ai.toolCall.args",), call_id=("ai.toolCall.id",)),
    groups=_GROUPS,
)

VERCEL = replace(
    OTEL,
    name="vercel",
    about="Vercel AI SDK from version 7 (@ai-sdk/otel)",
    signs=Signs(scopes=("gen_ai",), marks=("gen_ai.operation.name",)),
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
