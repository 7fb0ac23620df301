"""Parse rows of chat.jsonl, chat-archive.jsonl and headless-usage.jsonl: turns with their tools, and model names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from spanledger_sidecar.records import (
    Direction,
    Sign,
    count,
    dedup_key,
    later,
    nested,
    no_counts,
    span_id,
    text,
    time_ms,
    trace_id,
    unknown_directions,
)
from spanledger_sidecar.tokens import TokenVector

DIRECT = frozenset({"anthropic", "openai", "google", "xai", "deepseek", "moonshotai", "zai"})
"""Providers under whose names Mux keeps the models that gateways resell."""

GATEWAYS = {"mux-gateway": "/", "openrouter": "/", "coder": "/", "bedrock": "."}
"""Gateways, and what stands between maker and model in their names."""

NO_MODEL = frozenset({"historical", "unknown", ""})
"""Keys of usage whose model is not known: made by a rebuild from old history."""

CONVENTION = {"google": "gcp.gemini", "xai": "x_ai", "bedrock": "aws.bedrock"}
"""Mux's provider names that the semantic conventions spell otherwise."""


COMPACTION = "compact"
"""The agent that sums a chat up; its rows lack the provider's counts of the cache (docs/formats/mux.md#22-rows)."""


class Model(NamedTuple):
    """How a span names a model; both empty where the key names none."""

    provider: str
    model: str


def model_of(key: str) -> Model:
    """Return what a model key names. Without a provider's name it is a bare model; ids may hold colons themselves."""
    if key in NO_MODEL:
        return Model("", "")
    provider, colon, model = key.partition(":")
    if not colon:
        return Model("", key)
    return Model(CONVENTION.get(provider, provider), model)


def canonical(name: str) -> str:
    """Return the key under which Mux keeps a model that a request names so: a known maker's behind its gateway."""
    provider, colon, model = name.partition(":")
    separator = GATEWAYS.get(provider)
    if not colon or separator is None:
        return name or "unknown"
    maker, separated, rest = model.partition(separator)
    return f"{maker}:{rest}" if separated and rest and maker in DIRECT else name


Wanted: TypeAlias = Callable[[bytes, int], bool]
"""Whether a row with this dedup_key and end (ms since 1970) may become a span, and so needs ids and signed tools."""

_PICO_PER_TICK = 100
"""xAI's costInUsdTicks: 1e10 ticks are one USD."""
_PLAIN_TIERS = frozenset({"default", "auto", "standard"})
_NESTED_TOOLS = 4


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool call of a turn; signed, without its arguments."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    call_id: str
    start_ms: int
    end_ms: int
    signature: str
    signature_scope: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Row:
    """Usage that one row of a file proves. `dedup_key` is the key by which it counts once, in any file.

    `name` is what the row is called in its chat. `whole` is all that the row tells, where `tokens` is what it grew by.
    `vague_input` is true where the row cannot tell cache writes from other input. `write_1h` is how much of the cache
    writes lives for an hour (None: not known). `named` is the model as the request named it, `key` the usage file's key
    of it. `cost` (picodollars) is there where the provider charged it or a subscription covered it. Rows `in_chat` are
    what Mux makes a lost usage file from. `unknown` are directions of which a number of tokens is none.
    """

    dedup_key: bytes
    trace_id: bytes
    span_id: bytes
    key: str
    named: str
    tokens: TokenVector
    start_ms: int
    end_ms: int
    cost: int | None = None
    agent: str = ""
    route: str = ""
    tier: str = ""
    ttft_ms: int | None = None
    finish_reason: str = ""
    note: str = ""
    in_chat: bool = True
    name: str = ""
    whole: TokenVector | None = None
    vague_input: bool = False
    write_1h: int | None = None
    tools: list[Tool] = field(default_factory=list)
    unknown: tuple[Direction, ...] = ()

    @property
    def lacks_writes(self) -> bool:
        """Return whether it is a compaction's, whose input holds what was written to the cache, if anything was."""
        return self.vague_input and self.agent == COMPACTION and self.tokens.input > 0

    @property
    def proven_ms(self) -> int:
        """Return its end, where the file's last request, which is later, shows that it may be in the file; else 0.

        The last request stays as it was when a call outside any turn is recorded.
        """
        return self.end_ms if self.in_chat else 0


def row_name(row: dict[str, Any], workspace: str) -> str:
    """Return what identifies a chat row: its id, which forks copy; else its position in the workspace's history."""
    return text(row.get("id")) or f"{workspace}#{count(nested(row, 'metadata', 'historySequence'))}"


def turns(row: dict[str, Any], workspace: str, sign: Sign, wanted: Wanted) -> list[Row]:
    """Return the turn that a chat row proves, and the calls of other models by its tools, which are not in it."""
    metadata = row.get("metadata")
    if row.get("role") != "assistant" or not isinstance(metadata, dict):
        return []
    name = row_name(row, workspace)
    rows = []
    if isinstance(metadata.get("usage"), dict):
        rows.append(_turn(row, metadata, name, sign, wanted))
    extra = metadata.get("toolModelUsages")
    for index, call in enumerate(extra if isinstance(extra, list) else []):
        if isinstance(call, dict) and isinstance(call.get("usage"), dict):
            rows.append(_tool_model(call, name, index, metadata))
    return rows


def _turn(row: dict[str, Any], metadata: dict[str, Any], name: str, sign: Sign, wanted: Wanted) -> Row:
    key, start_ms = dedup_key("mux turn", name), time_ms(metadata.get("timestamp"))
    end_ms = later(start_ms, count(metadata.get("duration")))
    trace = span = b""
    parts = None
    if wanted(key, end_ms):
        trace, span, parts = trace_id("mux turn", name), span_id("mux turn", name), row.get("parts")
    return Row(
        key,
        trace,
        span,
        *_model(metadata),
        tokens_of(metadata["usage"], metadata.get("providerMetadata")),
        start_ms,
        end_ms,
        _charged(metadata),
        text(metadata.get("agentId")) or text(metadata.get("mode")),
        text(metadata.get("routeProvider")),
        _tier(metadata.get("providerMetadata")),
        count(metadata.get("ttftMs")) if "ttftMs" in metadata else None,
        text(metadata.get("finishReason")),
        "interrupted" if metadata.get("partial") is True else "",
        name=name,
        vague_input=not isinstance(metadata.get("providerMetadata"), dict),
        write_1h=_write_1h(metadata),
        tools=_tools(parts, (trace, span, name), start_ms, sign, _NESTED_TOOLS),
        unknown=_unknown(metadata),
    )


def _tool_model(call: dict[str, Any], name: str, index: int, turn: dict[str, Any]) -> Row:
    """Return a call of another model inside a turn: a span beside the turn's, not below it, where it would repeat."""
    mark = text(call.get("toolCallId")) or str(index)
    identity = ("mux tool model", name, text(call.get("toolName")), mark, index)
    end_ms = time_ms(call.get("timestamp")) or later(time_ms(turn.get("timestamp")), count(turn.get("duration")))
    return Row(
        dedup_key(*identity),
        trace_id("mux turn", name),
        span_id(*identity),
        *_model(call),
        tokens_of(call["usage"], call.get("providerMetadata")),
        end_ms,
        end_ms,
        _charged(call),
        text(call.get("toolName")),
        tier=_tier(call.get("providerMetadata")),
        write_1h=_write_1h(call),
        unknown=_unknown(call),
    )


def headless(line: dict[str, Any], nth: int) -> Row | None:
    """Return a call outside any turn. Lines have no id: their content is one, with `nth` of those that are the same."""
    usage = line.get("usage")
    if not isinstance(usage, dict):
        return None
    end_ms, source, named = time_ms(line.get("timestamp")), text(line.get("source")), text(line.get("model"))
    tokens = tokens_of(usage, line.get("providerMetadata"))
    identity = ("mux headless", end_ms, source, named, *tokens, nth)
    trace, span = trace_id(*identity), span_id(*identity)
    tier = _tier(line.get("providerMetadata"))
    return Row(
        dedup_key(*identity),
        trace,
        span,
        canonical(named),
        named,
        tokens,
        end_ms,
        end_ms,
        _charged(line),
        source,
        tier=tier,
        note=f"outside any turn: {source}",
        in_chat=False,
        write_1h=_write_1h(line),
        unknown=_unknown(line),
    )


def _model(holder: dict[str, Any]) -> tuple[str, str]:
    named = text(holder.get("model"))
    return canonical(named), named


_INCLUSIVE = ("inputTokens", "cachedInputTokens", "outputTokens", "reasoningTokens")


def tokens_of(usage: dict[str, Any], metadata: Any) -> TokenVector:
    """Return the AI SDK's inclusive usage in Mux's disjoint classes (docs/formats/mux.md#13-token-classes)."""
    given, cached = count(usage.get("inputTokens")), count(usage.get("cachedInputTokens"))
    written = count(nested(metadata, "anthropic", "cacheCreationInputTokens"))
    answer = count(usage.get("outputTokens"))
    reasoning = count(usage.get("reasoningTokens")) or count(nested(metadata, "openai", "reasoningTokens"))
    text_only = answer - reasoning if answer >= reasoning else answer
    return TokenVector(max(0, given - cached - written), cached, written, text_only, reasoning)


def no_counts_of(holder: Any) -> int:
    """Return how many numbers of tokens of a row, and of the calls that its tools made, are none."""
    calls = nested(holder, "toolModelUsages")
    holders = [holder, *(calls if isinstance(calls, list) else ())]
    return sum(no_counts([*given, *answer]) for given, answer in map(_counts, holders))


def _counts(holder: Any) -> tuple[list[Any], list[Any]]:
    """Return the values that `tokens_of` reads as tokens of input and of output."""
    given, cached, answer, reasoning = (nested(holder, "usage", name) for name in _INCLUSIVE)
    written = nested(holder, "providerMetadata", "anthropic", "cacheCreationInputTokens")
    inside = nested(holder, "providerMetadata", "openai", "reasoningTokens")
    return [given, cached, written], [answer, reasoning, *[inside] * (not count(reasoning))]


def _unknown(holder: dict[str, Any]) -> tuple[Direction, ...]:
    return unknown_directions(*_counts(holder))


def _charged(holder: dict[str, Any]) -> int | None:
    metadata = holder.get("providerMetadata")
    if holder.get("costsIncluded") is True or nested(metadata, "mux", "costsIncluded") is True:
        return 0
    ticks = nested(metadata, "xai", "costInUsdTicks")
    return count(ticks) * _PICO_PER_TICK if isinstance(ticks, int) and not isinstance(ticks, bool) else None


def _write_1h(holder: dict[str, Any]) -> int | None:
    """Return the tokens written to a cache for an hour; None where the file does not have them.

    The raw usage is that of the last call: it tells all of a turn's only where it has all of its cache writes.
    """
    anthropic = nested(holder, "providerMetadata", "anthropic")
    split = nested(anthropic, "usage", "cache_creation")
    written = count(nested(anthropic, "cacheCreationInputTokens"))
    if not written or count(nested(anthropic, "usage", "cache_creation_input_tokens")) != written:
        return None
    hour, minutes = (nested(split, f"ephemeral_{life}_input_tokens") for life in ("1h", "5m"))
    return count(hour) if count(hour) + count(minutes) == written else None


def _tier(metadata: Any) -> str:
    tier = text(nested(metadata, "openai", "serviceTier"))
    return "" if tier in _PLAIN_TIERS else tier


def _tools(parts: Any, at: tuple[bytes, bytes, str], start_ms: int, sign: Sign, depth: int) -> list[Tool]:
    """Return the tool calls among `parts`, below the span `at` (trace, span, name of the row), and those inside."""
    trace, parent, name = at
    calls = []
    for index, part in enumerate(parts if isinstance(parts, list) else []):
        if not isinstance(part, dict) or not isinstance(part.get("toolName"), str):
            continue
        call_id = text(part.get("toolCallId"))
        span = span_id("mux tool", name, call_id or index)
        begun = time_ms(part.get("executionStartedAt")) or time_ms(part.get("timestamp")) or start_ms
        ended = later(begun, count(nested(part, "output", "wall_duration_ms")))
        signed = sign(text(part["toolName"]), part.get("input"))
        calls.append(Tool(trace, span, parent, text(part["toolName"]), call_id, begun, ended, *signed, _failed(part)))
        if depth:
            inner = (trace, span, f"{name}/{call_id or index}")
            calls += _tools(part.get("nestedCalls"), inner, begun, sign, depth - 1)
    return calls


def _failed(part: dict[str, Any]) -> bool:
    """Return whether a tool call failed, by Mux's own rule (docs/formats/mux.md#23-tool-parts)."""
    output = part.get("output")
    return part.get("failed") is True or (
        isinstance(output, dict) and (output.get("success") is False or bool(output.get("error")))
    )
