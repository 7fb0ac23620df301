"""The dialects in the order in which they are asked.

A span may carry the words of two vocabularies. The library's own come first, because a translator has only them to go
by (OpenInference's AI SDK processor writes `llm.token_count.*` beside `ai.usage.*`, and the wrong number there); of two
libraries the one whose words are rarer; OpenInference, and then the convention, whose keys nearly all others use too,
come last.
"""

from __future__ import annotations

from spanledger_processor.dialects.adk import ADK
from spanledger_processor.dialects.agentops import AGENTOPS
from spanledger_processor.dialects.anthropic import ANTHROPIC
from spanledger_processor.dialects.claude_code import CLAUDE_CODE
from spanledger_processor.dialects.codex import CODEX
from spanledger_processor.dialects.copilot import COPILOT
from spanledger_processor.dialects.ddtrace import DDTRACE
from spanledger_processor.dialects.dialect import Dialect
from spanledger_processor.dialects.gemini_cli import GEMINI_CLI
from spanledger_processor.dialects.genkit import GENKIT
from spanledger_processor.dialects.laminar import LAMINAR
from spanledger_processor.dialects.langfuse import LANGFUSE
from spanledger_processor.dialects.langsmith import LANGSMITH
from spanledger_processor.dialects.litellm import LITELLM
from spanledger_processor.dialects.livekit import LIVEKIT
from spanledger_processor.dialects.logfire import LOGFIRE
from spanledger_processor.dialects.loongsuite import LOONGSUITE
from spanledger_processor.dialects.mastra import MASTRA
from spanledger_processor.dialects.mlflow import MLFLOW
from spanledger_processor.dialects.ms_agent_framework import MS_AGENT_FRAMEWORK
from spanledger_processor.dialects.openinference import OPENINFERENCE
from spanledger_processor.dialects.openlit import OPENLIT
from spanledger_processor.dialects.openllmetry import OPENLLMETRY
from spanledger_processor.dialects.openrouter import OPENROUTER
from spanledger_processor.dialects.otel import OTEL
from spanledger_processor.dialects.pydantic_ai import PYDANTIC_AI
from spanledger_processor.dialects.sentry import SENTRY
from spanledger_processor.dialects.spanledger import SPANLEDGER
from spanledger_processor.dialects.spring_ai import SPRING_AI
from spanledger_processor.dialects.strands import STRANDS
from spanledger_processor.dialects.vercel import VERCEL, VERCEL_LEGACY
from spanledger_processor.dialects.voltagent import VOLTAGENT

DIALECTS: tuple[Dialect, ...] = (
    SPANLEDGER,
    # Coding agents: names and scopes of their own.
    CLAUDE_CODE,
    CODEX,
    GEMINI_CLI,
    COPILOT,
    # Libraries with keys of their own.
    VERCEL_LEGACY,
    GENKIT,
    VOLTAGENT,
    MASTRA,
    LANGFUSE,
    LANGSMITH,
    MLFLOW,
    AGENTOPS,
    LITELLM,
    LAMINAR,
    LIVEKIT,
    SPRING_AI,
    # Libraries that speak the convention with an accent: told by scope, or by a key or two.
    VERCEL,
    PYDANTIC_AI,
    ADK,
    STRANDS,
    MS_AGENT_FRAMEWORK,
    LOGFIRE,
    OPENLIT,
    ANTHROPIC,
    SENTRY,
    LOONGSUITE,
    OPENLLMETRY,
    DDTRACE,
    OPENROUTER,
    # The two conventions.
    OPENINFERENCE,
    OTEL,
)
