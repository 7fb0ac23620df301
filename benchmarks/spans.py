"""Export requests like those of agents, made once and renewed cheaply: each holds calls that were never sent before.

512 spans a request (or as many as are asked for) in traces of 16, each span 18 attributes and about 0.9 KB. A GenAI
span is a `chat` of one of ten models with caches, in one of 50 sessions; a plain one an HTTP client's. GenAI spans fill
whole traces, as they do where some services are agents and the others are not. With `prompts` each span holds 30 KB of
prompt and an answer as well.

`Recorded` is what agents' libraries really send: the recordings' own spans, their kinds, attributes, sizes and shares,
with ids, texts and times of their own.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
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
_RANDOM_ID = re.compile(
    r"\b(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?:call|chatcmpl|msg|req|resp|toolu)[-_][0-9A-Za-z]{12,})\b"
)
"""Ids that are drawn: UUIDs, and those of responses, requests and tool calls."""
_PROSE = re.compile(r"([a-z]{2}) ([a-z]{2})")
_MOMENT_NS, _MOMENTS, _WITHIN_NS = 3600 * 10**9, 4096, 600 * 10**9
"""Copies of a recording are made as of other times, those of one request of near ones: calls of equal usage at one time
would be taken for one call, and the recordings' model server tells few different ones."""
_MOST_GROUPS = 64
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

    `renewed` gives every copy of a recording ids of its own (those in texts as well), a word of its own in each text,
    and a time of its own: in these nothing that agents send is like what they sent before.
    """

    def __init__(self, seed: int, spans: int) -> None:
        draw = random.Random(seed)
        recorded = [group for path in RECORDINGS for group in _groups(path)]
        self._groups: list[ResourceSpans] = []
        self.spans = 0
        while self.spans < spans:
            group = ResourceSpans.FromString(draw.choice(recorded).SerializeToString())
            self._groups.append(group)
            self.spans += sum(map(_mark, _spans(group)))

    def renewed(self, number: int) -> bytes:
        """The request with ids, texts and times of its own; `number` below 260,000."""
        parts: list[bytes] = []
        for place, group in enumerate(self._groups):
            own = ExportTraceServiceRequest(resource_spans=[group])
            earlier_ns = number % _MOMENTS * _MOMENT_NS + place * _WITHIN_NS
            for span in _spans(own.resource_spans[0]):
                span.start_time_unix_nano = max(0, span.start_time_unix_nano - earlier_ns)
                span.end_time_unix_nano = max(0, span.end_time_unix_nano - earlier_ns)
            parts.append(own.SerializeToString().replace(_MARK, _text(number * _MOST_GROUPS + place)))
        return b"".join(parts)


def _spans(group: ResourceSpans) -> Iterator[Span]:
    for scope in group.scope_spans:
        yield from scope.spans


def _mark(span: Span) -> int:
    """Put the mark into all ids of a span and all its texts; return 1, a span."""
    span.trace_id, span.span_id = _MARK + span.trace_id[4:], span.span_id[:4] + _MARK
    if span.parent_span_id:
        span.parent_span_id = span.parent_span_id[:4] + _MARK
    for attributes in (span.attributes, *(event.attributes for event in span.events)):
        for attribute in attributes:
            _mark_value(attribute.value, is_id=attribute.key in _OWN_IDS)
    return 1


def _mark_value(value: AnyValue, *, is_id: bool = False) -> None:
    for inner in (*value.array_value.values, *(pair.value for pair in value.kvlist_value.values)):
        _mark_value(inner)
    if value.HasField("string_value"):
        mark = _MARK.decode()
        text = _RANDOM_ID.sub(lambda found: found[0][:-4] + mark, value.string_value)
        if is_id:
            value.string_value = text if mark in text else text + mark
        else:
            value.string_value = _PROSE.sub(rf"\1 {mark} \2", text, count=1)


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
