"""The ledger on disk, as commands open it beside a running `serve` or without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spanledger_processor.cli.options import FAILED, fail
from spanledger_processor.config import Config
from spanledger_processor.ledger.store import Reader, StateError, tenant_hash
from spanledger_processor.server.store import open_store


@contextmanager
def ledger(config: Config, tenant_name: str) -> Iterator[tuple[Reader, bytes]]:
    """One consistent view of the ledger, and the tenant's hash."""
    must_exist(config)
    try:
        store = open_store(config, read_only=True)
        try:
            with store.snapshot() as reader:
                yield reader, tenant_hash(tenant_name)
        finally:
            store.close()
    except StateError as error:
        fail(str(error), FAILED)


def must_exist(config: Config) -> None:
    """End the command if no ledger is there."""
    if not (config.state.path / "ledger").exists():
        fail(
            f"no ledger in {config.state.path} yet: `spanledger serve` makes one when it starts. "
            "For the ledger of another folder give its --config, or --set state.path=FOLDER",
            FAILED,
        )
