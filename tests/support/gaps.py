"""What clients never put on the wire: nobody can know it, so the expected value is what their telemetry does show.

`test_captures.test_a_gap_is_one` looks for each missing number in everything that the client sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from captures import TOKENS, Call, Capture

SPLIT = "the cache write's 5m/1h split"
CACHE = "what was read from the cache"
REASONING = "how much of the output was reasoning"


@dataclass(frozen=True, slots=True)
class Gap:
    """Classes that are missing, and why.

    `kept` are the calls (seq in the truth) that are on the wire at all, `together` those that are told as one, `bare`
    those of which no usage is told.
    """

    classes: tuple[str, ...]
    reason: str
    kept: tuple[int, ...] = ()
    together: tuple[int, ...] = ()
    bare: tuple[int, ...] = ()


def _split(who: str) -> Gap:
    return Gap(("cache_write_1h",), f"{who} does not tell {SPLIT}")


def _reasoning(who: str) -> Gap:
    return Gap(("reasoning",), f"{who} does not tell {REASONING}")


def _cache(who: str) -> Gap:
    return Gap(("cache_read", "reasoning"), f"{who} tells neither {CACHE} nor {REASONING}")


GAPS: dict[str, Gap] = {
    "claude-code/logs-only": _reasoning("Claude Code"),
    "claude-code/subagent": _reasoning("Claude Code"),
    "claude-code/tools": _reasoning("Claude Code"),
    "langchain-traceloop/S3": _reasoning("OpenLLMetry's LangChain instrumentation"),
    "langchain-traceloop/choices": _reasoning("OpenLLMetry's LangChain instrumentation"),
    "langfuse/S3-anthropic+manual": _split("the usage_details that Langfuse's documentation has for Anthropic"),
    "langwatch/openai": Gap(("cache_read",), f"LangWatch does not tell {CACHE}"),
    "litellm/S3-openai-chat": Gap(
        (), "LiteLLM writes each call over the last one on the application's own span: only one is left", kept=(4,)
    ),
    "openinference/S1-anthropic": _split("OpenInference"),
    "openinference/S2-anthropic": _split("OpenInference"),
    "openlit/S1-anthropic": _split("OpenLIT"),
    "openlit/S1-openai-chat": _reasoning("OpenLIT"),
    "openlit/S3-anthropic": _split("OpenLIT"),
    "otel-genai/S1-anthropic": _split("OpenTelemetry's Anthropic instrumentation"),
    "otel-genai/S1-bedrock": _split("OpenTelemetry's Bedrock instrumentation"),
    "otel-genai/unreadable-openai-chat": Gap((), "of an answer that could not be read no usage is told", bare=(1,)),
    "otel-openai-v2/S1-openai-chat": _cache("OpenTelemetry's openai_v2"),
    "otel-openai-v2/S3-openai-chat+latest": _cache("OpenTelemetry's openai_v2"),
    "pipecat/anthropic": _split("Pipecat"),
    "semantic-kernel/S3": _cache("Semantic Kernel"),
    "strands-js/tools": _reasoning("Strands for JavaScript"),
    "strands/S3": _reasoning("Strands"),
    "tanstack/anthropic": _split("TanStack AI"),
    "traceloop/S1-anthropic": _split("OpenLLMetry"),
    "traceloop/S1-bedrock": _split("OpenLLMetry"),
    "traceloop/S3-anthropic": _split("OpenLLMetry"),
    "vercel-ai-sdk-v5/openai-tools": _cache("the AI SDK 5"),
    "vercel-ai-sdk-v7/anthropic-tools": _split("the AI SDK 7"),
    "vercel-ai-sdk-v7/openai-subagent": _reasoning("the AI SDK 7"),
    "vercel-ai-sdk-v7/openai-tools": _reasoning("the AI SDK 7"),
    "voltagent/steps": Gap((), "VoltAgent sums up the steps of a call with tools", together=(1, 2, 3, 4, 5)),
}

UNNAMED = frozenset(
    {
        "langwatch/openai",
        "litellm/S1-openai-chat",
        "litellm/S3-openai-chat",
        "litellm/S3-openai-chat+reqspan",
        "mlflow/S1-openai-chat",
        "mlflow/S3-anthropic",
        "ms-agent-framework/S3",
        "openinference-js/anthropic-stream+native",
        "vercel-ai-sdk-v7/anthropic-tools",
        "vercel-ai-sdk-v7/openai-subagent",
        "vercel-ai-sdk-v7/openai-tools",
    }
)
"""Recordings whose client knew a session and did not send it: a test looks for it in the bytes."""


def reported_calls(capture: Capture) -> list[Call]:
    """The calls as far as the client told them: the truth, less the gap."""
    gap = GAPS.get(capture.name, Gap((), ""))
    told = dict(enumerate(capture.calls, start=1))
    if gap.together:
        told[gap.together[-1]] = _sum([told.pop(seq) for seq in gap.together])
    told |= {seq: replace(told[seq], tokens=dict.fromkeys(TOKENS, 0)) for seq in gap.bare}
    calls = [call for seq, call in told.items() if not gap.kept or seq in gap.kept]
    return [Call(c.provider, c.model, c.time, {**c.tokens, **dict.fromkeys(gap.classes, 0)}) for c in calls]


def _sum(calls: list[Call]) -> Call:
    last = calls[-1]
    return Call(last.provider, last.model, last.time, {name: sum(c.tokens[name] for c in calls) for name in TOKENS})


NO_ARGUMENTS = frozenset(
    {
        "anthropic-native/S3-anthropic",
        "claude-code/logs-only",
        "google-adk/S3",
        "google-adk/S6",
        "google-adk/litellm",
        "litellm/S3-openai-chat",
        "litellm/S3-openai-chat+reqspan",
        "ms-agent-framework/S3",
        "openinference/S3-gemini",
        "openinference/S3-openai-chat",
        "otel-genai/S3-anthropic+double",
        "otel-genai/S3-openai-chat",
        "otel-openai-v2/S3-openai-chat+latest",
        "semantic-kernel/S3",
        "traceloop/S3-anthropic",
        "traceloop/S3-openai-chat",
    }
)
"""Recordings whose tool spans do not tell arguments: the library records no content unless it is asked to."""

NO_TOOL_SPANS = frozenset({"mirascope/tools", "openinference-js/openai-chat", "openlit/S3-anthropic"})
"""Recordings of programs that ran tools without a span of their own."""

SILENT_SESSIONS = {"claude-code/subagent": {"a75950d43c48f402f"}}
"""Sessions of the truth under which nothing was spent: the sub-agent's own, whose calls also name the one above it."""
