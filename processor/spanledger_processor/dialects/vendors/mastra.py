"""Mastra's OpenTelemetry exporter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.responses import read_response
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    Detection,
    FirstToken,
    GroupingKeys,
    Kinds,
    Precedence,
    ScopedSpan,
    Source,
    UsageText,
    has,
)
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.vendors.otel import OPERATIONS, OTEL, PROVIDERS, TOKENS
from spanledger_processor.model import Call

_BODY = "mastra.metadata.body"


def _names_in_body(view: ScopedSpan, call: Call) -> None:
    """Take the model of a step from the provider's answer that it holds."""
    if call.usage is None or call.request_model or call.response_model:
        return
    body, about = (
        texts.parse(view.attributes.get(_BODY)),
        texts.parse(view.attributes.get("mastra.metadata.modelMetadata")),
    )
    if isinstance(body, Mapping):
        call.response_model = text(body.get("model")) or text(body.get("modelVersion"))
        call.response_id = text(body.get("id")) or text(body.get("responseId"))
    if isinstance(about, Mapping):
        call.request_model, call.provider = text(about.get("modelId")), text(about.get("modelProvider"))


def _bought(view: ScopedSpan, call: Call) -> None:
    """Read from a step's answer what was sold by the call, which the call below it does not tell."""
    if call.kind != "workflow" or call.usage is None or not has(view, _BODY):
        return
    response = read_response(view, (UsageText(_BODY),))
    for name, number in response.parts.items():
        if getattr(call.usage, name) is None:
            setattr(call.usage, name, number)
    call.unclassed = tuple(dict.fromkeys((*call.unclassed, *response.terms.unclassed)))


MASTRA = replace(
    OTEL,
    name="mastra",
    precedence=Precedence.OWN_KEYS,
    rank=4,
    about="Mastra (@mastra/otel-exporter)",
    detection=Detection(keys=("mastra.span.type",), scopes=("@mastra/",), requires=("gen_ai.operation.name",)),
    kinds=(
        Kinds(
            "mastra.span.type",
            {
                "agent_run": "agent",
                "model_inference": "llm",
                "llm_generation": "llm",
                "model_generation": "workflow",
                "model_step": "workflow",
                "model_chunk": "other",
                "llm_step": "workflow",
                "llm_chunk": "other",
                "tool_call": "tool",
                "client_tool_call": "tool",
                "provider_tool_call": "tool",
                "mcp_tool_call": "tool",
                "workflow_run": "workflow",
                "workflow_step": "workflow",
                "rag_embedding": "embedding",
                "rag_vector_operation": "retrieval",
                "rag_ingestion": "workflow",
                "processor_run": "other",
                "memory_operation": "other",
                "workspace_action": "other",
                "scorer_run": "other",
                "scorer_step": "other",
                "generic": "other",
            },
        ),
        Kinds("gen_ai.operation.name", OPERATIONS),
    ),
    provider=PROVIDERS,
    tokens=replace(
        TOKENS,
        cache_read=(*TOKENS.cache_read, "gen_ai.usage.cached_input_tokens"),
        cache_write_5m=("gen_ai.usage.cache_creation.5m_input_tokens",),
        cache_write_1h=("gen_ai.usage.cache_creation.1h_input_tokens",),
        parts={
            **TOKENS.parts,
            "input_audio": (*TOKENS.parts["input_audio"], "gen_ai.usage.audio_input_tokens"),
            "output_audio": (*TOKENS.parts["output_audio"], "gen_ai.usage.audio_output_tokens"),
        },
    ),
    usage_texts=(
        UsageText(_BODY, ("usage",), whole=True),
        UsageText(_BODY, ("usageMetadata",), whole=True),
        UsageText(_BODY),
    ),
    content=ContentKeys(
        keys={
            "mastra.*.input": ANY_INPUT,
            "mastra.*.output": ANY_INPUT,
            "mastra.metadata.body": ANY_INPUT,
            "mastra.metadata.headers": ANY_INPUT,
            "mastra.metadata.userId": ("user_ids",),
            "mastra.metadata.user*": ("user_ids",),
        },
        prefixes=("mastra.",),
        plain=(
            "mastra.span.type",
            "mastra.metadata.runId",
            "mastra.metadata.sessionId",
            "mastra.metadata.threadId",
            "mastra.metadata.toolCallId",
            "mastra.metadata.toolName",
            "mastra.metadata.modelMetadata",
            "mastra.metadata.providerMetadata",
            "mastra.completion_start_time",
            "mastra.tags",
            "mastra.metadata.resourceId",
        ),
    ),
    first_token=(FirstToken("mastra.completion_start_time", "time"),),
    sources=(
        Source(
            Input.UNSURE,
            providers=("anthropic", "amazon-bedrock", "bedrock", "google-vertex-anthropic"),
            why="changes with the version of the AI SDK's provider, even from call to call",
            package="npm:@mastra/otel-exporter",
            read=("0.3.3", "1.4.0"),
        ),
        Source(
            Input.INCLUSIVE,
            why="the AI SDK's counts",
            package="npm:@mastra/otel-exporter",
            read=("0.3.3", "1.4.0"),
        ),
    ),
    groups=GroupingKeys(
        session=("gen_ai.conversation.id", "mastra.metadata.threadId", "mastra.metadata.sessionId"),
        run=("mastra.metadata.runId",),
        agent=("gen_ai.agent.id",),
    ),
    rules=(_names_in_body, _bought),
    notes=(
        "A `model_step` may hold the provider's whole answer: its usage tells classes that its only call lacks.",
        "A request that was refused is one call more, `no_usage`: nothing on its span tells it from an answer.",
    ),
)
