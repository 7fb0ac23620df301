"""The ledger on disk, as a configuration says."""

from __future__ import annotations

from spanledger_processor.config import Config
from spanledger_processor.ledger.lmdb_store import LmdbStore


def open_store(config: Config, *, read_only: bool = False) -> LmdbStore:
    """The store of the configured state folder; read-only, it works beside the process that writes.

    Raises:
        StateLockedError: another process writes to it.
        StateError: it cannot be opened.
    """
    state = config.state
    return LmdbStore.open(
        state.path,
        max_size_mib=state.max_size_mib,
        durability=state.durability,
        retention_ns=round(state.retention.spans * 1e9),
        sessions_retention_ns=round(state.retention.sessions * 1e9),
        read_only=read_only,
    )
