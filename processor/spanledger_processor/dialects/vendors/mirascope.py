"""Mirascope from version 2 (`mirascope.ops`): the convention's keys, caches as JSON, calls that it traces as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Counts, Input
from spanledger_processor.dialects.schema import (
    ANSWER,
    ANY_INPUT,
    ContentKeys,
    Detection,
    GroupingKeys,
    Precedence,
    ScopedSpan,
    Source,
    UsageText,
    has,
)
from spanledger_processor.dialects.values import count
from spanledger_processor.dialects.vendors.otel import OTEL
from spanledger_processor.model import Call, Kind

_USAGE, _MODEL = "mirascope.response.usage", "mirascope.response.model_id"
_APIS = (":completions", ":responses")
"""What stands behind a model of OpenAI's to say which API is asked."""


def _kind(view: ScopedSpan) -> Kind | None:
    """Return what a span of `ops.trace` is: one with an answer is a call."""
    return "llm" if has(view, _MODEL) else None


def _usage(found: Mapping[str, Any]) -> tuple[Counts | None, Input | None]:
    return Counts(
        count(found.get("input_tokens")),
        count(found.get("output_tokens")),
        count(found.get("total_tokens")),
        cache_read=count(found.get("cache_read_tokens")),
        cache_write=count(found.get("cache_write_tokens")),
        reasoning=count(found.get("reasoning_tokens")),
    ), Input.INCLUSIVE


def _classes(view: ScopedSpan, counts: Counts) -> None:
    """Add the classes that only the JSON has; both are of one object (`attach_response`)."""
    found = texts.parse(view.attributes.get(_USAGE))
    whole, _ = _usage(found) if isinstance(found, Mapping) else (None, None)
    if whole is not None and (whole.input, whole.output) == (counts.input, counts.output):
        counts.cache_read, counts.cache_write, counts.reasoning = whole.cache_read, whole.cache_write, whole.reasoning


def _without_api(view: ScopedSpan, call: Call) -> None:
    """Take from the model which API is asked."""
    del view
    for api in _APIS:
        call.request_model = call.request_model.removesuffix(api)
        call.response_model = call.response_model.removesuffix(api)
        call.provider = call.provider.removesuffix(api)


MIRASCOPE = replace(
    OTEL,
    name="mirascope",
    precedence=Precedence.CONVENTION_KEYS,
    rank=17,
    about="Mirascope (from version 2)",
    detection=Detection(keys=(_USAGE, _MODEL), scopes=("mirascope.",), requires=("gen_ai.operation.name",)),
    kind_of=_kind,
    request_model=(*OTEL.request_model, _MODEL),
    provider=(*OTEL.provider, "mirascope.response.provider_id"),
    usage_texts=(UsageText(_USAGE, whole=True, read=_usage), *OTEL.usage_texts),
    content=ContentKeys(
        keys={
            "mirascope.response.messages": ("prompts",),
            "mirascope.response.content": ANSWER,
            "mirascope.trace.arg_values": ANY_INPUT,
            "mirascope.trace.output": ANSWER,
        },
        prefixes=("mirascope.",),
        plain=("mirascope.type", "mirascope.fn.*", "mirascope.version.*", "mirascope.response.cost"),
    ),
    sources=(
        Source(
            Input.INCLUSIVE,
            why="adds the classes up; caches and reasoning in `mirascope.response.usage` alone",
            package="pypi:mirascope",
            read=("2.8.2", "2.8.2"),
        ),
    ),
    completes=_classes,
    groups=GroupingKeys(session=("mirascope.ops.session.id",)),
    rules=(*OTEL.rules, _without_api),
    notes=(
        "A streamed call tells its usage with `ops.instrument_llm()` alone; `ops.trace` without it says `no_usage`.",
        "Cache writes of Anthropic's are not told by their time to live, nor is the service tier.",
        "Releases before 2 (`with_otel`) speak the convention without caches: an estimate; a stream is `no_usage`.",
    ),
)
