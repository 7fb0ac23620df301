"""`spanledger forget`: take the names of a session, a user or a tenant out of the ledger."""

from __future__ import annotations

import secrets

import click

from spanledger_processor.cli.asking import Where, asks, must_exist
from spanledger_processor.cli.options import FAILED, WRONG_USAGE, as_json, described, fail
from spanledger_processor.cli.show import plain, show_json
from spanledger_processor.config import Config
from spanledger_processor.dialects.content import names_user
from spanledger_processor.ledger.keys import bounded_id
from spanledger_processor.ledger.store import StateError, StateLockedError, tenant_hash
from spanledger_processor.server.wiring import open_store

_ANONYMOUS = "forgotten-"


@click.command()
@click.argument("what", type=click.Choice(("session", "user", "tenant")))
@click.argument("name")
@asks
@as_json
def forget(what: str, name: str, where: Where, *, as_json: bool) -> None:
    """Take the name of a session or user out of the ledger, or every name of a tenant's.

    What they spent stays under a name that says nothing, so all sums are as before. Stop `serve` first. What exporters,
    queues and dead letters hold, and the state of the sidecar, is not touched.
    """
    if where.remote is not None:
        fail("forget works on the disk of the ledger: run it where that is, with serve stopped", WRONG_USAGE)
    config = where.config()
    ledger = f"the ledger in {config.state.path} ({described(where.path)})"
    must_exist(config, ledger)
    try:
        records = _forget(config, what, name, where.tenant)
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
