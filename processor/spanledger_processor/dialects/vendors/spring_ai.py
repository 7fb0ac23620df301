"""Spring AI: Micrometer observations; counts are strings."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import (
    ContentKeys,
    Detection,
    GroupingKeys,
    Kinds,
    Precedence,
    Source,
    ToolKeys,
)
from spanledger_processor.dialects.vendors.otel import OPERATIONS, OTEL

SPRING_AI = replace(
    OTEL,
    name="spring_ai",
    precedence=Precedence.OWN_KEYS,
    rank=12,
    about="Spring AI",
    detection=Detection(keys=("spring.ai.kind", "spring.ai.tool.definition.name", "spring.ai.chat.client.stream")),
    kinds=(
        Kinds("gen_ai.operation.name", {**OPERATIONS, "framework": "workflow", "image": "llm"}),
        Kinds(
            "spring.ai.kind",
            {"chat_client": "workflow", "advisor": "other", "tool_call": "tool", "vector_store": "retrieval"},
        ),
    ),
    sources=(
        Source(Input.UNSURE, providers=("anthropic", "aws", "bedrock"), why="copies the provider's own counts"),
        Source(Input.INCLUSIVE, why="OpenAI's counts"),
    ),
    content=ContentKeys(
        keys={
            "spring.ai.tool.call.arguments": ("tool_arguments",),
            "spring.ai.tool.call.result": ("tool_results",),
            "spring.ai.tool.definition.description": ("system_instructions",),
            "spring.ai.tool.definition.schema": ("system_instructions",),
            "spring.ai.chat.client.user*": ("prompts",),
            "spring.ai.chat.client.system*": ("system_instructions",),
            "spring.ai.vectorstore.query.content": ("prompts",),
        },
        prefixes=("spring.ai.",),
        plain=(
            "spring.ai.kind",
            "spring.ai.tool.definition.name",
            "spring.ai.chat.client.conversation.id",
            "spring.ai.chat.client.stream",
            "spring.ai.chat.client.advisors",
            "spring.ai.advisor.*",
            "spring.ai.chat.client.tool.names",
            "spring.ai.vectorstore.*",
        ),
    ),
    tool=ToolKeys(
        name=("spring.ai.tool.definition.name", "gen_ai.tool.name"),
        arguments=("spring.ai.tool.call.arguments", "gen_ai.tool.call.arguments"),
        result=("spring.ai.tool.call.result", "gen_ai.tool.call.result"),
        call_id=("spring.ai.tool.call.id", "gen_ai.tool.call.id"),
    ),
    groups=GroupingKeys(session=("spring.ai.chat.client.conversation.id",)),
)
