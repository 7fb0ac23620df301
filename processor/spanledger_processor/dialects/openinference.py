"""OpenInference (Arize): `llm.*` and `openinference.span.kind`."""

from __future__ import annotations

from spanledger_processor.dialects.counts import Input
from spanledger_processor.dialects.dialect import (
    CostKey,
    Dialect,
    Groups,
    Kinds,
    Signs,
    Source,
    Tokens,
    ToolKeys,
    UsageText,
)

TOKENS = Tokens(
    input=("llm.token_count.prompt",),
    output=("llm.token_count.completion",),
    total=("llm.token_count.total",),
    cache_read=(
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_input",
    ),
    cache_write=("llm.token_count.prompt_details.cache_write",),
    reasoning=("llm.token_count.completion_details.reasoning",),
)

OPENINFERENCE = Dialect(
    name="openinference",
    about="OpenInference (Arize Phoenix and AX), Python and JavaScript",
    signs=Signs(keys=("openinference.span.kind", *TOKENS.input, *TOKENS.output)),
    kinds=(
        Kinds(
            "openinference.span.kind",
            {
                "llm": "llm",
                "embedding": "embedding",
                "reranker": "rerank",
                "retriever": "retrieval",
                "tool": "tool",
                "agent": "agent",
                "chain": "workflow",
                "guardrail": "other",
                "evaluator": "other",
                "prompt": "other",
                "unknown": "other",
            },
        ),
    ),
    otherwise="llm",
    request_model=("llm.request.model_name",),
    response_model=(
        "llm.response.model_name",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
    ),
    provider=("llm.provider", "llm.system"),
    response_id=("llm.response.id",),
    tokens=TOKENS,
    usage_texts=(UsageText("output.value"), UsageText("llm.output_messages"), UsageText("metadata")),
    fallback_texts=(UsageText("output.value"),),
    sources=(
        Source(Input.INCLUSIVE, "openinference.instrumentation.bedrock", why="sums the three classes"),
        Source(Input.EXCLUSIVE, "openinference.instrumentation.claude_agent_sdk", why="copies Anthropic's own counts"),
        Source(Input.INCLUSIVE, "openinference.instrumentation.", why="OpenInference counts caches in"),
        Source(Input.INCLUSIVE, "@arizeai/openinference-instrumentation", why="OpenInference counts caches in"),
        Source(Input.UNSURE, providers=("anthropic", "aws", "bedrock"), why="hand-made, or a translator's"),
        Source(Input.INCLUSIVE, why="OpenInference counts caches in"),
    ),
    costs=(CostKey("llm.cost.total"), CostKey("gen_ai.usage.cost")),
    tool=ToolKeys(
        name=("tool.name",),
        arguments=("input.value",),
        call_id=("tool_call.id", "tool.id"),
        name_from_span=True,
    ),
    groups=Groups(session=("session.id",), agent=("graph.node.id",), agent_parent=("graph.node.parent_id",)),
)
