"""Vercel AI SDK, two vocabularies: `ai.*` up to version 6, the convention's keys (`@ai-sdk/otel`) from 7."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Counts, Input, Output, Terms
from spanledger_processor.dialects.outcome import OUTPUT, add_bought, add_shown
from spanledger_processor.dialects.responses import BOUGHT_MARKS, ESCAPED, MODALITIES, bought_in, is_no_search
from spanledger_processor.dialects.schema import (
    ANSWER,
    ANY_INPUT,
    FIRST_CHUNK,
    ContentKeys,
    Detection,
    Dialect,
    FirstToken,
    GroupingKeys,
    Precedence,
    ScopedSpan,
    Source,
    Tokens,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.usage_objects import read_parts, read_terms
from spanledger_processor.dialects.values import NoCountError, count, money, text
from spanledger_processor.dialects.vendors.otel import ENDPOINTS, OTEL, TOKENS
from spanledger_processor.model import Call, Kind, ReportedCost

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


_GATEWAY = "gateway"
_CHARGES = {_GATEWAY: ("cost",), "openrouter": ("usage", "cost"), "perplexity": ("cost", "totalCost")}
"""Who says in its metadata what it charged, in USD, and where: Vercel's AI Gateway (https://vercel.com/docs/ai-gateway),
@openrouter/ai-sdk-provider (2.10.0; where the caller's own key is charged, it tells that beside it), @ai-sdk/perplexity
(3.0.61)."""


def _metadata(view: ScopedSpan, counts: Counts) -> None:
    """Add what only the provider's metadata tells: classes of early versions, and the terms of the price.

    Classes are added one by one: version 5 tells reads flat and writes here.
    """
    value = view.attributes.get("ai.response.providerMetadata")
    for name, section in _objects(texts.parse(value)):
        inner = section.get("usage")
        sections = (section, inner) if isinstance(inner, Mapping) else (section,)
        try:
            _add_classes(counts, sections)
            _compare_input(counts, sections)
            _add_tool_tokens(counts, sections)
        except NoCountError:
            continue
        terms = counts.terms = counts.terms or Terms()
        for usage_section in sections:
            price_terms = read_terms(usage_section)
            terms.context = price_terms.context | terms.context
            terms.reported = terms.reported or price_terms.reported
            terms.unclassed = terms.unclassed or price_terms.unclassed
            counts.parts = (read_parts(usage_section) or {}) | (counts.parts or {}) or None
        if name == _GATEWAY or terms.reported is None:
            terms.reported = _charged(name, section) or terms.reported


def _charged(name: str, section: Mapping[str, Any]) -> ReportedCost | None:
    """Return what a seller says in its metadata that it charged, None where it says nothing."""
    path, value = _CHARGES.get(name, ()), section if name in _CHARGES else None
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    amount = money(value)
    key = ".".join(("ai.response.providerMetadata", name, *path))
    return None if amount is None else ReportedCost(amount, True, key)


def _terms(view: ScopedSpan, counts: Counts) -> None:
    """Add the terms of the price: from version 7 the span's own keys tell all classes but writes by time to live."""
    read = Counts()
    _metadata(view, read)
    counts.terms = read.terms
    if counts.cache_write and counts.cache_write == read.cache_write:
        counts.cache_write_5m, counts.cache_write_1h = read.cache_write_5m, read.cache_write_1h
    counts.parts = (read.parts or {}) | (counts.parts or {}) or None


def _objects(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        yield from ((name, inner) for name, inner in value.items() if isinstance(inner, Mapping))


def _add_classes(counts: Counts, sections: Sequence[Mapping[str, Any]]) -> None:
    if not counts.cache_read:
        read = _first(sections, "cacheReadInputTokens", "cache_read_input_tokens", "cachedPromptTokens")
        counts.cache_read = counts.cache_read if read is None else read
    if not counts.cache_write:
        write = _first(sections, "cacheCreationInputTokens", "cacheWriteInputTokens", "cache_creation_input_tokens")
        counts.cache_write = counts.cache_write if write is None else write
    split = [one["cache_creation"] for one in sections if isinstance(one.get("cache_creation"), Mapping)]
    split += [_by_time_to_live(one["cacheDetails"]) for one in sections if isinstance(one.get("cacheDetails"), list)]
    if counts.cache_write_1h is None:
        counts.cache_write_1h = _first(split, "ephemeral_1h_input_tokens")
        counts.cache_write_5m = _first(split, "ephemeral_5m_input_tokens")
    reasoning = _first(sections, "reasoningTokens")  # version 4 tells it for OpenAI only, as a part of the output
    if counts.reasoning is None and reasoning is not None and reasoning <= (counts.output or 0):
        counts.reasoning = reasoning


def _by_time_to_live(details: list[Any]) -> Mapping[str, Any]:
    """Return Bedrock's cache writes under Anthropic's names (@ai-sdk/amazon-bedrock 4)."""
    return {f"ephemeral_{one.get('ttl')}_input_tokens": one.get("inputTokens") for one in details if type(one) is dict}


def _compare_input(counts: Counts, sections: Sequence[Mapping[str, Any]]) -> None:
    """Compare the input with Anthropic's own, which excludes caches: early releases of version 6 tell no parts."""
    own, cached = _first(sections, "input_tokens"), (counts.cache_read or 0) + (counts.cache_write or 0)
    if cached and own is not None and counts.input in (own, own + cached):
        counts.means = Input.EXCLUSIVE if counts.input == own else Input.INCLUSIVE


def _add_tool_tokens(counts: Counts, sections: Sequence[Mapping[str, Any]]) -> None:
    """Add what Google's own tools put into the prompt: the SDK leaves it out up to version 6 (@ai-sdk/google 3)."""
    for usage_section in sections:
        usage = usage_section.get("usageMetadata")
        if not isinstance(usage, Mapping) or counts.input is None:
            continue
        more = count(usage.get("toolUsePromptTokenCount"))
        if more and counts.input == count(usage.get("promptTokenCount")):
            counts.input += more


def _first(sections: Sequence[Mapping[str, Any]], *names: str) -> int | None:
    numbers = (count(one.get(name)) for one in sections for name in names)
    return next((number for number in numbers if number is not None), None)


_OWN_IDS = ("ws_", "fs_", "ci_", "ig_", "srvtoolu_")
"""How ids of calls begin that OpenAI and Anthropic run themselves: by them alone ai 6.0.326 tells which these are."""
_ID_MARKS = tuple(f'"{beginning}'.encode() for beginning in _OWN_IDS)


def _searches(view: ScopedSpan, call: Call) -> None:
    """Count searches that the provider made: calls of its own tools stand among the response's.

    Where an action is not told, a search may be a page that was opened, and its price is unsure.
    """
    value = view.attributes.marked("ai.response.toolCalls", (b"providerExecuted", *_ID_MARKS, ESCAPED))
    if call.usage is None or call.usage.web_searches is not None or not isinstance(value, str):
        return
    calls = texts.parse(value)
    for tool_call in calls if isinstance(calls, list) else []:
        name, given = _provider_ran(tool_call)
        if "web_search" in name or "google_search" in name:
            if is_no_search(given):
                continue
            call.usage.web_searches = (call.usage.web_searches or 0) + 1
            name = "" if given else "web searches"
        if name and "fetch" not in name and name[:64] not in call.unclassed:
            call.unclassed = (*call.unclassed, name[:64])


def _provider_ran(tool_call: Any) -> tuple[str, Any]:
    """Return name and input of a call of the provider's own tool, "" and nothing for one of another."""
    if not isinstance(tool_call, Mapping):
        return "", None
    own_id = text(tool_call.get("toolCallId")).startswith(_OWN_IDS)
    name = tool_call.get("toolName")
    if not (own_id or tool_call.get("providerExecuted") is True) or not isinstance(name, str):
        return "", None
    return name, texts.parse(tool_call.get("input"))


def _files(view: ScopedSpan, call: Call) -> None:
    """Doubt the price of files that the model made, unless the provider's metadata counts them."""
    value = view.attributes.get("ai.response.files")
    if call.usage is None or value is None:
        return
    files = texts.parse(value)
    media_types = (file.get("mimeType", file.get("mediaType")) for file in files or () if isinstance(file, Mapping))
    kinds = dict.fromkeys(kind.partition("/")[0] for kind in media_types if isinstance(kind, str))
    add_shown(call, [kind for kind in kinds if kind in MODALITIES])


def _results(view: ScopedSpan, call: Call) -> None:
    """Count what the provider ran: tools of the application have their results in later messages."""
    if call.usage is not None and call.kind == "llm":
        add_bought(call, bought_in(view.attributes.marked(OUTPUT, BOUGHT_MARKS), results_tell=True))


_GROUPS = GroupingKeys(session=("ai.telemetry.metadata.sessionId", "ai.settings.context.sessionId"))

VERCEL_LEGACY = Dialect(
    name="vercel_legacy",
    precedence=Precedence.OWN_KEYS,
    rank=1,
    about="Vercel AI SDK up to version 6 (experimental_telemetry), opencode",
    detection=Detection(keys=("ai.operationId",)),
    kind_of=_kind,
    request_model=("ai.model.id", "gen_ai.request.model"),
    response_model=("ai.response.model", "gen_ai.response.model"),
    provider=("ai.model.provider", "gen_ai.system"),
    response_id=("ai.response.id", "gen_ai.response.id"),
    content=ContentKeys(
        unread={
            "ai.embedding": ("completions",),
            "ai.embeddings": ("completions",),
            "ai.prompt": ANY_INPUT,
            "ai.prompt.messages": ANY_INPUT,
            "ai.prompt.tools": ANY_INPUT,
            "ai.response.object": ("completions",),
            "ai.response.reasoning": ("completions",),
            "ai.response.text": ("completions",),
            "ai.value": ("prompts",),
            "ai.values": ("prompts",),
        },
        keys={
            "ai.prompt*": ANY_INPUT,
            "ai.response.toolCalls": ("tool_arguments",),
            "ai.response.files": ("completions",),
            "ai.result.*": ANSWER,
            "ai.toolCall.args": ("tool_arguments",),
            "ai.toolCall.input": ("tool_arguments",),
            "ai.toolCall.result": ("tool_results",),
            "ai.toolCall.output": ("tool_results",),
            "ai.value*": ("prompts",),
            "ai.values*": ("prompts",),
            "ai.embedding*": ("completions",),
            "ai.schema*": ("system_instructions",),
            "ai.stream.*text*": ("completions",),
            "ai.telemetry.metadata.userId": ("user_ids",),
            "ai.telemetry.metadata.user*": ("user_ids",),
            "ai.request.body": ANY_INPUT,
        },
        prefixes=("ai.",),
        plain=(
            "ai.prompt.format",
            "ai.prompt.toolChoice",
            "ai.model.*",
            "ai.operationId",
            "ai.response.id",
            "ai.response.model",
            "ai.response.finishReason",
            "ai.response.timestamp",
            "ai.response.avg*",
            "ai.response.ms*",
            "ai.request.headers.user-agent",
            "ai.toolCall.id",
            "ai.toolCall.name",
            "ai.usage.*",
            "ai.settings.*",
            "ai.telemetry.functionId",
            "ai.telemetry.metadata.tags",
            "ai.stream.ms*",
            "ai.finishReason",
            "ai.provider*",
        ),
    ),
    answered=(
        "ai.response.avgOutputTokensPerSecond",
        "ai.response.files",
        "ai.response.finishReason",
        "ai.response.model",
        "ai.response.msToFinish",
        "ai.response.msToFirstChunk",
        "ai.response.object",
        "ai.response.providerMetadata",
        "ai.response.reasoning",
        "ai.response.text",
        "ai.response.timestamp",
        "ai.response.toolCalls",
    ),
    tokens=Tokens(
        input=("ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens", "gen_ai.usage.input_tokens"),
        output=("ai.usage.outputTokens", "ai.usage.completionTokens", "gen_ai.usage.output_tokens"),
        total=("ai.usage.totalTokens",),
        cache_read=("ai.usage.inputTokenDetails.cacheReadTokens", "ai.usage.cachedInputTokens"),
        cache_write=("ai.usage.inputTokenDetails.cacheWriteTokens",),
        reasoning=("ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens"),
    ),
    endpoints=ENDPOINTS,
    usage_texts=(UsageText("ai.response.providerMetadata"),),
    first_token=(FirstToken("ai.response.msToFirstChunk", "ms"),),
    sources=(
        Source(
            Input.INCLUSIVE,
            has=("ai.usage.inputTokenDetails.noCacheTokens",),
            why="in later releases of version 6 the part without caches is reported as well, and the sum is inclusive",
            package="npm:ai@6",
            read=("6.0.0", "6.0.326"),
        ),
        Source(
            Input.UNSURE,
            providers=_EXCLUSIVE,
            why="up to version 5 these providers' own counts, which exclude caches, then inclusive ones under the same"
            " keys; the provider's metadata tells",
            package="npm:@ai-sdk/anthropic@3",
            read=("1.2.12", "3.0.140"),
        ),
        Source(
            Input.INCLUSIVE,
            providers=("google", "vertex"),
            output=Output.FROM_TOTAL,
            why="up to version 5 candidates only; the total has the thoughts",
            package="npm:@ai-sdk/google@3",
            read=("0.0.55", "3.0.141"),
        ),
        Source(
            Input.INCLUSIVE,
            why="OpenAI's counts include caches",
            package="npm:@ai-sdk/openai@3",
            read=("1.0.0", "3.0.141"),
        ),
    ),
    tool=ToolKeys(
        name=("ai.toolCall.name",),
        arguments=("ai.toolCall.args",),
        result=("ai.toolCall.result",),
        call_id=("ai.toolCall.id",),
    ),
    groups=_GROUPS,
    completes=_metadata,
    rules=(_searches, _files),
)

VERCEL = replace(
    OTEL,
    name="vercel",
    precedence=Precedence.CONVENTION_KEYS,
    rank=1,
    about="Vercel AI SDK from version 7 (@ai-sdk/otel)",
    detection=Detection(scopes=("gen_ai",), requires=("gen_ai.operation.name",)),
    tokens=replace(
        TOKENS,
        cache_read=(*TOKENS.cache_read, "ai.usage.inputTokenDetails.cacheReadTokens"),
        cache_write=(*TOKENS.cache_write, "ai.usage.inputTokenDetails.cacheWriteTokens"),
        reasoning=(*TOKENS.reasoning, "ai.usage.outputTokenDetails.reasoningTokens"),
    ),
    offers=("gen_ai.tool.definitions",),
    usage_texts=(UsageText("ai.response.providerMetadata"),),
    first_token=(FIRST_CHUNK, FirstToken("ai.response.msToFirstChunk", "ms")),
    sources=(
        Source(
            Input.INCLUSIVE,
            why="the SDK adds the classes up",
            package="npm:@ai-sdk/otel",
            read=("1.0.0", "1.0.173"),
        ),
    ),
    groups=_GROUPS,
    completes=_terms,
    rules=(_searches, _results),
)
