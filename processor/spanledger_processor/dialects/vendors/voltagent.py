"""VoltAgent: `span.type` and `entity.type`, usage under `llm.usage.*` and summed up under `usage.*`."""

from __future__ import annotations

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    CostKey,
    Detection,
    Dialect,
    GroupingKeys,
    Kinds,
    Library,
    Precedence,
    ScopedSpan,
    Source,
    Tokens,
    ToolKeys,
    has,
)
from spanledger_processor.model import Call, Kind

_TYPES: dict[str, Kind] = {
    "llm": "llm",
    "embedding": "embedding",
    "retriever": "retrieval",
    "vector": "retrieval",
    "tool": "tool",
    "agent": "agent",
    "workflow": "workflow",
    "workflow-step": "workflow",
    "summary": "workflow",
    "scorer": "other",
    "memory": "other",
    "guardrail": "other",
    "middleware": "other",
}


def _root(view: ScopedSpan) -> Kind | None:
    """Return `agent` for a root span, which has no `span.type`, but the usage of all calls below it."""
    return "agent" if has(view, "agent.state") and not has(view, "span.type") else None


def _last_step(view: ScopedSpan, call: Call) -> None:
    """Doubt the usage of a call that may have called tools: it is the last step's, and the agent's span tells all."""
    tools = view.attributes.get("llm.tools.count")
    if call.kind == "llm" and call.usage is not None and isinstance(tools, int) and tools > 0:
        call.estimate = True
        call.note = call.note or "usage is of the last step: steps that called tools are on the agent's span alone"


VOLTAGENT = Dialect(
    name="voltagent",
    precedence=Precedence.OWN_KEYS,
    rank=3,
    about="VoltAgent",
    detection=Detection(
        keys=("llm.usage.prompt_tokens", "usage.prompt_tokens", "voltagent.conversation_id", "voltagent.operation_id"),
        scopes=("@voltagent/",),
        requires=("entity.type",),
    ),
    kind_of=_root,
    kinds=(Kinds("span.type", _TYPES), Kinds("entity.type", {"agent": "agent", "workflow": "workflow"})),
    request_model=("llm.model", "ai.model.name"),
    provider=("llm.provider", "ai.model.provider"),
    tokens=Tokens(
        input=("llm.usage.prompt_tokens", "usage.prompt_tokens"),
        output=("llm.usage.completion_tokens", "usage.completion_tokens"),
        total=("llm.usage.total_tokens", "usage.total_tokens"),
        cache_read=("llm.usage.cached_tokens", "usage.cached_tokens"),
        reasoning=("llm.usage.reasoning_tokens", "usage.reasoning_tokens"),
    ),
    sources=(
        Source(
            Input.UNSURE,
            providers=("anthropic", "amazon-bedrock", "bedrock"),
            why="the AI SDK's counts: exclusive for these providers up to version 5",
            package="npm:@voltagent/core",
            read=("0.1.19", "2.10.0"),
        ),
        Source(
            Input.INCLUSIVE,
            why="the AI SDK's counts",
            package="npm:@voltagent/core",
            read=("0.1.19", "2.10.0"),
        ),
    ),
    # `usage` and `totalUsage` of the AI SDK (`resolveFinishUsage` of @voltagent/core 2.10.0)
    libraries=(Library("@voltagent/*", tells_last_step=True),),
    costs=(
        CostKey(
            "usage.cost",
            "billed",
            upstream=("usage.cost_details.upstream_inference_cost",),
            own_key=("usage.is_byok",),
        ),
    ),
    content=ContentKeys(
        keys={
            "input": ANY_INPUT,
            "output": ANY_INPUT,
            "tool.arguments": ("tool_arguments",),
            "tool.result": ("tool_results",),
            "agent.messages": ANY_INPUT,
            "agent.messages.ui": ANY_INPUT,
            "agent.stateSnapshot": ANY_INPUT,
            "agent.instructions": ("system_instructions",),
            "agent.systemPrompt": ("system_instructions",),
            "llm.messages": ANY_INPUT,
        },
        prefixes=("voltagent.",),
        plain=(
            "llm.tools.count",
            "voltagent.conversation_id",
            "voltagent.operation_id",
            "voltagent.label",
            "voltagent.agent*",
        ),
    ),
    tool=ToolKeys(
        name=("tool.name",),
        arguments=("input", "tool.arguments"),
        result=("output", "tool.result"),
        call_id=("tool.call.id",),
    ),
    agent=("subagent.id", "entity.id"),
    agent_parent=("agent.parent.id",),
    groups=GroupingKeys(session=("voltagent.conversation_id", "conversation.id")),
    rules=(_last_step,),
    notes=(
        "From 1.0 on a call with tools tells its last step's usage, and the agent above it that of all steps, which"
        " counts (rule 6 of docs/counting.md): tokens and cost are whole, and several calls of the model count as one.",
        "`usage.cost` is what OpenRouter charged; other providers' costs are not reported.",
    ),
)
