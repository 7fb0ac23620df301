"""MLflow: every value is JSON in a string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger_processor.dialects.normalize import Counts, Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    CostKey,
    Detection,
    Dialect,
    GroupingKeys,
    Kinds,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.usage import forget_zero_writes
from spanledger_processor.dialects.values import count, text
from spanledger_processor.model import Call

_FORMAT = "mlflow.message.format"
_SPEAKS = frozenset({"anthropic", "bedrock", "gemini", "groq", "mistral", "openai"})
"""Values of `mlflow.message.format` that are providers; others are libraries."""


_OWN_COUNTS = ("anthropic", "bedrock", "aws")
"""Providers whose counts exclude caches."""
_HOUR = "cache_creation_input_tokens_above_1hr"


def _usage(value: Mapping[str, Any]) -> tuple[Counts, Input | None]:
    """Return the counts of `mlflow.chat.tokenUsage`; what its input means is the table's, or `_means` tells."""
    counts = Counts(
        count(value.get("input_tokens")),
        count(value.get("output_tokens")),
        count(value.get("total_tokens")),
        count(value.get("cache_read_input_tokens")),
        count(value.get("cache_creation_input_tokens")),
        None,
        count(value.get(_HOUR)),
    )
    return counts, Input.INCLUSIVE if _HOUR in value else None


def _means(view: ScopedSpan, counts: Counts) -> None:
    """Doubt if input includes the cache: before 3.12 Anthropic's counts are copied, and a span tells no release."""
    provider = text(view.attributes.get("mlflow.llm.provider")) or text(view.attributes.get(_FORMAT))
    if provider.lower().startswith(_OWN_COUNTS):
        counts.means = Input.UNSURE


def _provider(view: ScopedSpan, call: Call) -> None:
    if not call.provider:
        spoken = text(view.attributes.get(_FORMAT))
        call.provider = spoken if spoken in _SPEAKS else ""


def _langchain(view: ScopedSpan, call: Call) -> None:
    if text(view.attributes.get(_FORMAT)) == "langchain":
        forget_zero_writes(call)


MLFLOW = Dialect(
    name="mlflow",
    precedence=Precedence.OWN_KEYS,
    rank=7,
    about="MLflow tracing",
    detection=Detection(keys=("mlflow.spanType",)),
    kinds=(
        Kinds(
            "mlflow.spanType",
            {
                "llm": "llm",
                "chat_model": "llm",
                "embedding": "embedding",
                "reranker": "rerank",
                "retriever": "retrieval",
                "tool": "tool",
                "agent": "agent",
                "chain": "workflow",
                "workflow": "workflow",
                "task": "workflow",
            },
        ),
    ),
    otherwise="other",
    content=ContentKeys(
        unread={
            "mlflow.chat.messages": ANY_INPUT,
            "mlflow.chat.tools": ("system_instructions",),
            "mlflow.spanInputs": ANY_INPUT,
        },
        keys={
            "mlflow.spanOutputs": ANY_INPUT,
            "mlflow.trace.user": ("user_ids",),
            "mlflow.traceInputs": ANY_INPUT,
            "mlflow.traceOutputs": ANY_INPUT,
        },
        prefixes=("mlflow.",),
        plain=(
            "mlflow.chat.tokenUsage",
            "mlflow.llm.*",
            "mlflow.message.format",
            "mlflow.spanLogLevel",
            "mlflow.spanType",
            "mlflow.traceRequestId",
            "mlflow.trace.session",
            "mlflow.spanFunctionName",
            "mlflow.experimentId",
            "mlflow.source.*",
        ),
    ),
    request_model=("model",),
    response_model=("mlflow.llm.model",),
    provider=("mlflow.llm.provider",),
    answers=("mlflow.spanOutputs",),
    usage_texts=(UsageText("mlflow.chat.tokenUsage", whole=True, read=_usage), UsageText("mlflow.spanOutputs")),
    fallback_texts=(UsageText("mlflow.spanOutputs"),),
    sources=(
        Source(
            Input.UNSURE,
            providers=_OWN_COUNTS,
            why="copies these providers' own counts up to 3.11, adds the classes up from 3.12 on",
            package="pypi:mlflow",
            read=("3.1.0", "3.18.0"),
        ),
        Source(Input.INCLUSIVE, why="OpenAI's and Gemini's counts", package="pypi:mlflow", read=("3.1.0", "3.18.0")),
    ),
    completes=_means,
    costs=(CostKey("mlflow.llm.cost", path=("total_cost",)),),
    tool=ToolKeys(arguments=("mlflow.spanInputs",), result=("mlflow.spanOutputs",), name_from_span=True),
    groups=GroupingKeys(session=("mlflow.trace.session",)),
    rules=(_provider, _langchain),
    notes=(
        "Its cost is LiteLLM's arithmetic, or its own; caches are in it from 3.10 on.",
        "With MLFLOW_ENABLE_OTEL_GENAI_SEMCONV its spans are `otel`; the cache classes are not exported then.",
    ),
)
