"""Time of reading: a request's envelope, one span, its attributes; the published messages beside it.

python benchmarks/rooms/read.py
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger_processor.dialects import MARKERS
from spanledger_processor.otlp.encoding import SynthesizedSpan, encode_traces
from spanledger_processor.otlp.json_form import to_json, to_protobuf
from spanledger_processor.otlp.prefilter import Prefilter
from spanledger_processor.otlp.request import parse_traces
from spanledger_processor.otlp.views import SpanView

SPANS = 512
ATTRIBUTES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.response.model": "claude-sonnet-4-5-20250929",
    "gen_ai.response.id": "msg_01XFDUDYJgAACzvnptvVoYEL",
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.usage.input_tokens": 12_345,
    "gen_ai.usage.output_tokens": 678,
    "gen_ai.usage.cache_read.input_tokens": 10_000,
    "gen_ai.conversation.id": "3f1c2d9e-5b7a-4a52-9d3e-0b6f6a1d2c11",
    "gen_ai.request.temperature": 0.2,
    "gen_ai.request.max_tokens": 4096,
    "gen_ai.output.type": "text",
    "server.address": "api.anthropic.com",
    "server.port": 443,
    "thread.id": 140_735_512_345,
    "user.id": "user-4711",
    "code.function.name": "app.agents.researcher.run",
}
HITS = [
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.conversation.id",
]
MISSES = ["gen_ai.system", "gen_ai.usage.reasoning.output_tokens", "session.id", "gen_ai.tool.name"]


def request() -> bytes:
    """One encoded request of `SPANS` model calls, 18 attributes each."""
    span = SynthesizedSpan(bytes(range(16)), bytes(range(8)), "chat claude-sonnet-4-5", 1, 2, attributes=ATTRIBUTES)
    return encode_traces([span] * SPANS)


def microseconds(work: Callable[[], object], number: int) -> float:
    """CPU time of one call, the best of seven rounds."""
    return min(timeit.repeat(work, number=number, repeat=7, timer=time.process_time)) / number * 1e6


def main() -> None:
    """Print one line a case, by span."""
    body = request()
    span = parse_traces(body).groups[0].items[0]
    text, marks = to_json("traces", body), Prefilter(MARKERS)

    def look_ups() -> None:
        get = SpanView.parse(span).attributes.get
        for key in HITS:
            get(key)
        for key in MISSES:
            get(key)

    cases: list[tuple[str, Callable[[], object], int, int]] = [
        ("envelope", lambda: parse_traces(body), 200, SPANS),
        (f"prefilter, {len(MARKERS)} markers", lambda: marks.hits(body), 200, SPANS),
        ("span", lambda: SpanView.parse(span), 50_000, 1),
        ("span + 12 look-ups, 8 of them hits", look_ups, 50_000, 1),
        ("published messages, envelope and spans", lambda: ExportTraceServiceRequest.FromString(body), 20, SPANS),
        (
            "published messages, all keys of a span",
            lambda: [a.key for a in Span.FromString(span).attributes],
            20_000,
            1,
        ),
        ("to JSON", lambda: to_json("traces", body), 3, SPANS),
        ("from JSON", lambda: to_protobuf("traces", text), 3, SPANS),
    ]
    print(f"{len(span)} bytes a span, {len(ATTRIBUTES)} attributes, {SPANS} spans a request")
    for name, work, number, spans in cases:
        print(f"{name:<42}{microseconds(work, number) / spans:8.2f} us a span")


if __name__ == "__main__":
    main()
