"""Microsoft Agent Framework, Semantic Kernel and Microsoft.Extensions.AI."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.counts import Input, Output
from spanledger_processor.dialects.dialect import Groups, Signs, Source
from spanledger_processor.dialects.otel import OTEL

MS_AGENT_FRAMEWORK = replace(
    OTEL,
    name="ms_agent_framework",
    about="Microsoft Agent Framework, Semantic Kernel, Microsoft.Extensions.AI",
    signs=Signs(
        scopes=(
            "agent_framework",
            "Experimental.Microsoft.Agents.AI",
            "Experimental.Microsoft.Extensions.AI",
            "Microsoft.Agents.AI",
            "Microsoft.Extensions.AI",
            "Microsoft.SemanticKernel",
            "semantic_kernel",
        ),
        marks=("gen_ai.operation.name",),
    ),
    sources=(
        Source(
            Input.EXCLUSIVE, "agent_framework", ("anthropic", "aws", "bedrock"), why="copies the provider's own counts"
        ),
        Source(Input.UNSURE, providers=("anthropic", "aws", "bedrock"), why="depends on the client"),
        Source(
            providers=("gcp", "gemini", "google"), output=Output.EXCLUSIVE, why="candidates only; thoughts beside them"
        ),
        Source(Input.INCLUSIVE, why="OpenAI's counts"),
    ),
    groups=Groups(agent=("gen_ai.agent.id",)),
)
