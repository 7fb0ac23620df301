"""Alibaba LoongSuite: the convention's keys and `gen_ai.span.kind`."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.counts import Input
from spanledger_processor.dialects.dialect import Groups, Kinds, Signs, Source, ToolKeys
from spanledger_processor.dialects.otel import OPERATIONS, OTEL

LOONGSUITE = replace(
    OTEL,
    name="loongsuite",
    about="Alibaba LoongSuite agents",
    signs=Signs(keys=("gen_ai.span.kind",)),
    kinds=(
        Kinds(
            "gen_ai.span.kind",
            {
                "llm": "llm",
                "embedding": "embedding",
                "retriever": "retrieval",
                "reranker": "rerank",
                "tool": "tool",
                "agent": "agent",
                "chain": "workflow",
                "task": "workflow",
                "step": "workflow",
                "entry": "workflow",
                "workflow": "workflow",
                "memory": "other",
            },
        ),
        Kinds("gen_ai.operation.name", OPERATIONS),
    ),
    sources=(
        Source(Input.UNSURE, providers=("anthropic", "aws", "bedrock"), why="copies the provider's own counts"),
        Source(Input.INCLUSIVE, why="the convention"),
    ),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "gen_ai.tool.input"),
        call_id=("gen_ai.tool.call.id",),
    ),
    groups=Groups(session=("gen_ai.session.id", "gen_ai.conversation.id")),
    notes=("AGENT, STEP and ENTRY spans sum up what is below them.",),
)
