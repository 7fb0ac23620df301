"""What the ledger of a release holds that is kept in tests/data/ledgers, for the next versions to read.

python tests/support/release_ledgers.py FOLDER   writes one with the code as it is
"""

from __future__ import annotations

import sys
from pathlib import Path

from ledger_in_memory import NOW, TENANT, make_fact
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.usual import Prototype, UsualFact
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


USUAL_ROWS = 4
"""The first schema with rows of usual calls."""
_MANY = 1 << 60


def usual_calls() -> list[Fact]:
    """Usual calls of one trace: a first one that costs more than 64 bits hold, others with caches."""
    calls: list[Fact] = []
    prototype = Prototype(_usual_call(0))
    for number in range(4):
        fact, usual = _usual_call(number), UsualFact.__new__(UsualFact)
        for name in ("trace_id", "span_id", "parent_id", "start_ns", "end_ns", "session", "day"):
            setattr(usual, name, getattr(fact, name))
        usual.prototype, usual.response_id, usual.first_token_ns = prototype, f"usual-{number}", 0
        usual.counts = (1000 + number, 100, 10, 0, None, None)
        usual.amount = _MANY * 32 if number == 0 else 1000 + number
        usual.parts = (usual.amount - 10, 4, 0, 6, 0)
        usual.price, usual.estimate, usual.is_unsure = "p", False, False
        calls.append(usual)
    return calls


def _usual_call(number: int) -> Fact:
    fact = make_fact(
        f"u{number}", "above", "llm", 1, session="usual", trace="t10", start=number, response_id=f"usual-{number}"
    )
    fact.day = DAY
    return fact


USUAL = 32 * _MANY + 1001 + 1002 + 1003
"""What those of session `usual` spent."""
SESSIONS = {"alone": 100, "works": 23, "child": 4, "": 5, "long": 100 * 1000 + 4950}
RUNS = {"alone": 100, "nightly": 27, "": 5, "long": SESSIONS["long"]}
"""By id, less the session with the long one, and that of usual calls, which ledgers before `USUAL_ROWS` do not hold."""
TOTAL = sum(SESSIONS.values()) + 6


def write(folder: Path) -> None:
    """Account for all requests in the ledger of a state folder."""
    store = LmdbStore.open(folder, max_size_mib=16, durability="sync", retention_ns=0, now_ns=lambda: NOW)
    for facts in [*requests(), usual_calls()]:
        with store.unit() as unit:
            enter(Batch(TENANT, facts, NOW), unit)
    store.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
