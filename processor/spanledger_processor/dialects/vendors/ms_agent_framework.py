"""Microsoft Agent Framework, Semantic Kernel and Microsoft.Extensions.AI."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.schema import Detection, GroupingKeys, Precedence, Source
from spanledger_processor.dialects.vendors.otel import OTEL

MS_AGENT_FRAMEWORK = replace(
    OTEL,
    name="ms_agent_framework",
    precedence=Precedence.CONVENTION_KEYS,
    rank=5,
    about="Microsoft Agent Framework, Semantic Kernel, Microsoft.Extensions.AI",
    detection=Detection(
        scopes=(
            "agent_framework",
            "Experimental.Microsoft.Agents.AI",
            "Experimental.Microsoft.Extensions.AI",
            "Microsoft.Agents.AI",
            "Microsoft.Extensions.AI",
            "Microsoft.SemanticKernel",
            "semantic_kernel",
        ),
        requires=("gen_ai.operation.name",),
    ),
    sources=(
        Source(
            Input.EXCLUSIVE,
            "agent_framework",
            ("anthropic", "aws", "bedrock"),
            why="copies the provider's own counts",
            package="pypi:agent-framework-anthropic",
            read=("1.0.0b251104", "1.0.0b261022"),
        ),
        Source(Input.UNSURE, providers=("anthropic", "aws", "bedrock"), why="depends on the client"),
        Source(
            providers=("gcp", "gemini", "google"),
            output=Output.EXCLUSIVE,
            why="candidates only; thoughts beside them",
            package="pypi:agent-framework-gemini",
            read=("1.0.0b260721", "1.0.0b261022"),
        ),
        Source(
            Input.INCLUSIVE,
            why="OpenAI's counts",
            package="pypi:agent-framework-core",
            read=("1.0.0", "1.23.0"),
        ),
    ),
    groups=GroupingKeys(agent=("gen_ai.agent.id",)),
)
