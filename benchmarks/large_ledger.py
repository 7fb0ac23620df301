"""Fill a state folder with the ledger of many sessions: `python -m benchmarks.large_ledger FOLDER --sessions 1000000`.

Every record is written as `serve` writes it: facts go through the accounting and land in units of the store, in order
of time, over the last 60 days. Only reading and pricing spans is left out. With `--dense` they all came in the last
20 hours, so that retention keeps every trace, response id and equal-usage match as well, and each session has a run, a
task and a tool call (with a signature) of its own: as many records of each kind as sessions.

Nothing is synced before the end: LMDB then writes a page that many commits touch when the kernel likes, instead of once
for each of them, which is most of the time of a ledger that has a million of everything.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import lmdb

from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.model import Call, Cost, Signature, ToolCall, Usage

_DAYS = 60
_DAY_NS = 86_400 * 10**9
_DENSE_NS = 20 * 3600 * 10**9
_PER_REQUEST, _PER_COMMIT = 512, 4
_TOLD = 100_000
"""Spans between two lines that say how far it is."""
_MODELS = (
    ("anthropic", "claude-sonnet-4-5", 3, 15),
    ("anthropic", "claude-haiku-4-5", 1, 5),
    ("anthropic", "claude-opus-4-5", 5, 25),
    ("openai", "gpt-5.1", 1.25, 10),
    ("openai", "gpt-5-mini", 0.25, 2),
    ("openai", "gpt-4o-mini", 0.15, 0.6),
    ("google", "gemini-2.5-pro", 1.25, 10),
    ("mistral", "mistral-large-latest", 2, 6),
)
"""Provider, model, and about what a million tokens cost in and out: amounts only have to be of a likely size."""
_TOOLS = ("Bash", "Read", "Edit", "Grep", "WebFetch")


def facts(sessions: int, now_ns: int, seed: int = 7, *, dense: bool = False) -> Iterator[Fact]:
    """Yield the facts of `sessions` sessions, in order of time; of `dense` ones each has a run, a task and a tool call.

    Each has a call; of ten sessions one has a sub-agent with a call of its own and a tool call, one is spawned by the
    session before it, and of a thousand calls one has no price.
    """
    draw, last = random.Random(seed), ""
    lasting = _DENSE_NS if dense else _DAYS * _DAY_NS
    step = lasting // max(sessions, 1)
    for number in range(sessions):
        at = now_ns - lasting + number * step
        session = f"{draw.getrandbits(64):016x}-{number}"
        parent, last = last if number % 10 == 3 else "", session
        trace = draw.randbytes(16)
        dimensions = (
            *("project", f"project-{number % 40:02d}", "service", f"service-{number % 12}"),
            *("user", f"user-{number % 300:03d}@example.org"),
        )
        call = _call(draw, trace, at, session, parent, dimensions, unpriced=number % 1000 == 999)
        if dense:
            assert call.call is not None
            call.run = Named(f"run-{number}", "attribute")
            call.call.task_id, call.call.task_kind = f"task-{number}", "worker"
            yield call
            tool = _tool(draw, trace, at + 10**6, session, dimensions)
            tool.signature = Signature(f"h1:0badcafe:{draw.getrandbits(128):032x}", "full")
            yield tool
            continue
        yield call
        if number % 10 == 7:
            yield _call(draw, trace, at + 10**9, session, "", dimensions, agent=f"agent-{number % 7}")
            yield _tool(draw, trace, at + 2 * 10**9, session, dimensions)


def _call(
    draw: random.Random,
    trace: bytes,
    at: int,
    session: str,
    parent: str,
    dimensions: tuple[str, ...],
    agent: str = "",
    *,
    unpriced: bool = False,
) -> Fact:
    provider, model, price_in, price_out = draw.choice(_MODELS)
    tokens, output = draw.randrange(500, 120_000), draw.randrange(20, 4000)
    usage = Usage(tokens, output, tokens * draw.randrange(9) // 10, 0)
    into, out = int(tokens * price_in * 10**6), int(output * price_out * 10**6)
    cost = Cost(into + out, "computed", into + out, input=into, output=out, price=f"benchmark/{provider}/{model}")
    if unpriced:
        model, cost = "of-nobody", Cost(unpriced="unknown_model")
    call = Call("otel", "llm", "per-message", provider, model, model, usage, response_id=f"r{draw.getrandbits(64):x}")
    call.agent_id = agent
    took = draw.randrange(300, 20_000) * 10**6
    fact = Fact(trace, draw.randbytes(8), b"", at, at + took, "benchmark", Named(session, "attribute"))
    fact.session_parent_id, fact.call, fact.cost, fact.day = parent, call, cost, at // _DAY_NS
    fact.dimensions, fact.digest = dimensions, draw.randbytes(16)
    return fact


def _tool(draw: random.Random, trace: bytes, at: int, session: str, dimensions: tuple[str, ...]) -> Fact:
    call = Call("otel", "tool", tool=ToolCall(draw.choice(_TOOLS)))
    fact = Fact(trace, draw.randbytes(8), b"", at, at + 10**8, "benchmark", Named(session, "attribute"))
    fact.call, fact.day, fact.dimensions, fact.digest = call, at // _DAY_NS, dimensions, draw.randbytes(16)
    return fact


def fill(
    folder: Path, sessions: int, *, max_size_mib: int = 16_384, dense: bool = False, watched: bool = False
) -> None:
    """Write the ledger of `sessions` sessions into a state folder."""
    tenant, now_ns = tenant_hash(""), time.time_ns()
    clock = [now_ns]
    with patch("lmdb.open", partial(lmdb.open, sync=False)):
        store = LmdbStore.open(
            folder, max_size_mib=max_size_mib, durability="sync", retention_ns=_DAY_NS, now_ns=lambda: clock[0]
        )
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 3, 2**31 - 1)  # as `serve` does
    try:
        written, began = 0, time.monotonic()
        waiting = facts(sessions, now_ns, dense=dense)
        while commit := [request for _ in range(_PER_COMMIT) if (request := list(islice(waiting, _PER_REQUEST)))]:
            with store.unit() as unit:
                for request in commit:
                    clock[0] = request[-1].end_ns
                    enter(Batch(tenant, request, clock[0], watched=watched), unit)
                    written += len(request)
            while store.maintain():
                pass
            if written % _TOLD < _PER_REQUEST * _PER_COMMIT:
                print(f"{written:,} spans in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    finally:
        store.close()
        os.sync()


def main() -> None:
    """Fill a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--dense", action="store_true", help="as many records of every kind as sessions")
    parser.add_argument("--watched", action="store_true", help="as where summaries of sessions or warnings are on")
    options = parser.parse_args()
    began = time.monotonic()
    fill(options.folder, options.sessions, dense=options.dense, watched=options.watched)
    print(f"{options.sessions:,} sessions in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
