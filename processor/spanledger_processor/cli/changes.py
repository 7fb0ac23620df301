"""The commands that change the ledger: `close` marks sessions as ended, `forget` takes names out."""

from __future__ import annotations

import secrets
import time

import click

from spanledger_processor.cli.asking import Instance, Target, asks, local_instance, must_exist
from spanledger_processor.cli.options import FAILED, WRONG_USAGE, as_json, described, fail
from spanledger_processor.cli.show import CUT, counted, show_json
from spanledger_processor.cli.tables import plain
from spanledger_processor.config import Config
from spanledger_processor.dialects.content import names_user
from spanledger_processor.ledger.keys import bounded_id
from spanledger_processor.ledger.store import StateError, StateLockedError, tenant_hash
from spanledger_processor.server.http_api import close_instance, close_session
from spanledger_processor.server.wiring import open_store

_ANONYMOUS = "forgotten-"


@click.command()
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("--instance", metavar="ID", help="All sessions of the process with this service.instance.id.")
@asks
@as_json
def close(session_id: str | None, instance: str | None, target: Target, *, as_json: bool) -> None:
    """Mark a session as ended. Spans of it that come later still count.

    While `serve` runs, it is asked to do so at its api.endpoint; otherwise the ledger is changed on disk.
    """
    if (session_id is None) == (instance is None):
        raise click.UsageError("give one of them: the ID of a session, or --instance ID")
    what, name_of = ("session", session_id) if instance is None else ("instance", instance)
    assert name_of is not None
    if target.remote is None:
        config = target.config()
        name = f"the ledger in {config.state.path} ({described(target.path)})"
        must_exist(config, name)
        closed = _close_on_disk(config, target.tenant, what, name_of)
    else:
        with target.open() as source:
            assert isinstance(source, Instance)
            name, closed = source.name, source.close(what, name_of)
    if not closed:
        cut = ", `--whole` with ids that are not cut" if CUT in name_of else ""
        fail(f"no {what} {name_of!r} in {name}; `spanledger sessions` lists the sessions there are{cut}", FAILED)
    if as_json:
        show_json({"id": name_of, "closed": True if instance is None else closed})
    elif instance is None:
        click.echo(f"session {plain(name_of)} is marked as ended")
    else:
        click.echo(f"{counted(closed, 'session')} of instance {plain(name_of)} marked as ended")


def _close_on_disk(config: Config, tenant: str, what: str, name: str) -> int:
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


@click.command()
@click.argument("what", type=click.Choice(("session", "user", "tenant")))
@click.argument("name")
@asks
@as_json
def forget(what: str, name: str, target: Target, *, as_json: bool) -> None:
    """Take the name of a session or user out of the ledger, or every name of a tenant's.

    What they spent stays under a name that says nothing, so all sums are as before. Stop `serve` first. What exporters,
    queues and dead letters hold, and the state of the sidecar, is not touched.
    """
    if target.remote is not None:
        fail("forget works on the disk of the ledger: run it where that is, with serve stopped", WRONG_USAGE)
    config = target.config()
    ledger = f"the ledger in {config.state.path} ({described(target.path)})"
    must_exist(config, ledger)
    try:
        records = _forget(config, what, name, target.tenant)
    except StateLockedError as error:
        fail(f"{error}\nStop `spanledger serve` for as long as this takes", FAILED)
    except StateError as error:
        fail(str(error), FAILED)
    if not records:
        fail(f"no {what} {name!r} in {ledger}", FAILED)
    if as_json:
        show_json({"what": what, "name": name, "records": records})
    else:
        click.echo(
            f"{what} {plain(name)} is forgotten; its sums stay under a name that says nothing ({records} records)"
        )


def _forget(config: Config, what: str, name: str, tenant: str) -> int:
    """Return how many records changed."""
    store = open_store(config)
    try:
        owner = tenant_hash(name if what == "tenant" else tenant)
        names = store.names(owner)
        wanted = (names | {bounded_id(name)} if what == "tenant" else {bounded_id(name)}) - {""}
        renamed = {one: _ANONYMOUS + secrets.token_hex(8) for one in wanted if not one.startswith(_ANONYMOUS)}
        dimensions = config.processor.dimensions
        users = {one for one, keys in dimensions.items() if one == "user" or any(map(names_user, keys))}
        records = store.rename(owner, renamed, (lambda one: one in users) if what == "user" else lambda _: True)
    except BaseException:
        store.close()
        raise
    store.close_rewritten()
    return records
