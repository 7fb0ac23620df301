"""`spanledger close ID`: mark a session as ended."""

from __future__ import annotations

import time

import click

from spanledger_processor.cli.asking import Instance, Where, asks, local_instance, must_exist
from spanledger_processor.cli.options import FAILED, as_json, described, fail
from spanledger_processor.cli.show import plain, show_json
from spanledger_processor.config import Config
from spanledger_processor.ledger.store import StateError, StateLockedError, tenant_hash
from spanledger_processor.server.http_api import close_session
from spanledger_processor.server.wiring import open_store


@click.command()
@click.argument("session_id", metavar="ID")
@asks
@as_json
def close(session_id: str, where: Where, *, as_json: bool) -> None:
    """Mark a session as ended. Spans of it that come later still count.

    While `serve` runs, it is asked to do so at its api.endpoint; otherwise the ledger is changed on disk.
    """
    if where.remote is None:
        config = where.config()
        name = f"the ledger in {config.state.path} ({described(where.path)})"
        must_exist(config, name)
        closed = _local(config, where.tenant, session_id)
    else:
        with where.open() as source:
            assert isinstance(source, Instance)
            name, closed = source.name, source.close_session(session_id)
    if not closed:
        fail(f"no session {session_id!r} in {name}; `spanledger sessions` lists those there are", FAILED)
    if as_json:
        show_json({"id": session_id, "closed": True})
    else:
        click.echo(f"session {plain(session_id)} is marked as ended")


def _local(config: Config, tenant: str, session_id: str) -> bool:
    try:
        store = open_store(config)
    except StateLockedError as locked:
        instance = local_instance(config, tenant)
        if instance is None:
            fail(f"{locked}\nIts API is on a free port that its log names: --set api.endpoint=127.0.0.1:PORT", FAILED)
        with instance:
            return instance.close_session(session_id)
    except StateError as error:
        fail(str(error), FAILED)
    try:
        with store.unit() as unit:
            return close_session(tenant_hash(tenant), session_id, time.time_ns(), unit)
    except StateError as error:
        fail(str(error), FAILED)
    finally:
        store.close()
