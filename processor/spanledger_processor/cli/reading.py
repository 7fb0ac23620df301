"""The commands that read the ledger, while `serve` runs or after."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from spanledger_processor.cli import show
from spanledger_processor.cli.options import FAILED, ConfigFiles, as_json, configuration, configured, fail, tenant
from spanledger_processor.config import Config
from spanledger_processor.ledger import dimensions, queries
from spanledger_processor.ledger.rows import Row, date_of, note
from spanledger_processor.ledger.store import Reader, StateError, tenant_hash
from spanledger_processor.server.wiring import open_store

_DAY_NS = 86_400 * 10**9
_BACK = re.compile(r"([0-9]{1,6})d", re.ASCII)
_WORDS = {"today": 0, "yesterday": 1}


class Since(click.ParamType[int]):
    """2026-01-31, today, yesterday, or 7d: the last 7 days, today included. Gives days since 1970."""

    name = "day"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        today = time.time_ns() // _DAY_NS
        if value in _WORDS:
            return today - _WORDS[value]
        if (back := _BACK.fullmatch(value)) and int(back[1]) > 0:
            return max(0, today - int(back[1]) + 1)
        try:
            return int(datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) // 86_400
        except ValueError:
            self.fail("write a day such as 2026-01-31, today, yesterday, or 7d for the last 7 days", param, ctx)


SINCE = Since()


_SHOWN = 100
"""Rows of a list on a terminal where --limit says nothing."""


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


def _reading(command: Callable[..., Any]) -> Callable[..., Any]:
    return configuration(tenant(as_json(command)))


_limit = click.option(
    "--limit", type=click.IntRange(1), metavar="N", help=f"Rows at most; {_SHOWN}, with --json all, if not given."
)

_LISTS = {"session": queries.sessions, "run": queries.runs}
_ONE = {"session": queries.session, "run": queries.run}


@click.command()
@_limit
@_reading
def sessions(path: ConfigFiles, sets: tuple[str, ...], tenant: str, limit: int | None, *, as_json: bool) -> None:
    """List all sessions, the one last active first: cost, calls, tokens, models."""
    _list("session", configured(path, sets), tenant, limit, as_json=as_json)


@click.command()
@_limit
@_reading
def runs(path: ConfigFiles, sets: tuple[str, ...], tenant: str, limit: int | None, *, as_json: bool) -> None:
    """List all runs, the one last active first: cost, calls, tokens, models."""
    _list("run", configured(path, sets), tenant, limit, as_json=as_json)


@click.command()
@click.argument("session_id", metavar="ID")
@_reading
def session(session_id: str, path: ConfigFiles, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """Show one session by model and task."""
    _one("session", session_id, configured(path, sets), tenant, as_json=as_json)


@click.command()
@click.argument("run_id", metavar="ID")
@_reading
def run(run_id: str, path: ConfigFiles, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """Show one run by model."""
    _one("run", run_id, configured(path, sets), tenant, as_json=as_json)


@click.command()
@click.option("--session", "session_id", metavar="ID", help="Of one session only: its tasks and models.")
@click.option("--run", "run_id", metavar="ID", help="Of one run only.")
@click.option("--since", type=SINCE, help="From a UTC day on: 2026-01-31, today, yesterday, or 7d for the last 7 days.")
@click.option(
    "--by",
    "dimension",
    metavar="DIMENSION",
    help="By the values of a dimension: agent, model, provider, or one of processor.dimensions (service, project, "
    "user).",
)
@_reading
def summary(
    session_id: str | None,
    run_id: str | None,
    since: int | None,
    dimension: str | None,
    path: ConfigFiles,
    sets: tuple[str, ...],
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Sum up the ledger: the total, by model, and what could not be priced. With --since also by day."""
    if sum(given is not None for given in (session_id, run_id, since)) > 1:
        raise click.UsageError("give one of --session, --run and --since")
    if dimension is not None and (session_id is not None or run_id is not None):
        raise click.UsageError("--by goes with --since, not with --session or --run")
    config = configured(path, sets)
    if dimension is not None:
        _by_dimension(config, tenant, dimension, since or 0, as_json=as_json)
        return
    if session_id is not None:
        _one("session", session_id, config, tenant, as_json=as_json)
    elif run_id is not None:
        _one("run", run_id, config, tenant, as_json=as_json)
    else:
        _whole(config, tenant, since, as_json=as_json)


def _list(what: str, config: Config, tenant: str, limit: int | None, *, as_json: bool) -> None:
    with ledger(config, tenant) as (reader, tenant_key):
        rows = _LISTS[what](reader, tenant_key)
    if as_json:
        show.show_json(rows[:limit])
        return
    if not rows:
        click.echo(f"No {what}s yet: nothing has been counted in this ledger.")
        return
    shown = rows[: limit or _SHOWN]
    show.print_table(show.counted(len(rows), what), [show.named(what), *show.described(shown), *show.TOTALS], shown)
    _print_note(shown)
    if len(shown) < len(rows):
        click.echo(f"{len(rows) - len(shown):,} more: --limit {len(rows)} shows all, and so does --json.")


def _one(what: str, name: str, config: Config, tenant: str, *, as_json: bool) -> None:
    with ledger(config, tenant) as (reader, tenant_key):
        found = _ONE[what](reader, tenant_key, name)
    if found is None:
        fail(f"no {what} {name!r} in this ledger; `spanledger {what}s` lists those there are", FAILED)
    if as_json:
        show.show_json(found)
        return
    show.print_table(f"{what} {name or show.NONE}", [*show.described([found]), *show.TOTALS], [found])
    _print_note([found])
    if found.get("parent_id"):
        click.echo(f"spawned by session {found['parent_id']}")
    if found.get("by_task"):
        show.print_table("per task", show.BY_TASK, found["by_task"])
        show.print_table("per model", show.BY_MODEL, found["by_model"])
    elif len(found["models"]) > 1:
        show.print_table("by model", show.MODEL_COST, found["models"])


def _print_note(rows: Sequence[Row]) -> None:
    """Print what should be known of spans that are no single model calls."""
    if found := note({name: 1 for row in rows for name in row["granularities"]}):
        click.echo(f"Note: {found}.")


def _whole(config: Config, tenant: str, since: int | None, *, as_json: bool) -> None:
    with ledger(config, tenant) as (reader, tenant_key):
        answer = _all(reader, tenant_key) if since is None else _since(reader, tenant_key, since)
    if as_json:
        show.show_json(answer)
        return
    total, first = answer["total"], answer.get("since")
    if not total["calls"]:
        click.echo(f"Nothing was spent since {first} (UTC)." if first else "Nothing has been counted in this ledger.")
        return
    columns = show.SPEND if first else [column for column in show.TOTALS if column[0] != "models"]
    show.print_table(f"since {first} (UTC)" if first else "the whole ledger", columns, [total])
    _print_note([total])
    if correction := total.get("late_correction_usd"):
        sent = f"{show.money(abs(correction))} {'more' if correction > 0 else 'less'}"
        click.echo(f"The spans were sent with {sent} than that in sum: what came later proved some of them repeats.")
    if first:
        show.print_table("by day", show.DAY, answer["days"])
    show.print_table("by model", show.BY_MODEL, answer["models"])


def _by_dimension(config: Config, tenant: str, name: str, since: int, *, as_json: bool) -> None:
    known = sorted({*config.processor.dimensions, dimensions.AGENT, dimensions.MODEL, dimensions.PROVIDER})
    if name not in known:
        raise click.UsageError(f"no dimension {name!r} in this configuration; there are {', '.join(known)}")
    with ledger(config, tenant) as (reader, tenant_key):
        rows = dimensions.values(reader, tenant_key, name, since)
    first = date_of(since) if since else None
    if as_json:
        show.show_json({"dimension": name, **({"since": first} if first else {}), "values": rows})
        return
    if not rows:
        click.echo(f"Nothing was spent since {first} (UTC)." if first else "Nothing has been counted in this ledger.")
        return
    shown = rows[:_SHOWN]
    title = f"by {name} since {first} (UTC)" if first else f"by {name}"
    show.print_table(title, [show.valued(name), *show.BY_VALUE], shown)
    if len(shown) < len(rows):
        click.echo(f"{len(rows) - len(shown):,} more with --json.")


def _all(reader: Reader, tenant_key: bytes) -> Row:
    return {"total": queries.total(reader, tenant_key), "models": queries.models(reader, tenant_key)}


def _since(reader: Reader, tenant_key: bytes, since: int) -> Row:
    return {
        "since": date_of(since),
        "total": queries.Days(reader, tenant_key, since).total(),
        "days": queries.days(reader, tenant_key, since),
        "models": queries.models(reader, tenant_key, since),
    }
