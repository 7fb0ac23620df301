"""Langfuse SDKs: usage is one JSON object of disjoint buckets, or the provider's own object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from spanledger_processor.dialects.normalize import Counts, Input, Terms
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    CostKey,
    Detection,
    Dialect,
    FirstToken,
    GroupingKeys,
    Kinds,
    Mark,
    Precedence,
    Source,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.usage import as_counts
from spanledger_processor.dialects.usage_objects import read_usage
from spanledger_processor.dialects.values import count
from spanledger_processor.dialects.vendors.otel import ENDPOINTS


def usage(value: Mapping[str, Any]) -> tuple[Counts, Input]:
    """Return the counts of `usage_details`.

    Buckets are disjoint and known by name: "input" and "output" anywhere in it. Exceptions: a total that is the
    sum of the two plain ones (then all others are parts of them), writes by time to live beside all writes, cached
    content and thoughts as Gemini counts them. A tier in a name ("input_priority_cache_read") is the whole call's.

    Raises:
        NoCountError: a bucket that is no count.
    """
    usage = read_usage(value)
    if usage is not None:
        return as_counts(usage.normalized.usage, usage.terms), Input.INCLUSIVE
    given = {key.lower(): number for key, item in value.items() if (number := count(item)) is not None}
    terms = Terms(context={"service_tier": tier} if (tier := _tier(given)) else {})
    terms.own_cache = given.get("total_cost") == 0  # LangChain says so of an answer from its cache
    buckets: dict[str, int] = {}
    for key, number in given.items():
        plain = _without(key, tier)
        buckets[plain] = buckets.get(plain, 0) + number if plain != key and plain not in ("input", "output") else number
    # Langfuse's LangChain handler takes parts away from input and output, but for those of the priority tier.
    summed = _summed(given)
    whole = summed or (tier == "priority" and {"input", "output"} <= given.keys())
    if tier and not whole:
        buckets["input"] = given.get("input", 0) + given.get(f"input_{tier}", 0)
        buckets["output"] = given.get("output", 0) + given.get(f"output_{tier}", 0)
    elif tier:
        buckets |= {
            plain: given[plain] + (0 if summed else _taken(given, plain, tier)) for plain in ("input", "output")
        }
    parts = {name: number for name, words in _PARTS.items() if (number := _sum(buckets, _named(words))) is not None}
    buckets = {key: number for key, number in buckets.items() if not any(_named(words)(key) for words in _SEARCHES)}
    counts = _counts(buckets, whole=whole)
    for kind in ("audio", "image"):
        if (cached := _sum(buckets, _cached(kind))) is not None:
            parts[f"cache_read_{kind}"] = cached
            parts[f"input_{kind}"] = parts.get(f"input_{kind}", 0) + cached
    counts.parts, counts.terms = parts or None, terms
    return counts, Input.INCLUSIVE


def _counts(buckets: Mapping[str, int], *, whole: bool) -> Counts:
    read, write, hour = _read(buckets), _write(buckets), _sum(buckets, _is_hour)
    plain_in, plain_out = _sum(buckets, _is_plain_input), _sum(buckets, _is_output)
    thoughts = buckets.get("thoughts_token_count")
    if whole:
        plain_in, plain_out = buckets["input"], buckets["output"]
    elif plain_in is not None or read is not None or write is not None:
        plain_in = (plain_in or 0) + (read or 0) + (write or 0)
        plain_in = _plus(plain_in, buckets.get("tool_use_prompt_token_count"))
        plain_out = _plus(plain_out, thoughts)
    content = buckets.get("cached_content_token_count")
    return Counts(
        plain_in,
        plain_out,
        buckets.get("total"),
        cache_read=content if read is None else read,
        cache_write=write,
        cache_write_1h=hour,
        reasoning=_plus(_sum(buckets, lambda key: "output" in key and "reasoning" in key), thoughts),
    )


_TIERS = ("priority", "flex", "batch")
_PARTS = {
    "input_audio": ("input", "audio"),
    "input_image": ("input", "image"),
    "output_audio": ("output", "audio"),
    "output_image": ("output", "image"),
    "web_searches": ("web_search",),
    "file_searches": ("file_search",),
    "search_units": ("search_unit",),
}
"""The words in the names of buckets that are classes copied as they are."""
_SEARCHES = (("web_search",), ("file_search",), ("search_unit",), ("code_execution",))
"""Words in the names of buckets that hold no tokens."""


def _tier(buckets: Mapping[str, int]) -> str:
    """Return the tier that names of buckets hold; Langfuse passes LangChain's names on."""
    tiers = {tier for tier in _TIERS for key, number in buckets.items() if number and tier in key.split("_")}
    return tiers.pop() if len(tiers) == 1 else ""


def _without(key: str, tier: str) -> str:
    return "_".join(word for word in key.split("_") if word != tier) if tier else key


def _taken(buckets: Mapping[str, int], plain: str, tier: str) -> int:
    """Return the sum of what was taken away from a plain bucket: its parts without the tier in their names."""
    return sum(number for key, number in buckets.items() if key.startswith(f"{plain}_") and tier not in key.split("_"))


def _summed(buckets: Mapping[str, int]) -> bool:
    """Return whether the plain buckets hold all the others."""
    given, output, total = buckets.get("input"), buckets.get("output"), buckets.get("total")
    return given is not None and output is not None and total == given + output and bool(total)


def _named(words: tuple[str, ...]) -> Callable[[str], bool]:
    return lambda key: all(word in key for word in words) and "cache" not in key


def _cached(kind: str) -> Callable[[str], bool]:
    """Return a test for cached modalities (Gemini's), which the LangChain handler takes out of those of the input."""
    return lambda key: "cached" in key and "modality" in key and kind in key


def _read(buckets: Mapping[str, int]) -> int | None:
    return _sum(buckets, lambda key: ("cached" in key and key != "cached_content_token_count") or "cache_read" in key)


def _write(buckets: Mapping[str, int]) -> int | None:
    parts = _sum(buckets, lambda key: _is_write(key) and ("5m" in key or "1h" in key))
    whole = _sum(buckets, lambda key: _is_write(key) and "5m" not in key and "1h" not in key)
    if whole is None or parts is None:
        return whole if parts is None else parts
    return max(whole, parts)


def _is_write(key: str) -> bool:
    return "cache_creation" in key or "cache_write" in key or "ephemeral" in key


def _is_hour(key: str) -> bool:
    return _is_write(key) and "1h" in key


def _is_plain_input(key: str) -> bool:
    return ("input" in key or key.startswith("prompt")) and "cache" not in key and not _is_write(key)


def _is_output(key: str) -> bool:
    return "output" in key or key.startswith("completion")


def _sum(buckets: Mapping[str, int], wanted: Any) -> int | None:
    numbers: Iterable[int] = [number for key, number in buckets.items() if wanted(key)]
    return sum(numbers) if numbers else None


def _plus(one: int | None, other: int | None) -> int | None:
    return one if other is None else (one or 0) + other


LANGFUSE = Dialect(
    name="langfuse",
    precedence=Precedence.OWN_KEYS,
    rank=5,
    about="Langfuse SDKs, Python and JavaScript",
    detection=Detection(keys=("langfuse.observation.type",)),
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
    answered=("langfuse.observation.completion_start_time",),
    usage_texts=(
        UsageText("langfuse.observation.usage_details", whole=True, read=usage),
        UsageText("langfuse.observation.output", mixed=True),
    ),
    content=ContentKeys(
        keys={
            "langfuse.observation.input": ANY_INPUT,
            "langfuse.observation.output": ANY_INPUT,
            "langfuse.trace.input": ANY_INPUT,
            "langfuse.trace.output": ANY_INPUT,
            "langfuse.observation.metadata*": ANY_INPUT,
            "langfuse.trace.metadata*": ANY_INPUT,
            "langfuse.observation.status_message": ANY_INPUT,
            "langfuse.user.id": ("user_ids",),
        },
        prefixes=("langfuse.",),
        plain=(
            "langfuse.observation.model.*",
            "langfuse.observation.type",
            "langfuse.observation.level",
            "langfuse.observation.usage_details",
            "langfuse.observation.cost_details",
            "langfuse.observation.completion_start_time",
            "langfuse.observation.prompt.*",
            "langfuse.trace.name",
            "langfuse.trace.tags",
            "langfuse.trace.public",
            "langfuse.session.id",
            "langfuse.environment",
            "langfuse.release",
            "langfuse.version",
            "langfuse.internal.*",
        ),
    ),
    first_token=(FirstToken("langfuse.observation.completion_start_time", "time"),),
    sources=(
        Source(
            Input.EXCLUSIVE,
            why="disjoint buckets, unless the shape is a provider's",
            package="pypi:langfuse",
            read=("3.0.0", "5.0.4"),
        ),
    ),
    costs=(CostKey("langfuse.observation.cost_details", path=("total",), means_zero=True, parts=True),),
    served=("langfuse.observation.metadata.service_tier",),
    served_in=("langfuse.observation.output",),
    asked_in=("langfuse.observation.model.parameters", "langfuse.observation.metadata"),
    endpoints=ENDPOINTS,
    own_cache=(
        Mark("langfuse.observation.metadata.cache_hit"),
        Mark("langfuse.observation.metadata", path=("cache_hit",)),
    ),
    tool=ToolKeys(
        arguments=("langfuse.observation.input",), result=("langfuse.observation.output",), name_from_span=True
    ),
    groups=GroupingKeys(
        session=(
            "langfuse.session.id",
            "session.id",
            *(f"langfuse.observation.metadata.{key}" for key in ("langfuse_session_id", "session_id", "thread_id")),
        )
    ),
    notes=(
        "A `span` is a plain step: it is known, and carries no usage.",
        "Release 3.15 of the Python SDK puts no service tier on its spans: the price is that of the standard tier.",
        "Its SDKs compute no cost: one on the span was reported by the application, or is what OpenRouter charged.",
    ),
)
