"""The dialects' room: what recognising a span costs, by kind of span.

    python benchmarks/rooms/detect.py

Reading the span is not in it (`read.py`), but making the view is, and every attribute value that a dialect asks for.
"""

from __future__ import annotations

import timeit
from collections.abc import Mapping
from typing import Any

from spanledger_processor.dialects import detect
from spanledger_processor.enrichment.facts import ScopedSpanView
from spanledger_processor.otlp.encoding import SynthesizedSpan, encode_traces
from spanledger_processor.otlp.request import parse_traces
from spanledger_processor.otlp.views import SpanView

ROUNDS, REPEATS = 20_000, 5

OTEL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5.1",
    "server.address": "api.openai.com",
    "server.port": 443,
    "gen_ai.conversation.id": "conversation-1",
    "gen_ai.request.max_tokens": 500,
    "gen_ai.request.temperature": 1.0,
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.response.model": "gpt-5.1-2025-11-13",
    "gen_ai.response.id": "chatcmpl-baf980f394aa96f7dd77bc3488d2f",
    "gen_ai.usage.input_tokens": 1042,
    "gen_ai.usage.output_tokens": 62,
    "gen_ai.usage.cache_read.input_tokens": 768,
    "gen_ai.usage.reasoning.output_tokens": 16,
    "openai.response.service_tier": "default",
    "openai.response.system_fingerprint": "fp_1",
    "user.id": "user-7",
}
OPENINFERENCE: dict[str, Any] = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "gpt-4o-mini-2024-07-18",
    "llm.system": "openai",
    "input.value": "x" * 2000,
    "output.value": '{"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 1042, "completion_tokens": 62}}',
    "llm.token_count.prompt": 1042,
    "llm.token_count.completion": 62,
    "llm.token_count.total": 1104,
    "llm.token_count.prompt_details.cache_read": 768,
    "llm.token_count.completion_details.reasoning": 16,
    "session.id": "session-1",
    **{f"llm.input_messages.{number}.message.content": "x" * 200 for number in range(8)},
}
TOOL: dict[str, Any] = {
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.tool.name": "get_weather",
    "gen_ai.tool.call.id": "call_1",
    "gen_ai.tool.type": "function",
    "gen_ai.tool.call.arguments": '{"city": "alpha"}',
}
PLAIN: dict[str, Any] = {f"http.attribute.{number}": number for number in range(18)}


def microseconds(attributes: Mapping[str, Any], scope: str) -> float:
    """The best of several rounds, for one span, in microseconds."""
    span = SynthesizedSpan(b"t" * 16, b"s" * 8, "chat gpt-5.1", 1, 2, attributes=attributes, scope_name=scope)
    group = parse_traces(encode_traces([span])).groups[0]
    view = SpanView.parse(group.items[0])
    best = min(timeit.repeat(lambda: detect(ScopedSpanView(view, group)), number=ROUNDS, repeat=REPEATS))
    return best / ROUNDS * 10**6


def main() -> None:
    """Print one line a kind of span."""
    for name, attributes, scope in (
        ("chat span of the convention", OTEL, "opentelemetry.instrumentation.genai.openai"),
        ("OpenInference LLM span", OPENINFERENCE, "openinference.instrumentation.openai"),
        ("tool span of the convention", TOOL, "app"),
        ("plain span that got past the prefilter", PLAIN, "app"),
    ):
        print(f"{name} ({len(attributes)} attributes): {microseconds(attributes, scope):.1f} us")


if __name__ == "__main__":
    main()
