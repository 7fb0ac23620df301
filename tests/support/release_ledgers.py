"""What the ledger of a release holds that is kept in tests/data/ledgers, for the next versions to read.

python tests/support/release_ledgers.py FOLDER   writes one with the code as it is
"""

from __future__ import annotations

import sys
from pathlib import Path

from ledger_in_memory import NOW, TENANT, make_fact
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.model import Signature, ToolCall

DAY = 20_775
LONG = "s" * 600


def requests() -> list[list[Fact]]:
    """Calls of sessions with a run of their own, with a named one, with tasks, of none, and an agent above some."""
    calls = [
        make_fact("a", "agent", "llm", 100, session="alone", trace="t1", response_id="r1"),
        make_fact("agent", "", "agent", 100, session="alone", trace="t1", length=1000),
        make_fact("b", kind="llm", cost=20, session="works", run="nightly", trace="t2", response_id="r2"),
        make_fact("c", kind="llm", cost=3, session="works", trace="t3", task_id="t", task_kind="judge"),
        make_fact("d", kind="llm", cost=4, session="child", parent_session="works", trace="t4"),
        make_fact("e", kind="llm", cost=5, trace="t5"),
        make_fact("f", kind="llm", cost=6, session=LONG, trace="t6"),
    ]
    long_trace = [
        make_fact(f"n{number}", kind="llm", cost=1000 + number, session="long", trace="t7", response_id=f"x{number}")
        for number in range(100)
    ]
    tools = [make_fact(f"tool{number}", kind="tool", session="alone", trace="t8", start=number) for number in range(3)]
    for fact in tools:
        assert fact.call is not None
        fact.call.tool, fact.signature = ToolCall("read"), Signature("h1:0:1", "full")
    for fact in [*calls, *long_trace, *tools]:
        fact.day = DAY
    return [calls, long_trace[:60], long_trace[60:], tools]


SESSIONS = {"alone": 100, "works": 23, "child": 4, "": 5, "long": 100 * 1000 + 4950}
RUNS = {"alone": 100, "nightly": 27, "": 5, "long": SESSIONS["long"]}
"""By id, less the session with the long one."""
TOTAL = sum(SESSIONS.values()) + 6


def write(folder: Path) -> None:
    """Account for all requests in the ledger of a state folder."""
    store = LmdbStore.open(folder, max_size_mib=16, durability="sync", retention_ns=0, now_ns=lambda: NOW)
    for facts in requests():
        with store.unit() as unit:
            enter(Batch(TENANT, facts, NOW), unit)
    store.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
