"""LangWatch: the kind and what the span holds under keys of its own, tokens by the convention's former names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spanledger_processor.dialects.normalize import Counts, Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    CostKey,
    Detection,
    GroupingKeys,
    Kinds,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
)
from spanledger_processor.dialects.texts import parse
from spanledger_processor.dialects.values import count
from spanledger_processor.dialects.vendors.otel import OTEL


def _reasoning(view: ScopedSpan, counts: Counts) -> None:
    """Read what the convention's two counts leave out (`SpanMetrics` of the SDK for Python)."""
    metrics = parse(view.attributes.get("langwatch.metrics"))
    if counts.reasoning is None and isinstance(metrics, Mapping):
        counts.reasoning = count(metrics.get("reasoning_tokens"))


LANGWATCH = replace(
    OTEL,
    name="langwatch",
    precedence=Precedence.OWN_KEYS,
    rank=15,
    about="LangWatch SDKs",
    detection=Detection(keys=("langwatch.span.type",)),
    kinds=(
        Kinds(
            "langwatch.span.type",
            {
                "llm": "llm",
                "tool": "tool",
                "agent": "agent",
                "rag": "retrieval",
                "chain": "workflow",
                "workflow": "workflow",
                "component": "workflow",
                "module": "workflow",
                "task": "workflow",
                "span": "workflow",
            },
        ),
        *OTEL.kinds,
    ),
    kind_of=None,
    kind_else=None,
    otherwise="other",
    content=ContentKeys(
        keys={
            "langwatch.input": ANY_INPUT,
            "langwatch.output": ANY_INPUT,
            "langwatch.rag_contexts": ANY_INPUT,
            "langwatch.params": ("system_instructions",),
            "langwatch.prompt.variables": ANY_INPUT,
            "langwatch.customer.id": ("user_ids",),
            "langwatch.user.id": ("user_ids",),
        },
        prefixes=("langwatch.",),
        plain=(
            "langwatch.labels",
            "langwatch.metrics",
            "langwatch.origin",
            "langwatch.prompt.handle",
            "langwatch.prompt.id",
            "langwatch.prompt.selected.id",
            "langwatch.prompt.version.*",
            "langwatch.sdk.*",
            "langwatch.span.type",
            "langwatch.timestamps",
        ),
    ),
    sources=(
        Source(
            Input.INCLUSIVE,
            why="OpenAI's counts, without caches",
            package="pypi:langwatch",
            read=("1.4.0", "1.4.0"),
        ),
    ),
    completes=_reasoning,
    costs=(CostKey("langwatch.metrics", path=("cost",)), *OTEL.costs),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "langwatch.input"),
        result=("gen_ai.tool.call.result", "langwatch.output"),
        call_id=("gen_ai.tool.call.id",),
        name_from_span=True,
    ),
    groups=GroupingKeys(session=("langwatch.thread.id", "langwatch.session.id")),
    notes=(
        "A model is named as `provider/model`; that and the two counts are all that its own spans tell of a call.",
        "The SDK for Python keeps `thread_id` in the JSON of an attribute `metadata`: it names no session here.",
    ),
)
