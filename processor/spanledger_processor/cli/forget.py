"""`spanledger forget`: take the names of a session, a user or a tenant out of the ledger."""

from __future__ import annotations

import secrets

import click

from spanledger_processor.cli.options import FAILED, ConfigFiles, as_json, configuration, configured, fail, tenant
from spanledger_processor.cli.reading import must_exist
from spanledger_processor.cli.show import show_json
from spanledger_processor.config import Config
from spanledger_processor.dialects.content_classes import names_user
from spanledger_processor.ledger.keys import bounded_id
from spanledger_processor.ledger.store import StateError, StateLockedError, tenant_hash
from spanledger_processor.server.wiring import open_store

_ANONYMOUS = "forgotten-"


@click.command()
@click.argument("what", type=click.Choice(("session", "user", "tenant")))
@click.argument("name")
@configuration
@tenant
@as_json
def forget(what: str, name: str, path: ConfigFiles, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """Take the name of a session or user out of the ledger, or every name of a tenant's.

    What they spent stays under a name that says nothing, so all sums are as before. Stop `serve` first. What exporters,
    queues and dead letters hold, and the state of the sidecar, is not touched.
    """
    config = configured(path, sets)
    must_exist(config)
    try:
        records = _forget(config, what, name, tenant)
    except StateLockedError as error:
        fail(f"{error}\nStop `spanledger serve` for as long as this takes", FAILED)
    except StateError as error:
        fail(str(error), FAILED)
    if not records:
        fail(f"the ledger has no {what} {name!r}", FAILED)
    if as_json:
        show_json({"what": what, "name": name, "records": records})
    else:
        click.echo(f"{what} {name} is forgotten; its sums stay under a name that says nothing ({records} records)")


def _forget(config: Config, what: str, name: str, tenant: str) -> int:
    """Return how many records changed."""
    store = open_store(config)
    try:
        whose = tenant_hash(name if what == "tenant" else tenant)
        names = store.names(whose)
        wanted = names if what == "tenant" else {bounded_id(name)}
        renamed = {one: _ANONYMOUS + secrets.token_hex(8) for one in wanted if not one.startswith(_ANONYMOUS)}
        dimensions = config.processor.dimensions
        users = {one for one, keys in dimensions.items() if one == "user" or any(map(names_user, keys))}
        records = store.rename(whose, renamed, (lambda one: one in users) if what == "user" else lambda _: True)
    except BaseException:
        store.close()
        raise
    store.close_rewritten()
    return records
