"""What was sent too much stands in the ledger of its tenant, and in one sum over all of them."""

from __future__ import annotations

from ledger_in_memory import NOW, make_fact
from spanledger_processor.accounting.account import account
from spanledger_processor.accounting.facts import Batch
from spanledger_processor.ledger.keys import EVERY_TENANT
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.queries import late_correction
from spanledger_processor.ledger.store import tenant_hash


def test_the_correction_of_the_process_is_the_sum_of_its_tenants() -> None:
    store = MemoryStore()
    for tenant, cost in (("a", 70), ("b", 90)):
        for fact in (make_fact("agent", kind="agent", cost=cost), make_fact("c", "agent", "llm", 30)):
            with store.unit() as unit:
                unit.apply(account(Batch(tenant_hash(tenant), [fact], NOW), unit).changes, NOW)
    with store.snapshot() as reader:
        assert [late_correction(reader, tenant_hash(tenant)) for tenant in ("a", "b")] == [40, 60]
        assert late_correction(reader, EVERY_TENANT) == 100
