"""Time of the ledger for a trace that arrives in many requests, as an agent's does that runs for hours.

python benchmarks/rooms/long_trace.py
"""

from __future__ import annotations

import time

from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.model import Call, Cost, Usage

NOW, SECOND = 1_795_500_000_000_000_000, 10**9
TRACE, ROOT = b"a trace, 16 byte", b"the root"
IN_REQUEST, MOST = 10, 4000
MARKS = (100, 500, 1000, 2000, MOST)


def fact(number: int) -> Fact:
    """A model call below the trace's root, which ends, and so comes, last."""
    call = Call("otel", "llm", provider="openai", request_model="gpt-4o-mini", response_id=f"chatcmpl-{number:012}")
    call.usage = Usage(1000 + 7 * number, 200, cache_read=64, cache_write=0)
    start = NOW + number * SECOND
    made = Fact(
        TRACE, number.to_bytes(8, "big"), ROOT, start, start + SECOND // 2, "openai_v2", Named("s", "attribute")
    )
    made.call, made.day, made.digest = call, NOW // (86_400 * SECOND), number.to_bytes(16, "big")
    made.cost = Cost(5_000_000 + number, "computed", 5_000_000 + number, input=5_000_000 + number, price="bench/mini")
    return made


def main() -> None:
    """Print one line for each length of the trace: CPU time of a request that adds ten spans, the median of ten."""
    store = MemoryStore()
    spent: list[float] = []
    for first in range(1, MOST, IN_REQUEST):
        batch = Batch(b"8 bytes.", [fact(number) for number in range(first, first + IN_REQUEST)], NOW)
        began = time.process_time()
        with store.unit() as unit:
            enter(batch, unit)
        spent.append(time.process_time() - began)
        length = first + IN_REQUEST - 1
        if length in MARKS:
            median = sorted(spent[-10:])[len(spent[-10:]) // 2]
            print(f"{length:5} spans: {median * 1e3:7.2f} ms a request, {median / IN_REQUEST * 1e6:8.1f} us a new span")


if __name__ == "__main__":
    main()
