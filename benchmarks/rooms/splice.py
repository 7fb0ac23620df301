"""Time of writing: a decision's attributes, and appending them to spans; building messages instead beside it.

python benchmarks/rooms/splice.py
"""

from __future__ import annotations

import itertools
import time
import timeit
from collections.abc import Callable

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger_processor.enrichment.attributes import encode
from spanledger_processor.model import Cost, Decision, Signature, Usage
from spanledger_processor.otlp.encoding import SynthesizedSpan, encode_traces
from spanledger_processor.otlp.request import parse_traces

SPANS = 512
COST = Cost(
    amount=63_210_000_000,
    source="computed",
    computed=63_210_000_000,
    input=7_035_000_000,
    cache_read=3_000_000_000,
    output=53_175_000_000,
    price="genai-prices@0.2.3/anthropic/claude-sonnet-4-5",
)
MODEL_CALL = Decision(
    "llm",
    "otel",
    session_id="3f1c2d9e-5b7a-4a52-9d3e-0b6f6a1d2c11",
    session_source="attribute",
    run_id="run-17",
    run_source="resource",
    usage=Usage(12_345, 678, 10_000, 0, 0, 120),
    cost=COST,
    session_cost=10**12,
    run_cost=10**13,
    aliases=("gen_ai.usage.cost",),
)
TOOL_CALL = Decision(
    "tool",
    "otel",
    session_id="3f1c2d9e-5b7a-4a52-9d3e-0b6f6a1d2c11",
    session_source="trace",
    signature=Signature("h1:0123abcd:00112233445566778899aabbccddeeff", "full"),
    tool_repeats=3,
    tool_consecutive=2,
)


def microseconds(work: Callable[[], object], number: int) -> float:
    """CPU time of one call, the best of seven rounds."""
    return min(timeit.repeat(work, number=number, repeat=7, timer=time.process_time)) / number * 1e6


def appending(body: bytes, extra: bytes, step: int) -> Callable[[], object]:
    """Read, append `extra` to every `step`-th span, write."""

    def work() -> bytes:
        request = parse_traces(body)
        for place in range(0, SPANS, step):
            request.append(0, place, extra)
        return request.serialize()

    return work


def main() -> None:
    """Print one line a case."""
    extra = encode(MODEL_CALL)
    messages = list(Span.FromString(extra).attributes)
    span = SynthesizedSpan(
        bytes(range(16)), bytes(range(8)), "chat", 1, 2, attributes={f"key.{n}": "x" * 20 for n in range(25)}
    )
    body = encode_traces([span] * SPANS)
    numbers = itertools.count()

    def new_session() -> None:
        MODEL_CALL.session_id = f"session-{next(numbers)}"
        encode(MODEL_CALL)

    def by_messages() -> None:
        made = Span()
        for attribute in messages:
            made.attributes.append(attribute)
        made.SerializeToString()

    def whole_request_by_messages() -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for place in range(SPANS):
            request.resource_spans[0].scope_spans[0].spans[place].attributes.extend(messages)
        request.SerializeToString()

    print(f"{len(messages)} attributes of a model call, {len(extra)} bytes; {len(body) // SPANS} bytes a span before")
    cases: list[tuple[str, Callable[[], object], int, int]] = [
        ("attributes of a model call", lambda: encode(MODEL_CALL), 20_000, 1),
        ("attributes of a tool call", lambda: encode(TOOL_CALL), 20_000, 1),
        ("attributes, a session not seen before", new_session, 20_000, 1),
        ("attributes by published messages", by_messages, 5_000, 1),
        ("read, append to all, write", appending(body, extra, 1), 40, SPANS),
        ("read, append to every tenth, write", appending(body, extra, 10), 40, SPANS),
        ("read, append to one, write", appending(body, extra, SPANS), 40, SPANS),
        ("the first by published messages", whole_request_by_messages, 5, SPANS),
    ]
    for name, work, number, spans in cases:
        print(f"{name:<42}{microseconds(work, number) / spans:8.2f} us a span")


if __name__ == "__main__":
    main()
