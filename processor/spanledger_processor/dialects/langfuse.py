"""Langfuse SDKs: usage is one JSON object of disjoint buckets, or the provider's own object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger_processor.dialects.counts import Counts, Input
from spanledger_processor.dialects.dialect import (
    CostKey,
    Dialect,
    Groups,
    Kinds,
    Signs,
    Source,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.provider_usage import read_usage
from spanledger_processor.dialects.values import count


def usage(value: Mapping[str, Any]) -> tuple[Counts, Input]:
    """The counts of `usage_details`.

    Buckets are disjoint and told by their names: "input" and "output" anywhere in them. Where a total says that the
    two plain ones are all there is, the others are parts of them.

    Raises:
        NoCountError: a bucket that is no count.
    """
    told = read_usage(value)
    if told is not None:
        settled = told.settled.usage
        return Counts(
            settled.input,
            settled.output,
            cache_read=settled.cache_read,
            cache_write=settled.cache_write,
            cache_write_1h=settled.cache_write_1h,
            reasoning=settled.reasoning,
        ), Input.INCLUSIVE
    buckets = {key.lower(): number for key, item in value.items() if (number := count(item)) is not None}
    inputs = {key: number for key, number in buckets.items() if "input" in key or key.startswith("prompt")}
    outputs = {key: number for key, number in buckets.items() if "output" in key or key.startswith("completion")}
    whole_in, whole_out = _plain(inputs, "input", "prompt"), _plain(outputs, "output", "completion")
    parts = whole_in is not None and whole_out is not None and buckets.get("total") == whole_in + whole_out
    return Counts(
        whole_in if parts else _sum(inputs),
        whole_out if parts else _sum(outputs),
        cache_read=_sum({key: n for key, n in inputs.items() if "cached" in key or "cache_read" in key}),
        cache_write=_sum({key: n for key, n in inputs.items() if _is_write(key)}),
        cache_write_1h=_sum({key: n for key, n in inputs.items() if "1h" in key}),
        reasoning=_sum({key: n for key, n in outputs.items() if "reasoning" in key}),
    ), Input.INCLUSIVE


def _is_write(key: str) -> bool:
    return "cache_creation" in key or "cache_write" in key or "ephemeral" in key


def _plain(buckets: Mapping[str, int], *names: str) -> int | None:
    return next((buckets[key] for name in names for key in (name, f"{name}tokens") if key in buckets), None)


def _sum(buckets: Mapping[str, int]) -> int | None:
    return sum(buckets.values()) if buckets else None


LANGFUSE = Dialect(
    name="langfuse",
    about="Langfuse SDKs, Python and JavaScript",
    signs=Signs(keys=("langfuse.observation.type",)),
    kinds=(
        Kinds(
            "langfuse.observation.type",
            {
                "generation": "llm",
                "embedding": "embedding",
                "retriever": "retrieval",
                "tool": "tool",
                "agent": "agent",
                "chain": "workflow",
                "span": "workflow",
                "event": "other",
                "evaluator": "other",
                "guardrail": "other",
            },
        ),
    ),
    otherwise="other",
    response_model=("langfuse.observation.model.name",),
    usage_texts=(UsageText("langfuse.observation.usage_details", whole=True, read=usage),),
    sources=(Source(Input.EXCLUSIVE, why="disjoint buckets, unless the shape is a provider's"),),
    costs=(CostKey("langfuse.observation.cost_details", path=("total",)),),
    tool=ToolKeys(arguments=("langfuse.observation.input",), name_from_span=True),
    groups=Groups(session=("langfuse.session.id", "session.id")),
    notes=("A `span` is a plain step: it is known, and carries no usage.",),
)
