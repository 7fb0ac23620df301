"""`spanledger close`: mark a session, or all sessions of a process, as ended."""

from __future__ import annotations

import time

import click

from spanledger_processor.cli.asking import Instance, Where, asks, local_instance, must_exist
from spanledger_processor.cli.options import FAILED, as_json, described, fail
from spanledger_processor.cli.show import counted, plain, show_json
from spanledger_processor.config import Config
from spanledger_processor.ledger.store import StateError, StateLockedError, tenant_hash
from spanledger_processor.server.http_api import close_instance, close_session
from spanledger_processor.server.wiring import open_store


@click.command()
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("--instance", metavar="ID", help="All sessions of the process with this service.instance.id.")
@asks
@as_json
def close(session_id: str | None, instance: str | None, where: Where, *, as_json: bool) -> None:
    """Mark a session as ended. Spans of it that come later still count.

    While `serve` runs, it is asked to do so at its api.endpoint; otherwise the ledger is changed on disk.
    """
    if (session_id is None) == (instance is None):
        raise click.UsageError("give the ID of a session, or --instance")
    what, name_of = ("session", session_id) if instance is None else ("instance", instance)
    assert name_of is not None
    if where.remote is None:
        config = where.config()
        name = f"the ledger in {config.state.path} ({described(where.path)})"
        must_exist(config, name)
        closed = _local(config, where.tenant, what, name_of)
    else:
        with where.open() as source:
            assert isinstance(source, Instance)
            name, closed = source.name, source.close(what, name_of)
    if not closed:
        fail(f"no {what} {name_of!r} in {name}; `spanledger sessions` lists the sessions there are", FAILED)
    if as_json:
        show_json({"id": name_of, "closed": True if instance is None else closed})
    elif instance is None:
        click.echo(f"session {plain(name_of)} is marked as ended")
    else:
        click.echo(f"{counted(closed, 'session')} of instance {plain(name_of)} marked as ended")


def _local(config: Config, tenant: str, what: str, name: str) -> int:
    try:
        store = open_store(config)
    except StateLockedError as locked:
        instance = local_instance(config, tenant)
        if instance is None:
            fail(f"{locked}\nIts API is on a free port that its log names: --set api.endpoint=127.0.0.1:PORT", FAILED)
        with instance:
            return instance.close(what, name)
    except StateError as error:
        fail(str(error), FAILED)
    work = close_session if what == "session" else close_instance
    try:
        with store.unit() as unit:
            return int(work(tenant_hash(tenant), name, time.time_ns(), unit))
    except StateError as error:
        fail(str(error), FAILED)
    finally:
        store.close()
