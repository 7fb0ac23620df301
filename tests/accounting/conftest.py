"""Fixtures of the accounting tests."""

from __future__ import annotations

import pytest

from ledger_in_memory import MakeFact, MemoryLedger, make_fact


@pytest.fixture
def ledger() -> MemoryLedger:
    """An empty ledger."""
    return MemoryLedger()


@pytest.fixture
def fact() -> MakeFact:
    """How to make a fact."""
    return make_fact
