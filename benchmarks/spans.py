"""Export requests like those of agents, made once and renewed cheaply: each holds calls that were never sent before.

512 spans a request in traces of 16, each span 18 attributes and about 0.9 KB. A GenAI span is a `chat` of one of ten
models with caches, in one of 50 sessions; a plain one an HTTP client's. GenAI spans fill whole traces, as they do where
some services are agents and the others are not.
"""

from __future__ import annotations

import random
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SPANS = 512
SPANS_A_TRACE = 16
SESSIONS = 50

_MODELS = (
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-haiku-4-5"),
    ("anthropic", "claude-opus-4-1"),
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4.1"),
    ("openai", "gpt-4.1-mini"),
    ("openai", "o3"),
    ("openai", "o4-mini"),
    ("gcp.gemini", "gemini-2.5-pro"),
)
_MARK = b"@ID@"
"""Stands in all ids of a template; replaced by a number that was not used before."""

_ALPHABET = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"


class Template:
    """One request; `renewed` makes it another one. All it takes is one `bytes.replace` of equal length.

    `seed` draws the numbers of tokens, of which a renewed request has the same: use several templates.
    """

    def __init__(self, genai_percent: int, seed: int) -> None:
        draw = random.Random(seed)
        request = ExportTraceServiceRequest()
        resource_spans = request.resource_spans.add()
        resource = {"service.name": "shop", "telemetry.sdk.language": "python", "host.name": "node-17"}
        for key, value in resource.items():
            resource_spans.resource.attributes.add(key=key).value.string_value = value
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name = "opentelemetry.instrumentation.shop"
        now = time.time_ns()
        for number in range(SPANS):
            genai = number < SPANS * genai_percent / 100
            _fill(scope_spans.spans.add(), number, now, _chat(number, draw) if genai else _http(number))
        self._body = request.SerializeToString()

    def renewed(self, number: int) -> bytes:
        """The request with ids of its own; `number` below 16 million."""
        text = bytes(_ALPHABET[number >> shift & 63] for shift in (18, 12, 6, 0))
        return self._body.replace(_MARK, text)


def _fill(span: Span, number: int, now: int, attributes: dict[str, str | int]) -> None:
    trace, place = divmod(number, SPANS_A_TRACE)
    span.trace_id = b"trace-%05d" % trace + b"-" + _MARK
    span.span_id = b"%04d" % number + _MARK
    span.parent_span_id = b"root" + _MARK
    span.kind = Span.SPAN_KIND_CLIENT
    span.start_time_unix_nano = now + place * 10_000_000
    span.end_time_unix_nano = span.start_time_unix_nano + 9_000_000
    span.name = str(attributes.get("gen_ai.request.model", "GET"))
    for key, value in attributes.items():
        into = span.attributes.add(key=key).value
        if isinstance(value, int):
            into.int_value = value
        else:
            into.string_value = value


def _chat(number: int, draw: random.Random) -> dict[str, str | int]:
    provider, model = _MODELS[number % len(_MODELS)]
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.response.id": f"chatcmpl-{number:05d}-{_MARK.decode()}",
        "gen_ai.response.finish_reasons": "stop",
        "gen_ai.conversation.id": f"conversation-{number // SPANS_A_TRACE % SESSIONS:08d}",
        "session.id": f"session-{number // SPANS_A_TRACE % SESSIONS:08d}",
        "user.id": "user-00042",
        "gen_ai.usage.input_tokens": draw.randint(12_000, 120_000),
        "gen_ai.usage.output_tokens": draw.randint(50, 2_000),
        "gen_ai.usage.cache_read.input_tokens": draw.randint(0, 10_000),
        "gen_ai.usage.cache_creation.input_tokens": draw.randint(0, 2_000),
        "gen_ai.request.max_tokens": 4096,
        "gen_ai.agent.name": "researcher",
        "server.address": "api.example.com",
        "server.port": 443,
        "app.note": "x" * 200,
    }


def _http(number: int) -> dict[str, str | int]:
    return {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.full": f"https://shop.example.com/api/products/{number:06d}?currency=EUR",
        "url.scheme": "https",
        "server.address": "shop.example.com",
        "server.port": 443,
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "network.peer.address": "10.20.30.40",
        "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        "http.route": "/api/products/{id}",
        "user.id": "user-00042",
        "session.id": f"session-{number % SESSIONS:08d}",
        "thread.id": 17,
        "thread.name": "worker-17",
        "code.function.name": "shop.products.get",
        "deployment.environment.name": "production",
        "app.note": "x" * 200,
    }
