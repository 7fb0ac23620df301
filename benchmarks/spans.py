"""Export requests like those of agents, made once and renewed cheaply: each holds calls that were never sent before.

512 spans a request (or as many as are asked for) in traces of 16, each span 18 attributes and about 0.9 KB. A GenAI
span is a `chat` of one of ten models with caches, in one of 50 sessions; a plain one an HTTP client's. GenAI spans fill
whole traces, as they do where some services are agents and the others are not. With `prompts` each span holds 30 KB of
prompt and an answer as well.

`Recorded` is what agents' libraries really send: the recordings' own spans, their kinds, attributes, sizes and shares.
"""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

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

_COUNT_KEYS = (b"gen_ai.usage.input_tokens", b"gen_ai.usage.output_tokens")
_THREE_BYTES = rb"\x12\x04\x18[\x80-\xff][\x80-\xff][\x00-\x7f]"
"""Behind a key: an AnyValue of four bytes, its tag of an integer, and a varint of three bytes."""
_OWN_IDS = ("gen_ai.response.id", "gen_ai.conversation.id", "session.id", "langfuse.session.id")
_MOMENT_NS, _MOMENTS = 600 * 10**9, 4096
"""Copies of a recording are made as of other times: calls of equal usage at one time would be taken for one call."""
RECORDINGS = sorted((Path(__file__).parents[1] / "tests" / "data" / "otlp").glob("*/*/*.traces.binpb"))

_MESSAGE = {"role": "user", "parts": [{"type": "text", "content": "Say what the code below does, and why. " * 25}]}
_PROMPTS: dict[str, str | int] = {
    "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "You are a careful engineer. " * 150}]),
    "gen_ai.tool.definitions": json.dumps([{"type": "function", "name": "read", "description": "Reads. " * 280}]),
    "gen_ai.input.messages": json.dumps([_MESSAGE] * 23),
    "gen_ai.output.messages": json.dumps([_MESSAGE | {"role": "assistant"}]),
}
"""What an agent with content capture switched on adds to a call: 30 KB of it the prompt."""

_ALPHABET = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"


class Template:
    """One request of `spans` spans; `renewed` makes it another one, with ids and numbers of tokens of its own."""

    def __init__(self, genai_percent: int, seed: int, spans: int = SPANS, *, prompts: bool = False) -> None:
        self.spans = spans
        draw = random.Random(seed)
        request = ExportTraceServiceRequest()
        resource_spans = request.resource_spans.add()
        resource = {"service.name": "shop", "telemetry.sdk.language": "python", "host.name": "node-17"}
        for key, value in resource.items():
            resource_spans.resource.attributes.add(key=key).value.string_value = value
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name = "opentelemetry.instrumentation.shop"
        now = time.time_ns()
        for number in range(spans):
            genai = number < spans * genai_percent / 100
            attributes = _chat(number, draw) if genai else _http(number)
            _fill(scope_spans.spans.add(), number, now, attributes | (_PROMPTS if prompts else {}))
        self._body = request.SerializeToString()
        self._counts = [
            match.end() - 3 for key in _COUNT_KEYS for match in re.finditer(re.escape(key) + _THREE_BYTES, self._body)
        ]
        """Where the first bytes of the varints of input and output tokens stand; each is three bytes long."""

    def renewed(self, number: int) -> bytes:
        """The request with ids and numbers of tokens of its own; `number` below 16 million."""
        body = bytearray(self._body.replace(_MARK, _text(number)))
        for place, at in enumerate(self._counts):
            body[at] = 0x80 | (number * 31 + place * 17) & 0x7F
            body[at + 1] = 0x80 | (body[at + 1] + (number >> 2)) & 0x7F
        return bytes(body)


class Recorded:
    """One request of about `spans` spans cut from the recordings in tests/data/otlp, whole traces where they fit.

    `renewed` gives every trace and span an id of its own, and every response, and moves all of them to another time.
    """

    def __init__(self, seed: int, spans: int) -> None:
        draw = random.Random(seed)
        request = ExportTraceServiceRequest()
        recorded = [group for path in RECORDINGS for group in _groups(path)]
        while self._count(request) < spans:
            request.resource_spans.append(draw.choice(recorded))
        self.spans = self._count(request)
        self._request = request

    @staticmethod
    def _count(request: ExportTraceServiceRequest) -> int:
        return sum(len(scope.spans) for group in request.resource_spans for scope in group.scope_spans)

    def renewed(self, number: int) -> bytes:
        """The request with ids of its own; `number` below 16 million."""
        request = ExportTraceServiceRequest()
        request.CopyFrom(self._request)
        own = _text(number)
        for group in request.resource_spans:
            for scope in group.scope_spans:
                for span in scope.spans:
                    _renew(span, own, number % _MOMENTS * _MOMENT_NS)
        return request.SerializeToString()


def _renew(span: Span, own: bytes, earlier_ns: int) -> None:
    span.start_time_unix_nano = max(0, span.start_time_unix_nano - earlier_ns)
    span.end_time_unix_nano = max(0, span.end_time_unix_nano - earlier_ns)
    span.trace_id, span.span_id = own + span.trace_id[4:], span.span_id[:4] + own
    if span.parent_span_id:
        span.parent_span_id = span.parent_span_id[:4] + own
    for attribute in span.attributes:
        if attribute.key in _OWN_IDS:
            attribute.value.string_value += own.decode()


def _groups(path: Path) -> list[ResourceSpans]:
    return list(ExportTraceServiceRequest.FromString(path.read_bytes()).resource_spans)


def _text(number: int) -> bytes:
    return bytes(_ALPHABET[number >> shift & 63] for shift in (18, 12, 6, 0))


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
        "gen_ai.usage.input_tokens": draw.randint(20_000, 120_000),
        "gen_ai.usage.output_tokens": draw.randint(16_384, 20_000),
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
