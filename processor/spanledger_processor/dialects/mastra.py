"""Mastra's OpenTelemetry exporter."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.counts import Input
from spanledger_processor.dialects.dialect import Groups, Kinds, Signs, Source
from spanledger_processor.dialects.otel import OPERATIONS, OTEL, PROVIDERS

MASTRA = replace(
    OTEL,
    name="mastra",
    about="Mastra (@mastra/otel-exporter)",
    signs=Signs(keys=("mastra.span.type",), scopes=("@mastra/",), marks=("gen_ai.operation.name",)),
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
    sources=(
        Source(
            Input.UNSURE,
            providers=("anthropic", "amazon-bedrock", "bedrock", "google-vertex-anthropic"),
            why="changes with the version of the AI SDK's provider, even from call to call",
        ),
        Source(Input.INCLUSIVE, why="the AI SDK's counts"),
    ),
    groups=Groups(
        session=("gen_ai.conversation.id", "mastra.metadata.threadId", "mastra.metadata.sessionId"),
        run=("mastra.metadata.runId",),
        agent=("gen_ai.agent.id",),
    ),
)
