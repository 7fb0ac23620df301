"""The commands that read the ledger, while `serve` runs or after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from spanledger_processor.cli import show
from spanledger_processor.cli.opening import ledger
from spanledger_processor.cli.options import FAILED, as_json, configuration, configured, fail, tenant
from spanledger_processor.cli.since import SINCE
from spanledger_processor.config import Config
from spanledger_processor.ledger import queries as questions
from spanledger_processor.ledger.rows import Row, date_of
from spanledger_processor.ledger.store import Reader

_SHOWN = 100
"""Rows of a list on a terminal where --limit says nothing."""


def _reading(command: Callable[..., Any]) -> Callable[..., Any]:
    return configuration(tenant(as_json(command)))


_limit = click.option(
    "--limit", type=click.IntRange(1), metavar="N", help=f"Rows at most; {_SHOWN}, with --json all, if not given."
)

_LISTS = {"session": questions.sessions, "run": questions.runs}
_ONE = {"session": questions.session, "run": questions.run}


@click.command()
@_limit
@_reading
def sessions(path: Path | None, sets: tuple[str, ...], tenant: str, limit: int | None, *, as_json: bool) -> None:
    """List all sessions, the one last active first: cost, calls, tokens, models."""
    _list("session", configured(path, sets), tenant, limit, as_json=as_json)


@click.command()
@_limit
@_reading
def runs(path: Path | None, sets: tuple[str, ...], tenant: str, limit: int | None, *, as_json: bool) -> None:
    """List all runs, the one last active first: cost, calls, tokens, models."""
    _list("run", configured(path, sets), tenant, limit, as_json=as_json)


@click.command()
@click.argument("session_id", metavar="ID")
@_reading
def session(session_id: str, path: Path | None, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """Show one session by model and task."""
    _one("session", session_id, configured(path, sets), tenant, as_json=as_json)


@click.command()
@click.argument("run_id", metavar="ID")
@_reading
def run(run_id: str, path: Path | None, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """Show one run by model."""
    _one("run", run_id, configured(path, sets), tenant, as_json=as_json)


@click.command()
@click.option("--session", "session_id", metavar="ID", help="Of one session only: its tasks and models.")
@click.option("--run", "run_id", metavar="ID", help="Of one run only.")
@click.option("--since", type=SINCE, help="From a UTC day on: 2026-01-31, today, yesterday, or 7d for the last 7 days.")
@_reading
def summary(
    session_id: str | None,
    run_id: str | None,
    since: int | None,
    path: Path | None,
    sets: tuple[str, ...],
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Sum up the ledger: the total, by model, and what could not be priced. With --since also by day."""
    if sum(given is not None for given in (session_id, run_id, since)) > 1:
        raise click.UsageError("give one of --session, --run and --since")
    config = configured(path, sets)
    if session_id is not None:
        _one("session", session_id, config, tenant, as_json=as_json)
    elif run_id is not None:
        _one("run", run_id, config, tenant, as_json=as_json)
    else:
        _whole(config, tenant, since, as_json=as_json)


def _list(what: str, config: Config, tenant: str, limit: int | None, *, as_json: bool) -> None:
    with ledger(config, tenant) as (reader, whose):
        rows = _LISTS[what](reader, whose)
    if as_json:
        show.show_json(rows[:limit])
        return
    if not rows:
        click.echo(f"No {what}s yet: nothing has been counted in this ledger.")
        return
    shown = rows[: limit or _SHOWN]
    show.tell(show.counted(len(rows), what), [show.named(what), *show.TOTALS], shown)
    if len(shown) < len(rows):
        click.echo(f"{len(rows) - len(shown):,} more: --limit {len(rows)} shows all, and so does --json.")


def _one(what: str, name: str, config: Config, tenant: str, *, as_json: bool) -> None:
    with ledger(config, tenant) as (reader, whose):
        found = _ONE[what](reader, whose, name)
    if found is None:
        fail(f"no {what} {name!r} in this ledger; `spanledger {what}s` lists those there are", FAILED)
    if as_json:
        show.show_json(found)
        return
    show.tell(f"{what} {name or show.NONE}", show.TOTALS, [found])
    if found.get("parent_id"):
        click.echo(f"spawned by session {found['parent_id']}")
    if found.get("by_task"):
        show.tell("per task", show.BY_TASK, found["by_task"])
        show.tell("per model", show.BY_MODEL, found["by_model"])
    elif len(found["models"]) > 1:
        show.tell("by model", show.MODEL_COST, found["models"])


def _whole(config: Config, tenant: str, since: int | None, *, as_json: bool) -> None:
    with ledger(config, tenant) as (reader, whose):
        answer = _all(reader, whose) if since is None else _since(reader, whose, since)
    if as_json:
        show.show_json(answer)
        return
    total, first = answer["total"], answer.get("since")
    if not total["calls"]:
        click.echo(f"Nothing was spent since {first} (UTC)." if first else "Nothing has been counted in this ledger.")
        return
    columns = show.SPEND if first else [column for column in show.TOTALS if column[0] != "models"]
    show.tell(f"since {first} (UTC)" if first else "the whole ledger", columns, [total])
    if correction := total.get("late_correction_usd"):
        sent = f"{show.money(abs(correction))} {'more' if correction > 0 else 'less'}"
        click.echo(f"The spans were sent with {sent} than that in sum: what came later proved some of them repeats.")
    if first:
        show.tell("by day", show.DAY, answer["days"])
    show.tell("by model", show.BY_MODEL, answer["models"])


def _all(reader: Reader, whose: bytes) -> Row:
    return {"total": questions.total(reader, whose), "models": questions.models(reader, whose)}


def _since(reader: Reader, whose: bytes, since: int) -> Row:
    return {
        "since": date_of(since),
        "total": questions.spent(reader, whose, since),
        "days": questions.days(reader, whose, since),
        "models": questions.models(reader, whose, since),
    }
