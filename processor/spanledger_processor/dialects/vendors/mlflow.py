"""MLflow: every value is JSON in a string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger_processor.dialects.normalize import Counts, Input
from spanledger_processor.dialects.schema import (
    CostKey,
    Detection,
    Dialect,
    GroupingKeys,
    Kinds,
    Place,
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


def _usage(value: Mapping[str, Any]) -> tuple[Counts, Input]:
    return (
        Counts(
            count(value.get("input_tokens")),
            count(value.get("output_tokens")),
            count(value.get("total_tokens")),
            count(value.get("cache_read_input_tokens")),
            count(value.get("cache_creation_input_tokens")),
            None,
            count(value.get("cache_creation_input_tokens_above_1hr")),
        ),
        Input.INCLUSIVE,
    )


def _provider(view: ScopedSpan, call: Call) -> None:
    if not call.provider:
        spoken = text(view.attributes.get(_FORMAT))
        call.provider = spoken if spoken in _SPEAKS else ""


def _langchain(view: ScopedSpan, call: Call) -> None:
    if text(view.attributes.get(_FORMAT)) == "langchain":
        forget_zero_writes(call)


MLFLOW = Dialect(
    name="mlflow",
    place=Place.OWN_KEYS,
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
    content=("mlflow.chat.messages", "mlflow.chat.tools", "mlflow.spanInputs"),
    request_model=("model",),
    response_model=("mlflow.llm.model",),
    provider=("mlflow.llm.provider",),
    usage_texts=(UsageText("mlflow.chat.tokenUsage", whole=True, read=_usage), UsageText("mlflow.spanOutputs")),
    fallback_texts=(UsageText("mlflow.spanOutputs"),),
    sources=(Source(Input.INCLUSIVE, why="MLflow adds the classes up"),),
    costs=(CostKey("mlflow.llm.cost", path=("total_cost",)),),
    tool=ToolKeys(arguments=("mlflow.spanInputs",), result=("mlflow.spanOutputs",), name_from_span=True),
    groups=GroupingKeys(session=("mlflow.trace.session",)),
    rules=(_provider, _langchain),
    notes=("With MLFLOW_ENABLE_OTEL_GENAI_SEMCONV its spans are `otel`; the cache classes are not exported then.",),
)
