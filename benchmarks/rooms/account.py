"""Time of the stage around the ledger, per span: reading a request into facts, accounting for it, writing it out.

python benchmarks/rooms/account.py
"""

from __future__ import annotations

import secrets
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger_processor.accounting.account import account
from spanledger_processor.config import load
from spanledger_processor.enrichment import write
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing import Signer

NOW = 1_795_500_000_000_000_000
SPANS, IN_TRACE, ROUNDS = 512, 8, 12
OPERATIONS = ("chat", "chat", "execute_tool", "chat", "chat", "execute_tool", "chat", "invoke_agent")


def request() -> bytes:
    """An export request of agents' traces: five calls, two tools and the agent above them, 18 attributes each."""
    made = ExportTraceServiceRequest()
    scope = made.resource_spans.add().scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.openai_v2"
    for number in range(SPANS // IN_TRACE):
        trace_id, agent_id = secrets.token_bytes(16), secrets.token_bytes(8)
        for place, operation in enumerate(OPERATIONS):
            span = scope.spans.add(name=operation, trace_id=trace_id)
            span.span_id = agent_id if operation == "invoke_agent" else secrets.token_bytes(8)
            span.parent_span_id = b"" if operation == "invoke_agent" else agent_id
            span.start_time_unix_nano = NOW + place * 10**9
            span.end_time_unix_nano = span.start_time_unix_nano + 10**9 - 1
            _attributes(span, operation, number, place)
    return made.SerializeToString()


def _attributes(span: Span, operation: str, number: int, place: int) -> None:
    texts = {"gen_ai.operation.name": operation, "gen_ai.conversation.id": f"session {number % 50}"}
    numbers: dict[str, int] = {}
    if operation == "chat":
        texts |= {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}
        texts |= {"gen_ai.response.id": f"chatcmpl-{secrets.token_hex(12)}"}
        numbers = {"gen_ai.usage.input_tokens": secrets.randbelow(5000) + 100, "gen_ai.usage.output_tokens": 40}
        numbers |= {"gen_ai.usage.cache_read.input_tokens": 64}
    if operation == "execute_tool":
        texts |= {"gen_ai.tool.name": "get_weather", "gen_ai.tool.call.id": secrets.token_hex(8)}
        texts |= {"gen_ai.tool.call.arguments": f'{{"city": "Paris", "days": {place}}}'}
    texts |= {f"app.attribute.{index}": "some value" for index in range(18 - len(texts) - len(numbers))}
    for key, text in texts.items():
        span.attributes.add(key=key).value.string_value = text
    for key, count in numbers.items():
        span.attributes.add(key=key).value.int_value = count


def main() -> None:
    """Print one line a step: CPU time per span, the median round of twelve."""
    stage, store = make_stage(load(None), Signer(b"the key of this benchmark, long.")), MemoryStore()
    rounds: dict[str, list[float]] = {"read": [], "account": [], "apply": [], "write": []}
    for body in [request() for _ in range(ROUNDS)]:
        began = time.process_time()
        reading = stage.read(body, {}, NOW)
        (batch,) = reading.batches
        read = time.process_time()
        with store.unit() as unit:
            ruling = account(batch, unit)
            accounted = time.process_time()
            unit.apply(ruling.changes, NOW)
        applied = time.process_time()
        write(reading, [ruling.decisions])
        written = time.process_time()
        for step, spent in zip(
            rounds, (read - began, accounted - read, applied - accounted, written - applied), strict=True
        ):
            rounds[step].append(spent)
    for step, spents in rounds.items():
        print(f"{step:<10}{sorted(spents)[ROUNDS // 2] / SPANS * 1e6:8.2f} us")


if __name__ == "__main__":
    main()
