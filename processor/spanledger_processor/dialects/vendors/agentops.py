"""AgentOps SDK."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    CostKey,
    Detection,
    GroupingKeys,
    Kinds,
    Precedence,
    Source,
    ToolKeys,
)
from spanledger_processor.dialects.vendors.otel import OPERATIONS, OTEL, PROPOSED_COST

AGENTOPS = replace(
    OTEL,
    name="agentops",
    precedence=Precedence.OWN_KEYS,
    rank=8,
    about="AgentOps SDK",
    detection=Detection(
        keys=("agentops.span.kind", "gen_ai.request.type"),
        scopes=("agentops",),
        requires=("gen_ai.usage.prompt_tokens", "gen_ai.request.model"),
    ),
    kinds=(
        Kinds(
            "agentops.span.kind",
            {
                "llm": "llm",
                "llm.call": "llm",
                "llm.stream": "llm",
                "embedding": "embedding",
                "tool": "tool",
                "tool.call": "tool",
                "agent": "agent",
                "team": "agent",
                "session": "workflow",
                "workflow": "workflow",
                "workflow.step": "workflow",
                "task": "workflow",
                "operation": "workflow",
                "chain": "workflow",
                "guardrail": "other",
                "http": "other",
                "text": "other",
                "unknown": "other",
            },
        ),
        Kinds("gen_ai.operation.name", OPERATIONS),
        Kinds("gen_ai.request.type", {"chat": "llm", "completion": "llm", "embedding": "embedding"}),
    ),
    sources=(
        Source(
            Input.INCLUSIVE,
            "opentelemetry.instrumentation.anthropic",
            why="up to 0.4.6 a copy of OpenLLMetry's instrumentation, which adds the classes up",
            package="pypi:agentops",
            read=("0.4.2", "0.4.6"),
        ),
        Source(
            Input.EXCLUSIVE,
            providers=("anthropic", "claude"),
            why="copies Anthropic's own counts, without caches",
            package="pypi:agentops",
            read=("0.4.7", "0.4.21"),
        ),
        Source(
            providers=("google", "gemini", "gcp"),
            output=Output.FROM_TOTAL,
            why="candidates only",
            package="pypi:agentops",
            read=("0.4.7", "0.4.21"),
        ),
        Source(
            Input.INCLUSIVE,
            why="copies OpenAI's counts",
            package="pypi:agentops",
            read=("0.4.2", "0.4.21"),
        ),
    ),
    costs=(PROPOSED_COST, CostKey("gen_ai.usage.total_cost")),
    content=ContentKeys(
        keys={
            "agentops.tool.input": ("tool_arguments",),
            "agentops.tool.output": ("tool_results",),
            "agentops.entity.input": ANY_INPUT,
            "agentops.entity.output": ANY_INPUT,
            "tool.result": ("tool_results",),
        },
        prefixes=("agentops.",),
        plain=(
            "agentops.span.kind",
            "agentops.entity.name",
            "agentops.operation.name",
            "agentops.tags",
            "agentops.session.id",
            "agentops.entity.version",
        ),
    ),
    tool=ToolKeys(
        name=("tool.name", "gen_ai.tool.name", "agentops.entity.name"),
        arguments=("tool.parameters", "agentops.tool.input", "agentops.entity.input", "gen_ai.tool.call.arguments"),
        result=("tool.result", "agentops.tool.output", "agentops.entity.output", "gen_ai.tool.call.result"),
        call_id=("tool.id", "gen_ai.tool.call.id"),
    ),
    agent=("agent.id",),
    groups=GroupingKeys(),
    notes=("Counts may be strings.",),
)
