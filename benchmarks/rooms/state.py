"""Time of the ledger's writer for requests of 512 spans: reads, records and the commit, with what accounting changes.

python benchmarks/rooms/state.py [FOLDER]

A request has 32 traces of 16 spans, each trace in a session of its own: decisions, responses and tool counts are new,
traces are replaced, and totals are added to. The ledger begins with `PRESENT` requests in it. Accounting itself is not
part of it. CPU and wall time of the whole process, by span; the disk is the one that FOLDER is on.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path

from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.packing import pack
from spanledger_processor.ledger.records import pack_decision, unpack_decision
from spanledger_processor.ledger.store import Changes, Key, Table, Unit, key, tenant_hash
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.model import Cost, Decision, Usage, UsageVector

TRACES, SPANS_A_TRACE = 32, 16
SPANS = TRACES * SPANS_A_TRACE
PRESENT, REQUESTS = 200, 100
TENANT = tenant_hash("")
DECISION = Decision(
    "llm",
    "otel",
    session_id="6f2c1d1e-1e0c-4d5b-9a58-1f0d4c1b8a77",
    session_source="attribute",
    run_id="run-2026-11-24-0001",
    run_source="attribute",
    usage=Usage(12_000, 800, 9_000, 1_000, 0, 200),
    cost=Cost(21_450_000_000, "computed", 21_450_000_000, 6_000_000_000, 2_700_000_000, 750_000_000, 12_000_000_000),
    session_cost=1_021_450_000_000,
    run_cost=9_021_450_000_000,
    aliases=("gen_ai.usage.cost",),
)
SUMS = Sums(
    *(21_450_000_000, 1, 1, 0),
    usage=UsageVector.read(0, (12_000, 800, 9_000, 1_000, 0, 200)).counts,
    spans=1,
    labels={"id": "6f2c1d1e-1e0c-4d5b-9a58-1f0d4c1b8a77"},
    models={"anthropic/claude-sonnet-4-5": 21_450_000_000},
)
_numbers = itertools.count()


def changes(now_ns: int) -> Changes:
    """What one request changes."""
    made = Changes()
    for _ in range(TRACES):
        number = next(_numbers)
        name = number.to_bytes(16, "big")
        _trace(made, name, (number % 5000).to_bytes(4, "big"), now_ns)
    for day in range(4):
        made.add[key(Table.DAY, TENANT, b"%d" % day, b"anthropic", b"claude")] = SUMS
    made.add[key(Table.TOTAL, TENANT, b"ledger")] = SUMS
    made.expire += [*made.claim, *(where for where in made.replace if where[0] != Table.FLOATING)]
    return made


def _trace(made: Changes, name: bytes, session: bytes, now_ns: int) -> None:
    links = [
        [name, name[:8], now_ns, now_ns, session, "attribute", "", "", "llm", "scope"] for _ in range(SPANS_A_TRACE)
    ]
    made.replace[key(Table.TRACE, TENANT, name)] = pack([1, now_ns // 1_000_000, links])
    made.replace[key(Table.FLOATING, TENANT, session)] = pack([1, now_ns // 1_000_000, "run", SUMS.pack()])
    for table in (Table.SESSION, Table.RUN):
        made.add[key(table, TENANT, session)] = SUMS
    for span in range(SPANS_A_TRACE):
        span_id = b"%8d" % span
        made.claim[key(Table.SPAN, TENANT, name, span_id)] = pack_decision(DECISION, span_id)
        if span % 2:
            made.claim[key(Table.RESPONSE, TENANT, name + span_id)] = pack(
                [1, name, span_id, now_ns, now_ns, "scope", ""]
            )
        else:
            made.replace[key(Table.TOOL, TENANT, session, span_id)] = pack([1, now_ns // 1_000_000, 1, "call"])


def _work(unit: Unit) -> None:
    now_ns = time.time_ns()
    made = changes(now_ns)
    wanted: list[Key] = [*made.add, *made.claim, *made.replace]
    for where in wanted:
        unit.get(where)
    unit.apply(made, now_ns)


async def _measure(folder: Path, durability: str, at_once: int) -> tuple[float, float]:
    """CPU and wall time of a span in us, without what it takes to make up the changes."""
    ledger = LedgerWriter(
        partial(LmdbStore.open, folder, max_size_mib=1024, durability=durability, retention_ns=3600 * 10**9)
    )
    try:
        await asyncio.gather(*(ledger.submit(_work) for _ in range(PRESENT)))
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(REQUESTS // at_once):
            await asyncio.gather(*(ledger.submit(_work) for _ in range(at_once)))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    finally:
        ledger.close()
    spans = REQUESTS // at_once * at_once * SPANS
    making = microseconds(lambda: changes(time.time_ns()), 5) / SPANS
    return cpu / spans * 1e6 - making, wall / spans * 1e6 - making


def microseconds(work: Callable[[], object], number: int) -> float:
    """CPU time of one call, the best of five rounds."""
    return min(timeit.repeat(work, number=number, repeat=5, timer=time.process_time)) / number * 1e6


def main() -> None:
    """Print one line a case."""
    record = pack_decision(DECISION, b"12345678")
    totals = SUMS.pack()
    print(f"{'pack a decision':<34}{microseconds(lambda: pack_decision(DECISION, b'12345678'), 20_000):8.2f} us")
    print(f"{'read a decision':<34}{microseconds(lambda: unpack_decision(record), 20_000):8.2f} us")
    print(f"{'pack totals':<34}{microseconds(SUMS.pack, 20_000):8.2f} us")
    print(f"{'read totals':<34}{microseconds(lambda: Sums.unpack(totals), 20_000):8.2f} us")
    for durability, at_once in itertools.product(("sync", "async"), (1, 8)):
        with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
            cpu, wall = asyncio.run(_measure(Path(folder), durability, at_once))
        print(f"{f'{durability}, {at_once} at once, a span':<34}{cpu:8.2f} us CPU {wall:8.2f} us")


if __name__ == "__main__":
    main()
