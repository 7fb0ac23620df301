"""A ledger in memory and short ways to make facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from hypothesis import strategies as st

from spanledger_processor.accounting.account import account
from spanledger_processor.accounting.cross_trace_index import CallFilter
from spanledger_processor.accounting.facts import Batch, Fact, LoopRule
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.trace_state import Memory, TraceCache
from spanledger_processor.ledger.keys import corrections_key, total_key
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.runs import all_runs
from spanledger_processor.ledger.store import Key, Table, tenant_hash
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import Call, Cost, Decision, Usage

MakeFact: TypeAlias = Callable[..., Fact]
"""`make_fact`, as the fixture of its name hands it out."""

TENANT = tenant_hash("")
NOW = 1_795_000_000_000_000_000


@dataclass
class MemoryLedger:
    """Accounting over the store in memory, and the questions that tests ask of a ledger."""

    store: MemoryStore = field(default_factory=MemoryStore)
    sent: int = 0
    aliases: tuple[str, ...] = ()
    loop: LoopRule = field(default_factory=LoopRule)
    replays: int = 0
    conflicts: int = 0
    _memory: Memory = field(default_factory=lambda: Memory(CallFilter(), TraceCache(long=1)))

    def take(self, facts: Iterable[Fact]) -> list[Decision]:
        """Account for one request; what its spans were sent on with is added to `sent`, replays excluded."""
        batch = Batch(TENANT, list(facts), NOW, self.loop, self.aliases)
        with self.store.unit() as unit:
            ruling = account(batch, unit)
            assert account(batch, unit, self._memory) == ruling, "what is kept in memory changes nothing"
            unit.apply(ruling.changes, NOW)
        self.replays += ruling.replays
        self.conflicts += ruling.conflicts
        for index in ruling.fresh:
            cost = ruling.decisions[index].cost
            if cost is not None and cost.amount is not None:
                self.sent += cost.amount
        return [ruling.decisions[i] for i in range(len(batch.facts)) if i in ruling.decisions]

    @property
    def records(self) -> dict[Key, bytes]:
        """Everything stored."""
        with self.store.snapshot() as reader:
            return {where: record for table in Table for where, record in reader.scan(table, TENANT)}

    def table(self, table: Table) -> dict[str, Sums]:
        """All totals of a table by id (label), the unattributed one under the empty id."""
        with self.store.snapshot() as reader:
            if table == Table.RUN:
                return all_runs(reader, TENANT)
            totals = [Sums.unpack(record) for _, record in reader.scan(table, TENANT)]
        return {sums.labels.get("id", "/".join(sums.labels.values())): sums for sums in totals}

    @property
    def total(self) -> Sums:
        """The whole ledger."""
        return self._sums(total_key(TENANT))

    @property
    def correction(self) -> int:
        """What was sent on spans beyond the ledger."""
        return self._sums(corrections_key(TENANT)).cost

    def _sums(self, key: Key) -> Sums:
        with self.store.snapshot() as reader:
            record = reader.get(key)
        return Sums.unpack(record) if record else Sums()


def make_fact(
    span_id: str,
    parent: str = "",
    kind: str = "",
    cost: int | None = None,
    *,
    trace: str = "t1",
    session: str = "",
    run: str = "",
    start: int = 0,
    length: int = 10,
    **more: object,
) -> Fact:
    """A fact: plain without `kind`; with `cost` (1e-12 USD) it has usage: as many input tokens, and 100 output."""
    fact = Fact(trace.encode(), span_id.encode(), parent.encode(), NOW + start, NOW + start + length)
    fact.session = Named(session, "attribute" if session else "")
    fact.run = Named(run, "attribute" if run else "")
    fact.scope = str(more.pop("scope", "library"))
    fact.session_parent_id = str(more.pop("parent_session", ""))
    if kind:
        fact.call = Call("otel", kind, provider="openai", request_model=str(more.pop("model", "gpt")), **more)  # type: ignore[arg-type]
    if kind and cost is not None:
        fact.call.usage = Usage(input=cost, output=100)  # type: ignore[union-attr]
        fact.cost = Cost(amount=cost, source="computed", computed=cost, input=cost, price="p")
        fact.digest = str(cost).encode()
    return fact


def take_in_any_order(ledger: MemoryLedger, facts: list[Fact], data: st.DataObject) -> None:
    """Take facts in an order, in batches and with repeats that are drawn; what is kept in memory is lost in between."""
    order = data.draw(st.permutations(range(len(facts))))
    cuts = data.draw(st.sets(st.integers(0, len(facts))))
    batch: list[Fact] = []
    for place, index in enumerate([*order, *data.draw(st.lists(st.sampled_from(order), max_size=4))]):
        batch.append(facts[index])
        if place in cuts:
            ledger.take(batch)
            ledger.store.cache.clear()
            batch = []
    ledger.take(batch)
