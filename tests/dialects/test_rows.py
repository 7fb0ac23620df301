"""One span of each vocabulary, written as its source code (or its vendor's page) has it (`tests/data/dialects`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dialect_view import PlainAttributes, PlainEvent, PlainView, span
from spanledger_processor.dialects import MARKERS, detect
from spanledger_processor.dialects.registry import DIALECTS
from spanledger_processor.model import Usage

DATA = Path(__file__).parents[1] / "data" / "dialects"
MODEL_CALLS: dict[str, dict[str, Any]] = json.loads((DATA / "model_calls.json").read_text(encoding="utf-8"))
TOOL_CALLS: dict[str, dict[str, Any]] = json.loads((DATA / "tool_calls.json").read_text(encoding="utf-8"))

WITHOUT_PRICE = {"gemini_cli", "autogen"}
"""Dialects whose model calls are told by log events only (`test_reasoning`), or stand in where no span tells one."""


def view_of(row: dict[str, Any]) -> PlainView:
    reported = row["span"]
    events = [PlainEvent(name, PlainAttributes(given)) for name, given in reported.get("events", {}).items()]
    return span(
        reported["attributes"],
        reported.get("name", "span"),
        reported.get("scope", ""),
        reported.get("version", ""),
        events=events,
    )


@pytest.mark.parametrize("name", MODEL_CALLS)
def test_a_model_call_is_read(name: str) -> None:
    row = MODEL_CALLS[name]
    call = detect(view_of(row))
    assert call is not None
    assert (call.dialect, call.kind, call.granularity) == (name, "llm", "per-message")
    assert (call.provider, call.model, call.problem) == (row["provider"], row["model"], "")
    assert call.usage == Usage(**row["usage"])


def test_every_dialect_has_its_row() -> None:
    assert {dialect.name for dialect in DIALECTS} == MODEL_CALLS.keys() | WITHOUT_PRICE


@pytest.mark.parametrize("name", MODEL_CALLS)
def test_the_prefilter_lets_every_row_through(name: str) -> None:
    view = view_of(MODEL_CALLS[name])
    written = "\n".join([view.name, *view.attributes]).encode()
    assert any(mark in written for mark in MARKERS)


@pytest.mark.parametrize("name", TOOL_CALLS)
def test_a_tool_execution_is_read(name: str) -> None:
    row = TOOL_CALLS[name]
    call = detect(view_of(row))
    assert call is not None
    assert (call.dialect, call.kind, call.usage) == (name, "tool", None)
    assert call.tool is not None
    assert (call.tool.name, call.tool.arguments, call.tool.call_id) == (row["name"], row["arguments"], row["call_id"])


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
    call = detect(view)
    assert (call.kind if call is not None else "none") == kind
