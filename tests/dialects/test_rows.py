"""One span of each vocabulary, written as its source code (or its vendor's page) has it."""

from __future__ import annotations

from typing import Any

import pytest

from dialect_view import PlainView, span
from spanledger_processor.calls import Usage
from spanledger_processor.dialects import MARKERS, recognise
from spanledger_processor.dialects.order import DIALECTS

LLM: dict[str, tuple[PlainView, str, str, Usage]] = {
    "spanledger": (
        span(
            {
                "spanledger.source": "file:mux",
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "anthropic",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.cache_read.input_tokens": 60,
                "gen_ai.usage.cache_creation.input_tokens": 30,
                "spanledger.source.cache_write_1h_tokens": 20,
            }
        ),
        "anthropic",
        "claude-sonnet-4-5",
        Usage(100, 10, 60, 30, 20),
    ),
    "claude_code": (
        span(
            {
                "span.type": "llm_request",
                "gen_ai.system": "anthropic",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_read_tokens": 60,
                "cache_creation_tokens": 30,
            },
            "claude_code.llm_request",
            "com.anthropic.claude_code.tracing",
        ),
        "anthropic",
        "claude-sonnet-4-5",
        Usage(100, 5, 60, 30),
    ),
    "codex": (
        span(
            {
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.cache_read.input_tokens": 60,
                "gen_ai.usage.output_tokens": 10,
                "codex.usage.reasoning_output_tokens": 4,
                "codex.usage.total_tokens": 110,
                "gen_ai.request.model": "gpt-5.1",
            },
            "handle_responses",
            "codex_exec",
        ),
        "openai",
        "gpt-5.1",
        Usage(100, 10, 60, reasoning=4),
    ),
    "copilot": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "github",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.cache_read.input_tokens": 60,
                "github.copilot.cost": 1.0,
            },
            scope="github.copilot",
        ),
        "github",
        "gpt-5.1",
        Usage(100, 10, 60),
    ),
    "vercel_legacy": (
        span(
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.model.id": "gpt-5.1",
                "ai.model.provider": "openai.responses",
                "ai.usage.inputTokens": 100,
                "ai.usage.outputTokens": 10,
                "ai.usage.cachedInputTokens": 60,
                "ai.usage.reasoningTokens": 4,
            },
            scope="ai",
        ),
        "openai.responses",
        "gpt-5.1",
        Usage(100, 10, 60, reasoning=4),
    ),
    "genkit": (
        span(
            {
                "genkit:type": "action",
                "genkit:metadata:subtype": "model",
                "genkit:name": "googleai/gemini-2.5-flash",
                "genkit:output": '{"message":{},"usage":{"inputTokens":100,"outputTokens":6,"totalTokens":110,'
                '"thoughtsTokens":4,"cachedContentTokens":60}}',
            },
            "googleai/gemini-2.5-flash",
            "genkit-tracer",
        ),
        "gcp.gemini",
        "gemini-2.5-flash",
        Usage(100, 10, 60, reasoning=4),
    ),
    "voltagent": (
        span(
            {
                "span.type": "llm",
                "entity.type": "agent",
                "llm.model": "gpt-5.1",
                "llm.provider": "openai",
                "llm.usage.prompt_tokens": 100,
                "llm.usage.completion_tokens": 10,
                "llm.usage.total_tokens": 110,
                "llm.usage.cached_tokens": 60,
                "llm.usage.reasoning_tokens": 4,
            },
            "llm:streamText",
        ),
        "openai",
        "gpt-5.1",
        Usage(100, 10, 60, reasoning=4),
    ),
    "mastra": (
        span(
            {
                "mastra.span.type": "model_inference",
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai.responses",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.reasoning_tokens": 4,
                "gen_ai.usage.cache_read.input_tokens": 60,
            },
            scope="@mastra/otel-exporter",
        ),
        "openai.responses",
        "gpt-5.1",
        Usage(100, 10, 60, reasoning=4),
    ),
    "langfuse": (
        span(
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.model.name": "gpt-5.1",
                "langfuse.observation.usage_details": '{"input":40,"output":6,"total":110,"input_cached_tokens":60,'
                '"output_reasoning_tokens":4}',
            },
            scope="langfuse-sdk",
        ),
        "",
        "gpt-5.1",
        Usage(100, 10, 60, reasoning=4),
    ),
    "langsmith": (
        span(
            {
                "langsmith.span.kind": "llm",
                "gen_ai.system": "anthropic",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.input_token_details": "{'cache_read': 60, 'cache_creation': 0, "
                "'ephemeral_5m_input_tokens': 10, 'ephemeral_1h_input_tokens': 20}",
                "gen_ai.usage.output_token_details": "{'reasoning': 4}",
            }
        ),
        "anthropic",
        "claude-sonnet-4-5",
        Usage(100, 10, 60, 30, 20, 4),
    ),
    "mlflow": (
        span(
            {
                "mlflow.spanType": '"CHAT_MODEL"',
                "mlflow.llm.model": '"claude-sonnet-4-5"',
                "mlflow.llm.provider": '"anthropic"',
                "mlflow.chat.tokenUsage": '{"input_tokens": 100, "output_tokens": 10, "total_tokens": 110, '
                '"cache_read_input_tokens": 60, "cache_creation_input_tokens": 30, '
                '"cache_creation_input_tokens_above_1hr": 20}',
            }
        ),
        "anthropic",
        "claude-sonnet-4-5",
        Usage(100, 10, 60, 30, 20),
    ),
    "agentops": (
        span(
            {
                "agentops.span.kind": "llm",
                "gen_ai.system": "Anthropic",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.usage.prompt_tokens": "10",
                "gen_ai.usage.completion_tokens": "5",
                "gen_ai.usage.cache_read_input_tokens": "60",
            }
        ),
        "Anthropic",
        "claude-sonnet-4-5",
        Usage(70, 5, 60),
    ),
    "litellm": (
        span(
            {
                "llm.request.type": "completion",
                "litellm.call_id": "1",
                "gen_ai.system": "openai",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "metadata.usage_object": "{'completion_tokens': 10, 'prompt_tokens': 100, 'total_tokens': 110, "
                "'completion_tokens_details': {'reasoning_tokens': 4}, 'prompt_tokens_details': {'cached_tokens': 60}}",
            },
            "litellm_request",
            "litellm",
        ),
        "openai",
        "gpt-5.1",
        Usage(100, 10, 60, reasoning=4),
    ),
    "laminar": (
        span(
            {
                "lmnr.span.type": "LLM",
                "gen_ai.system": "anthropic",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.cache_read_input_tokens": 60,
                "gen_ai.usage.cache_creation_input_tokens": 30,
            }
        ),
        "anthropic",
        "claude-sonnet-4-5",
        Usage(100, 10, 60, 30),
    ),
    "livekit": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.provider.name": "openai",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "lk.llm_metrics": '{"prompt_tokens":100,"completion_tokens":10,"prompt_cached_tokens":60}',
            },
            "llm_request",
        ),
        "openai",
        "gpt-5.1",
        Usage(100, 10, 60),
    ),
    "spring_ai": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.system": "openai",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.usage.input_tokens": "100",
                "gen_ai.usage.output_tokens": "10",
                "gen_ai.usage.cache_read.input_tokens": "60",
                "spring.ai.kind": "chat_model",
            }
        ),
        "openai",
        "gpt-5.1",
        Usage(100, 10, 60),
    ),
    "vercel": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "anthropic",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.cache_read.input_tokens": 10,
                "gen_ai.usage.cache_creation.input_tokens": 30,
            },
            scope="gen_ai",
        ),
        "anthropic",
        "claude-sonnet-4-5",
        Usage(100, 10, 10, 30),
    ),
    "pydantic_ai": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.details.reasoning_tokens": 4,
            },
            scope="pydantic-ai",
            version="2.68.0",
        ),
        "openai",
        "gpt-5.1",
        Usage(100, 10, 0, 0, reasoning=4),
    ),
    "adk": (
        span(
            {
                "gen_ai.system": "gcp.vertex.agent",
                "gen_ai.request.model": "gemini-2.5-flash",
                "gcp.vertex.agent.invocation_id": "e-1",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 6,
                "gcp.vertex.agent.llm_response": '{"usage_metadata":{"prompt_token_count":100,'
                '"candidates_token_count":6,"thoughts_token_count":4,"cached_content_token_count":60,'
                '"total_token_count":110}}',
            },
            "call_llm",
            "gcp.vertex.agent",
        ),
        "gcp.vertex.agent",
        "gemini-2.5-flash",
        Usage(100, 10, 60, reasoning=4),
    ),
    "strands": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.system": "strands-agents",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.usage.prompt_tokens": 100,
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.cache_read_input_tokens": 60,
            },
            "chat",
            "strands.telemetry.tracer",
        ),
        "strands-agents",
        "gpt-5.1",
        Usage(100, 10, 60),
    ),
    "ms_agent_framework": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "anthropic",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.usage.input_tokens": 50,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.cache_read.input_tokens": 20,
                "gen_ai.usage.cache_creation.input_tokens": 30,
            },
            scope="agent_framework",
        ),
        "anthropic",
        "claude-sonnet-4-5",
        Usage(100, 10, 20, 30),
    ),
    "logfire": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "anthropic",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.raw": '{"input_tokens":10,"output_tokens":10,"cache_read_input_tokens":60,'
                '"cache_creation_input_tokens":30,"cache_creation":{"ephemeral_5m_input_tokens":10,'
                '"ephemeral_1h_input_tokens":20}}',
            },
            scope="logfire.anthropic",
        ),
        "anthropic",
        "claude-sonnet-4-5",
        Usage(100, 10, 60, 30, 20),
    ),
    "openlit": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "gcp.gemini",
                "gen_ai.request.model": "gemini-2.5-flash",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 6,
                "gen_ai.usage.reasoning_tokens": 4,
                "gen_ai.usage.cache_read.input_tokens": 60,
                "gen_ai.usage.cost": 0.1,
            },
            scope="openlit.instrumentation.google_ai_studio",
        ),
        "gcp.gemini",
        "gemini-2.5-flash",
        Usage(100, 10, 60, reasoning=4),
    ),
    "anthropic": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "anthropic",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.cache_read.input_tokens": 60,
                "gen_ai.usage.cache_write.input_tokens": 30,
                "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 10,
                "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 20,
            },
            "anthropic.messages.create",
            "com.anthropic.sdk.python",
        ),
        "anthropic",
        "claude-sonnet-4-5",
        Usage(100, 10, 60, 30, 20),
    ),
    "sentry": (
        span(
            {
                "sentry.op": "gen_ai.chat",
                "gen_ai.system": "openai",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.input_tokens.cached": 60,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.output_tokens.reasoning": 4,
            }
        ),
        "openai",
        "gpt-5.1",
        Usage(100, 10, 60, reasoning=4),
    ),
    "loongsuite": (
        span(
            {
                "gen_ai.span.kind": "LLM",
                "gen_ai.system": "dashscope",
                "gen_ai.request.model": "qwen-max",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.cache_read.input_tokens": 60,
            }
        ),
        "dashscope",
        "qwen-max",
        Usage(100, 10, 60),
    ),
    "openllmetry": (
        span(
            {
                "gen_ai.operation.name": "generate_content",
                "gen_ai.provider.name": "gcp.gen_ai",
                "gen_ai.request.model": "gemini-2.5-flash",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 6,
                "gen_ai.usage.total_tokens": 110,
                "gen_ai.usage.cache_read.input_tokens": 60,
            },
            scope="opentelemetry.instrumentation.google_generativeai",
        ),
        "gcp.gen_ai",
        "gemini-2.5-flash",
        Usage(100, 10, 60, reasoning=4),
    ),
    "ddtrace": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.cache_read_input_tokens": 60,
                "gen_ai.usage.cache_write_input_tokens": 0,
                "gen_ai.usage.reasoning_output_tokens": 4,
            }
        ),
        "openai",
        "gpt-5.1",
        Usage(100, 10, 60, 0, reasoning=4),
    ),
    "openrouter": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openrouter",
                "gen_ai.request.model": "openai/gpt-5.1",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.total_cost": 0.25,
            }
        ),
        "openrouter",
        "openai/gpt-5.1",
        Usage(100, 10),
    ),
    "openinference": (
        span(
            {
                "openinference.span.kind": "LLM",
                "llm.provider": "openai",
                "llm.model_name": "gpt-5.1",
                "llm.token_count.prompt": 100,
                "llm.token_count.completion": 10,
                "llm.token_count.prompt_details.cache_read": 60,
                "llm.token_count.completion_details.reasoning": 4,
            }
        ),
        "openai",
        "gpt-5.1",
        Usage(100, 10, 60, reasoning=4),
    ),
    "otel": (
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.usage.cache_read.input_tokens": 60,
                "gen_ai.usage.reasoning.output_tokens": 4,
            }
        ),
        "openai",
        "gpt-5.1",
        Usage(100, 10, 60, reasoning=4),
    ),
}
"""By dialect: a span of one model call, and the provider, model and usage that it says."""

WITHOUT_PRICE = {"gemini_cli"}
"""Dialects whose model calls are told by log events only (`test_traps`)."""


@pytest.mark.parametrize("name", LLM)
def test_a_model_call_is_read(name: str) -> None:
    view, provider, model, usage = LLM[name]
    call = recognise(view)
    assert call is not None
    assert (call.dialect, call.kind, call.granularity) == (name, "llm", "per-message")
    assert (call.provider, call.model, call.usage, call.problem) == (provider, model, usage, "")


def test_every_dialect_has_its_row() -> None:
    assert {dialect.name for dialect in DIALECTS} == LLM.keys() | WITHOUT_PRICE


@pytest.mark.parametrize("name", LLM)
def test_the_prefilter_lets_every_row_through(name: str) -> None:
    view = LLM[name][0]
    written = "\n".join([view.name, *view.attributes]).encode()
    assert any(mark in written for mark in MARKERS)


TOOLS: dict[str, tuple[PlainView, str, Any, str | None]] = {
    "claude_code": (
        span(
            {"span.type": "tool", "tool_name": "Bash", "tool_use_id": "t1", "tool_input": '{"command":"ls"}'},
            "claude_code.tool",
        ),
        "Bash",
        '{"command":"ls"}',
        "t1",
    ),
    "codex": (
        span(
            {"codex.tool.phase": "dispatch", "tool_name": "exec_command", "call_id": "c1"},
            "exec_command",
            "codex_exec",
        ),
        "exec_command",
        None,
        "c1",
    ),
    "vercel_legacy": (
        span(
            {
                "ai.operationId": "ai.toolCall",
                "ai.toolCall.name": "weather",
                "ai.toolCall.args": '{"city":"a"}',
                "ai.toolCall.id": "c1",
            },
            scope="ai",
        ),
        "weather",
        '{"city":"a"}',
        "c1",
    ),
    "genkit": (
        span({"genkit:metadata:subtype": "tool", "genkit:name": "weather", "genkit:input": '{"city":"a"}'}),
        "weather",
        '{"city":"a"}',
        None,
    ),
    "voltagent": (
        span(
            {
                "span.type": "tool",
                "entity.type": "agent",
                "tool.name": "weather",
                "tool.call.id": "c1",
                "tool.parameters": '{"type":"object"}',
                "input": '{"city":"a"}',
            },
            "tool.execution:weather",
            "@voltagent/core",
        ),
        "weather",
        '{"city":"a"}',
        "c1",
    ),
    "mastra": (
        span(
            {
                "mastra.span.type": "tool_call",
                "gen_ai.tool.name": "weather",
                "gen_ai.tool.call.id": "c1",
                "gen_ai.tool.call.arguments": '{"city":"a"}',
            }
        ),
        "weather",
        '{"city":"a"}',
        "c1",
    ),
    "langfuse": (
        span({"langfuse.observation.type": "tool", "langfuse.observation.input": '{"city":"a"}'}, "weather"),
        "weather",
        '{"city":"a"}',
        None,
    ),
    "langsmith": (
        span({"langsmith.span.kind": "tool", "gen_ai.prompt": b'{"city":"a"}'}, "weather"),
        "weather",
        b'{"city":"a"}',
        None,
    ),
    "mlflow": (
        span({"mlflow.spanType": '"TOOL"', "mlflow.spanInputs": '{"city":"a"}'}, "weather"),
        "weather",
        '{"city":"a"}',
        None,
    ),
    "agentops": (
        span({"agentops.span.kind": "tool", "tool.name": "weather", "tool.parameters": '{"city":"a"}'}),
        "weather",
        '{"city":"a"}',
        None,
    ),
    "laminar": (
        span({"lmnr.span.type": "TOOL", "lmnr.span.input": '{"city":"a"}'}, "weather"),
        "weather",
        '{"city":"a"}',
        None,
    ),
    "livekit": (
        span(
            {
                "lk.function_tool.name": "weather",
                "lk.function_tool.id": "c1",
                "lk.pii.function_tool.arguments": '{"city":"a"}',
            },
            "function_tool",
        ),
        "weather",
        '{"city":"a"}',
        "c1",
    ),
    "spring_ai": (
        span(
            {
                "spring.ai.kind": "tool_call",
                "spring.ai.tool.definition.name": "weather",
                "spring.ai.tool.call.id": "c1",
                "spring.ai.tool.call.arguments": '{"city":"a"}',
            }
        ),
        "weather",
        '{"city":"a"}',
        "c1",
    ),
    "pydantic_ai": (
        span(
            {"gen_ai.tool.name": "weather", "gen_ai.tool.call.id": "c1", "tool_arguments": '{"city":"a"}'},
            "running tool",
            "pydantic-ai",
        ),
        "weather",
        '{"city":"a"}',
        "c1",
    ),
    "adk": (
        span(
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "weather",
                "gen_ai.tool.call.id": "c1",
                "gcp.vertex.agent.tool_call_args": '{"city":"a"}',
                "gcp.vertex.agent.event_id": "e1",
            },
            "execute_tool weather",
            "gcp.vertex.agent",
        ),
        "weather",
        '{"city":"a"}',
        "c1",
    ),
    "logfire": (
        span(
            {"gen_ai_tool_name": "weather", "arguments": '{"city":"a"}', "session_id": "[Scrubbed due to 'session']"},
            "running tool: {gen_ai_tool_name}",
            "logfire",
        ),
        "weather",
        '{"city":"a"}',
        None,
    ),
    "sentry": (
        span({"sentry.op": "gen_ai.execute_tool", "gen_ai.tool.name": "weather", "gen_ai.tool.input": '{"city":"a"}'}),
        "weather",
        '{"city":"a"}',
        None,
    ),
    "openllmetry": (
        span(
            {
                "traceloop.span.kind": "tool",
                "traceloop.entity.name": "weather",
                "traceloop.entity.input": '{"args": [], "kwargs": {"city": "a"}}',
            },
            "weather.tool",
        ),
        "weather",
        {"city": "a"},
        None,
    ),
    "openinference": (
        span(
            {
                "openinference.span.kind": "TOOL",
                "tool.name": "weather",
                "tool.parameters": '{"type": "object"}',
                "input.value": '{"city":"a"}',
            }
        ),
        "weather",
        '{"city":"a"}',
        None,
    ),
    "otel": (
        span(
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "weather",
                "gen_ai.tool.call.id": "c1",
                "gen_ai.tool.call.arguments": {"city": "a"},
            }
        ),
        "weather",
        {"city": "a"},
        "c1",
    ),
}
"""By dialect: a span of one tool execution, and its name, arguments and call id."""


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_execution_is_read(name: str) -> None:
    view, tool, arguments, call_id = TOOLS[name]
    call = recognise(view)
    assert call is not None
    assert (call.dialect, call.kind) == (name, "tool")
    assert call.tool is not None
    assert (call.tool.name, call.tool.arguments, call.tool.call_id) == (tool, arguments, call_id)
    assert call.usage is None


KINDS: dict[str, tuple[str, PlainView]] = {
    "claude_code interaction": ("agent", span({"span.type": "interaction"}, "claude_code.interaction")),
    "claude_code hook": ("other", span({"span.type": "hook"}, "claude_code.hook")),
    "codex turn": ("none", span({"codex.turn.phase": "sampling"}, "codex.sampling", "codex_exec")),
    "vercel_legacy root": ("workflow", span({"ai.operationId": "ai.generateText"}, scope="ai")),
    "vercel_legacy embedding": ("embedding", span({"ai.operationId": "ai.embed.doEmbed"}, scope="ai")),
    "vercel step": ("workflow", span({"gen_ai.operation.name": "agent_step"}, scope="gen_ai")),
    "voltagent root": (
        "agent",
        span(
            {"entity.type": "agent", "agent.state": "running", "usage.prompt_tokens": 1, "usage.completion_tokens": 1}
        ),
    ),
    "langfuse span": ("workflow", span({"langfuse.observation.type": "span"})),
    "mlflow retriever": ("retrieval", span({"mlflow.spanType": '"RETRIEVER"'})),
    "laminar cached": ("other", span({"lmnr.span.type": "CACHED", "lmnr.span.original_type": "LLM"})),
    "litellm embedding": ("embedding", span({"llm.request.type": "aembedding", "litellm.call_id": "1"})),
    "litellm proxy": (
        "workflow",
        span({"litellm.call_id": "1", "gen_ai.request.model": "m"}, "Received Proxy Server Request", "litellm"),
    ),
    "litellm raw without usage": ("other", span({"llm.openai.id": "1"}, "raw_gen_ai_request", "litellm")),
    "strands cycle": (
        "workflow",
        span({"gen_ai.operation.name": "execute_event_loop_cycle", "event_loop.cycle_id": "1"}),
    ),
    "adk run": ("agent", span({"gen_ai.system": "gcp.vertex.agent"}, "agent_run [weather]", "gcp.vertex.agent")),
    "loongsuite step": ("workflow", span({"gen_ai.span.kind": "STEP"})),
    "openllmetry task": ("workflow", span({"traceloop.span.kind": "task", "traceloop.entity.name": "x"})),
    "openinference reranker": ("rerank", span({"openinference.span.kind": "RERANKER"})),
    "openinference chain": ("workflow", span({"openinference.span.kind": "CHAIN"})),
    "otel retrieval": ("retrieval", span({"gen_ai.operation.name": "retrieval"})),
    "otel unknown operation": ("other", span({"gen_ai.operation.name": "dream"})),
    "otel embeddings": ("embedding", span({"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 3})),
    "sentry handoff": ("other", span({"sentry.op": "gen_ai.handoff"})),
    "sentry database": ("none", span({"sentry.op": "db.query"})),
}
"""What other spans are; "none" is no GenAI span."""


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_of_other_spans(name: str) -> None:
    kind, view = KINDS[name]
    call = recognise(view)
    assert (call.kind if call is not None else "none") == kind
