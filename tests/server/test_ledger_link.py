"""A worker's way to the ledger process: what is asked again, what goes on without it, and what nobody can know."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from release_ledgers import usual_calls
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact, Ruling
from spanledger_processor.enrichment.known_traces import KNOWN_TRACES
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.queries import total
from spanledger_processor.ledger.store import StateError, tenant_hash
from spanledger_processor.ledger.writer import LedgerWriter, count_joint
from spanledger_processor.model import Call, Cost, Usage
from spanledger_processor.server import ledger_link
from spanledger_processor.server.ledger_link import (
    AnnouncedTraces,
    LedgerServer,
    LocalLedger,
    RemoteLedger,
    Status,
    UnansweredError,
)

COST = 250_000
TENANT = tenant_hash("")


@dataclass
class Accounts:
    """A ledger in memory; answers once `gate` is open, or raises `error`."""

    store: MemoryStore = field(default_factory=MemoryStore)
    error: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Queue[Batch] = field(default_factory=asyncio.Queue)
    problem: str | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    async def account(self, batch: Batch) -> Ruling:
        if self.error is not None:
            raise self.error
        with self.store.unit() as unit:
            ruling = enter(batch, unit)
        self.entered.put_nowait(batch)
        await self.gate.wait()
        return ruling

    def calls(self) -> int:
        with self.store.snapshot() as reader:
            return int(total(reader, TENANT)["calls"])


@pytest.fixture
def path() -> Iterator[str]:
    """A path short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "ledger")


@asynccontextmanager
async def serving(path: str, accounts: Accounts, gone: list[Status] | None = None) -> AsyncIterator[LedgerServer]:
    server = LedgerServer(path, accounts, (gone if gone is not None else []).append)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def worker(path: str) -> AsyncIterator[RemoteLedger]:
    ledger = RemoteLedger(path, lambda: {"listening": {"grpc": True}, "metrics": []})
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close()


def batch(name: str = "a") -> Batch:
    cost = Cost(amount=COST, source="computed", computed=COST, input=COST, price="p")
    call = Call("otel", "llm", provider="openai", request_model="gpt", usage=Usage(input=1, output=1))
    return Batch(TENANT, [Fact(b"trace-" + name.encode(), b"span", call=call, cost=cost, digest=b"d")], 10**18)


BUDGET = BudgetRule("b", 1, "day")


@pytest.mark.parametrize(
    ("usual", "budgets", "spans", "join"),
    [
        (False, (), 200, True),
        (False, (), 300, False),
        (True, (), 300, True),
        (True, (BUDGET,), 200, True),
        (True, (BUDGET,), 300, False),
    ],
)
async def test_spans_that_take_the_full_rules_count_as_four_where_requests_are_accounted_for_as_one(
    usual: bool,  # noqa: FBT001
    budgets: tuple[BudgetRule, ...],
    spans: int,
    join: bool,  # noqa: FBT001
) -> None:
    """So that nobody waits for more than 512 of them, or 2,048 usual calls. With budgets all do."""
    fact, *_ = usual_calls() if usual else batch().facts
    works = []

    class Writer:
        async def submit(self, work: object, *, takes_long: bool) -> Ruling:
            works.append(work)
            return Ruling()

    ledger = LocalLedger(cast("LedgerWriter", Writer()))
    for _ in "ab":
        await ledger.account(Batch(TENANT, [fact] * spans, 10**18, budgets=budgets))
    assert (count_joint(works) == 2) == join


async def test_a_batch_is_accounted_for_in_the_other_process(path: str) -> None:
    accounts = Accounts()
    async with serving(path, accounts), worker(path) as ledger:
        rulings = await asyncio.gather(*(ledger.account(batch(name)) for name in "abc"))
        assert [ruling.decisions[0].cost.amount for ruling in rulings if ruling.decisions[0].cost] == [COST] * 3
        assert ledger.problem is None
    assert accounts.calls() == 3


async def test_what_was_not_answered_is_asked_again_of_the_next_ledger_process_and_counts_once(path: str) -> None:
    """It may have been committed before the first one died."""
    first = Accounts()
    first.gate.clear()
    async with worker(path) as ledger:
        async with serving(path, first):
            asked = asyncio.create_task(ledger.account(batch()))
            await first.entered.get()
        assert not asked.done()
        second = Accounts(first.store)
        async with serving(path, second):
            ruling = await asked
        assert (ruling.replays, ruling.fresh) == (1, [])
    assert second.calls() == 1


async def test_a_batch_waits_for_a_ledger_process_that_comes(path: str) -> None:
    accounts = Accounts()
    async with worker(path) as ledger:
        asked = asyncio.create_task(ledger.account(batch()))
        await asyncio.sleep(0)
        async with serving(path, accounts):
            assert (await asked).fresh == [0]


async def test_without_a_ledger_process_nothing_is_stored_and_that_is_said(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_link, "_PATIENCE_S", 0.01)
    async with worker(path) as ledger:
        with pytest.raises(StateError, match="cannot be reached"):
            await ledger.account(batch())
        assert ledger.problem is not None


async def test_of_a_batch_that_was_sent_and_not_answered_nobody_knows(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_link, "_PATIENCE_S", 0.01)
    monkeypatch.setattr(ledger_link, "_ANSWER_S", 0.02)
    accounts = Accounts()
    async with serving(path, accounts), worker(path) as ledger:
        await ledger.account(batch("connected"))
        accounts.gate.clear()
        with pytest.raises(UnansweredError):
            await ledger.account(batch())
        accounts.gate.set()
        assert (await ledger.account(batch())).replays == 1


@pytest.mark.parametrize(
    ("error", "raised"), [(StateError("no space left"), StateError), (ZeroDivisionError(), RuntimeError)]
)
async def test_what_the_ledger_says_is_said_in_the_worker(path: str, error: Exception, raised: type[Exception]) -> None:
    async with serving(path, Accounts(error=error)), worker(path) as ledger:
        with pytest.raises(raised):
            await ledger.account(batch())


async def test_workers_know_the_traces_of_each_other(path: str) -> None:
    """Plain spans of a trace matter as links once it has GenAI spans, whichever worker read those."""
    known = AnnouncedTraces(lambda _: None)
    other = RemoteLedger(path, lambda: {"listening": {}, "metrics": []}, known.add)
    async with serving(path, Accounts()), worker(path) as ledger:
        await other.start()
        await other.account(batch("of the other"))
        await ledger.account(batch("a"))
        async with asyncio.timeout(30):
            assert await known.take() == [b"trace-a" + TENANT]
        assert not len(known)
        await other.close()


async def test_workers_know_a_trace_of_another_once_it_is_accounted_for(path: str) -> None:
    """Its plain spans may be accounted for before a part of a large request, which waits for others."""
    known, accounts = AnnouncedTraces(lambda _: None), Accounts()
    other = RemoteLedger(path, lambda: {"listening": {}, "metrics": []}, known.add)
    async with serving(path, accounts), worker(path) as ledger, asyncio.timeout(30):
        await other.start()
        await other.account(batch("of the other"))
        await accounts.entered.get()
        accounts.gate.clear()
        asked = asyncio.create_task(ledger.account(batch("a")))
        await accounts.entered.get()
        await other.count(b"")  # answered behind what came before
        assert not len(known)
        accounts.gate.set()
        await asked
        assert await known.take() == [b"trace-a" + TENANT]
        await other.close()


async def test_traces_of_usual_calls_are_announced_without_making_their_calls(path: str) -> None:
    """To make each was near half of the ledger process's work."""
    known, facts = AnnouncedTraces(lambda _: None), usual_calls()
    other = RemoteLedger(path, lambda: {"listening": {}, "metrics": []}, known.add)
    async with serving(path, Accounts()) as server:
        await other.start()
        await other.account(batch())
        server._announce_traces(cast("Any", None), Batch(TENANT, facts, 10**18))
        async with asyncio.timeout(30):
            assert await known.take() == [facts[0].trace_id + TENANT]
        await other.close()
    assert not any(hasattr(fact, "_call") for fact in facts)


async def test_traces_of_others_wait_once_each_and_within_a_bound() -> None:
    """A slow ledger keeps a worker from looking for their plain spans for as long as others send."""
    unlinked: list[int] = []
    traces = AnnouncedTraces(unlinked.append)
    for number in range(KNOWN_TRACES + 100):
        traces.add([b"again", number.to_bytes(16, "big")])
        assert len(traces) <= KNOWN_TRACES
    assert sum(unlinked) == 101
    *before, last = [number.to_bytes(16, "big") for number in range(101, KNOWN_TRACES + 100)]
    assert await traces.take() == [*before, b"again", last]
    traces.add([b"next"])
    assert await traces.take() == [b"next"]


async def test_what_waits_for_a_worker_that_does_not_read_is_bounded(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """One that hangs is killed after half a minute; so long the others go on, and each of their traces was kept."""
    monkeypatch.setattr(ledger_link, "_UNSENT_BYTES", 1 << 16)
    unlinked, waiting = list[int](), list[int]()
    server = LedgerServer(path, Accounts(), lambda _: None, unlinked=unlinked.append)
    await server.start()
    _, hanging = await asyncio.open_unix_connection(path)
    async with worker(path) as ledger:
        await ledger.account(batch())
        for number in range(200):
            facts = [
                replace(batch().facts[0], trace_id=number.to_bytes(2, "big") + bytes([one] * 4000)) for one in range(9)
            ]
            server._announce_traces(next(reversed(server._workers)), Batch(TENANT, facts, 10**18))
            waiting.append(max(one.writer.transport.get_write_buffer_size() for one in server._workers))
    assert unlinked
    assert max(waiting) < (1 << 16) + 40_000
    hanging.close()
    await server.close()


async def test_a_worker_that_connects_is_told_the_traces_that_had_genai_spans_before(path: str) -> None:
    """Those that were stored before the ledger process began, and those that other workers saw: the latest."""
    known = AnnouncedTraces(lambda _: None)
    server = LedgerServer(path, Accounts(), lambda _: None, traces=[b"stored"])
    await server.start()
    async with worker(path) as ledger:
        await ledger.account(batch("a"))
        late = RemoteLedger(path, lambda: {"listening": {}, "metrics": []}, known.add)
        await late.start()
        async with asyncio.timeout(30):
            assert await known.take() == [b"stored", b"trace-a" + TENANT]
        await late.close()
    await server.close()


async def test_a_worker_that_goes_leaves_what_it_last_said(path: str) -> None:
    gone: list[Status] = []
    async with serving(path, Accounts(), gone) as server:
        async with worker(path) as ledger:
            await ledger.account(batch())
            assert [status["listening"] for status in server.statuses] == [{"grpc": True}]
        async with asyncio.timeout(30):
            while not gone:  # noqa: ASYNC110 - the server is about to notice
                await asyncio.sleep(0)
        assert server.statuses == []
    assert gone == [{"listening": {"grpc": True}, "metrics": []}]
