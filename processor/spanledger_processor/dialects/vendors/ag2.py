"""AG2 from version 1: the convention's keys, and each usage again on a span of its own (`TelemetryMiddleware`)."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.schema import ContentKeys, Detection, Precedence, ScopedSpan, Source
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.vendors.otel import OTEL
from spanledger_processor.model import Call, Kind

_PACKAGE, _READ = "pypi:ag2", ("1.2.1", "1.2.1")
_KIND = "ag2.usage.kind"
_MADE_BESIDE = ("compaction", "aggregation")
"""Calls that the middleware sees in their usage alone (`CompactStrategy._summarize`)."""


def _kind(view: ScopedSpan) -> Kind | None:
    """Return what a span of usage is: it names no operation."""
    return "llm" if view.attributes.is_filled(_KIND) else None


def _repeated_usage(view: ScopedSpan, call: Call) -> None:
    """Make no call of usage that another span told before."""
    if view.attributes.is_filled(_KIND) and text(view.attributes.get(_KIND)) not in _MADE_BESIDE:
        call.kind, call.usage = "other", None


AG2 = replace(
    OTEL,
    name="ag2",
    precedence=Precedence.CONVENTION_KEYS,
    rank=14,
    about="AG2 (from version 1)",
    detection=Detection(keys=("ag2.span.type",)),
    kind_of=_kind,
    tokens=replace(OTEL.tokens, total=("ag2.usage.total_tokens",), reasoning=("gen_ai.usage.thinking_tokens",)),
    sources=(
        Source(
            Input.EXCLUSIVE,
            providers=("anthropic", "bedrock", "aws", "amazon"),
            why="copies Anthropic's and Bedrock's own counts",
            package=_PACKAGE,
            read=_READ,
        ),
        Source(
            Input.INCLUSIVE,
            providers=("google", "gemini", "vertex", "gcp"),
            output=Output.EXCLUSIVE,
            absent_cache_is_zero=True,
            why="candidates only, without classes of 0",
            package=_PACKAGE,
            read=_READ,
        ),
        Source(
            Input.INCLUSIVE,
            providers=("openai",),
            absent_cache_is_zero=True,
            why="OpenAI's counts, without classes of 0",
            package=_PACKAGE,
            read=_READ,
        ),
        Source(
            Input.INCLUSIVE,
            providers=("xai", "x-ai", "x_ai"),
            output=Output.EXCLUSIVE,
            why="copies xAI's own counts",
            package=_PACKAGE,
            read=_READ,
        ),
        Source(
            Input.INCLUSIVE, why="copies the counts of servers that speak OpenAI's API", package=_PACKAGE, read=_READ
        ),
    ),
    rules=(*OTEL.rules, _repeated_usage),
    content=ContentKeys(prefixes=("ag2.",), plain=("ag2.span.type", "ag2.usage.*")),
    notes=(
        "Usage on a span `record_usage` is that of the `chat` span before it, or of a sub-agent, and counts only where"
        " it is of a compaction or aggregation, which have no other span: give each sub-agent the middleware as well,"
        " for the calls of one without are told there alone.",
        "The service tier and what the provider's tools were used for are in no span: the price is that of the standard"
        " tier and of tokens alone, without a mark.",
    ),
)
