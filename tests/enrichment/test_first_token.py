"""When the first token of a call came: what each library's recordings say, and what cannot be."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from captures import FOLDER
from chats import chat, request, set_attributes
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.config import load
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing import Signer

STAGE = make_stage(load(None, []), Signer(b"k" * 32))
SECOND, MS = 10**9, 10**6

RECORDED = {
    "claude-code/tools": ("ttft_ms", MS),
    "otel-genai/S2-openai-chat": ("gen_ai.response.time_to_first_chunk", SECOND),
    "pydantic-ai/S3-anthropic": ("gen_ai.response.time_to_first_chunk", SECOND),
    "openlit/S1-anthropic": ("gen_ai.server.time_to_first_token", SECOND),
    "strands/S3": ("gen_ai.server.time_to_first_token", MS),
    "vercel-ai-sdk-v5": ("ai.response.msToFirstChunk", MS),
    "vercel-ai-sdk-v6": ("ai.response.msToFirstChunk", MS),
}
"""Recordings, and what their spans tell it by, in ns."""


def facts(body: bytes, now_ns: int) -> dict[bytes, Fact]:
    reading = STAGE.read(body, {}, now_ns)
    return {fact.span_id: fact for batch in reading.batches for fact in batch.facts if fact.call}


@pytest.mark.parametrize("recording", RECORDED)
def test_recordings_say_when(recording: str) -> None:
    key, unit = RECORDED[recording]
    reported = 0
    for path in sorted((FOLDER / recording).rglob("*.traces.binpb")):
        body = path.read_bytes()
        spans = [span for of in _scopes(body) for span in of.spans]
        found = facts(body, max(span.end_time_unix_nano for span in spans) + SECOND)
        for span in spans:
            for value in (attribute.value for attribute in span.attributes if attribute.key == key):
                fact = found[span.span_id]
                if fact.call is not None and fact.call.kind == "llm":
                    reported += 1
                    assert fact.first_token_ns == int((value.int_value or value.double_value) * unit)
    assert reported


def _scopes(body: bytes) -> list[ScopeSpans]:
    message = ExportTraceServiceRequest.FromString(body)
    return [of for resource in message.resource_spans for of in resource.scope_spans]


KEY = "gen_ai.response.time_to_first_chunk"


def _of(span: Span) -> int:
    return facts(request(span), span.end_time_unix_nano)[span.span_id].first_token_ns


@pytest.mark.parametrize("value", ["0.01", True, -0.01, 0, float("nan"), float("inf"), 5.0, 10**300])
def test_what_cannot_be_is_unknown(value: object) -> None:
    span = chat()
    set_attributes(span, {KEY: min(value, 1 << 62) if type(value) is int else value})
    assert _of(span) == 0


def test_calls_like_one_another_each_have_their_own() -> None:
    spans = [chat() for _ in range(4)]
    for number, span in enumerate(spans):
        set_attributes(span, {"gen_ai.conversation.id": "s", "gen_ai.response.id": f"r{number}"})
        if number != 2:
            set_attributes(span, {KEY: 0.01 * (number + 1)})
    found = facts(request(*spans), spans[0].end_time_unix_nano)
    assert [found[span.span_id].first_token_ns // MS for span in spans] == [10, 20, 0, 40]


def test_a_time_counts_from_the_start() -> None:
    span = chat()
    set_attributes(span, {"langfuse.observation.type": "generation"})
    set_attributes(span, {"langfuse.observation.completion_start_time": '"2026-11-22T16:03:37.417Z"'})
    span.start_time_unix_nano = 1_795_363_417_400 * MS
    span.end_time_unix_nano = span.start_time_unix_nano + SECOND
    assert _of(span) == 17 * MS
