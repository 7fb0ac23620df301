"""Alibaba LoongSuite: the convention's keys and `gen_ai.span.kind`."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import Detection, GroupingKeys, Kinds, Precedence, Source, ToolKeys
from spanledger_processor.dialects.vendors.otel import OPERATIONS, OTEL

LOONGSUITE = replace(
    OTEL,
    name="loongsuite",
    precedence=Precedence.CONVENTION_KEYS,
    rank=10,
    about="Alibaba LoongSuite agents",
    detection=Detection(keys=("gen_ai.span.kind",)),
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
        Source(
            Input.UNSURE,
            providers=("anthropic", "aws", "bedrock"),
            why="copies the provider's own counts",
            package="pypi:loongsuite-instrumentation-agentscope",
            read=("0.3.0", "0.9.0"),
        ),
        Source(
            Input.INCLUSIVE,
            why="the convention",
            package="pypi:loongsuite-instrumentation-langchain",
            read=("0.3.0", "0.9.0"),
        ),
    ),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "gen_ai.tool.input"),
        result=("gen_ai.tool.call.result", "gen_ai.tool.output"),
        call_id=("gen_ai.tool.call.id",),
    ),
    groups=GroupingKeys(session=("gen_ai.session.id", "gen_ai.conversation.id")),
    notes=("AGENT, STEP and ENTRY spans sum up what is below them.",),
)
