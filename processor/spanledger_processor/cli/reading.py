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
from spanledger_processor.reports import ledger as questions
from spanledger_processor.reports.rows import Row, date_of
from spanledger_processor.state.store import Reader

_SHOWN = 100
"""Rows of a list on a terminal where --limit says nothing."""


def _reading(command: Callable[..., Any]) -> Callable[..., Any]:
    return configuration(tenant(as_json(command)))


_limit = click.option("--limit", type=click.IntRange(1), help=f"Rows at most; {_SHOWN}, with --json all, if not given.")


@click.command()
@_limit
@_reading
def sessions(path: Path | None, sets: tuple[str, ...], tenant: str, limit: int | None, *, as_json: bool) -> None:
    """List all sessions, the one last active first: cost, calls, tokens, models."""
    with ledger(configured(path, sets), tenant) as (reader, whose):
        _list("session", questions.sessions(reader, whose), limit, as_json=as_json)


@click.command()
@_limit
@_reading
def runs(path: Path | None, sets: tuple[str, ...], tenant: str, limit: int | None, *, as_json: bool) -> None:
    """List all runs, the one last active first: cost, calls, tokens, models."""
    with ledger(configured(path, sets), tenant) as (reader, whose):
        _list("run", questions.runs(reader, whose), limit, as_json=as_json)


@click.command()
@click.argument("session_id", metavar="ID")
@_reading
def session(session_id: str, path: Path | None, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """Show one session by model and task."""
    with ledger(configured(path, sets), tenant) as (reader, whose):
        _session(reader, whose, session_id, as_json=as_json)


@click.command()
@click.argument("run_id", metavar="ID")
@_reading
def run(run_id: str, path: Path | None, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """Show one run by model."""
    with ledger(configured(path, sets), tenant) as (reader, whose):
        _run(reader, whose, run_id, as_json=as_json)


@click.command()
@click.option("--session", "session_id", help="Of one session only: its tasks and models.")
@click.option("--run", "run_id", help="Of one run only.")
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
    with ledger(configured(path, sets), tenant) as (reader, whose):
        if session_id is not None:
            _session(reader, whose, session_id, as_json=as_json)
        elif run_id is not None:
            _run(reader, whose, run_id, as_json=as_json)
        elif since is not None:
            _since(reader, whose, since, as_json=as_json)
        else:
            _whole(questions.total(reader, whose), questions.models(reader, whose), as_json=as_json)


def _list(what: str, rows: list[Row], limit: int | None, *, as_json: bool) -> None:
    if as_json:
        show.show_json(rows[:limit])
        return
    if not rows:
        click.echo(f"No {what}s yet: nothing has been counted in this ledger.")
        return
    shown = rows[: limit or _SHOWN]
    show.console().print(show.table(show.counted(len(rows), what), [show.named(what), *show.TOTALS], shown))
    if len(shown) < len(rows):
        click.echo(f"{len(rows) - len(shown):,} more: --limit {len(rows)} shows all, and so does --json.")


def _session(reader: Reader, whose: bytes, session_id: str, *, as_json: bool) -> None:
    _one("session", session_id, questions.session(reader, whose, session_id), as_json=as_json)


def _run(reader: Reader, whose: bytes, run_id: str, *, as_json: bool) -> None:
    _one("run", run_id, questions.run(reader, whose, run_id), as_json=as_json)


def _one(what: str, name: str, found: Row | None, *, as_json: bool) -> None:
    if found is None:
        fail(f"no {what} {name!r} in this ledger; `spanledger {what}s` lists those there are", FAILED)
    if as_json:
        show.show_json(found)
        return
    console = show.console()
    console.print(show.table(f"{what} {name or show.NONE}", show.TOTALS, [found]))
    if found.get("parent_id"):
        console.print(f"spawned by session {found['parent_id']}")
    if len(found["models"]) > 1:
        console.print(show.table("by model", show.MODEL_COST, found["models"]))
    if found.get("tasks"):
        kind: show.Column = ("kind", lambda row: row["kind"] or "-", False)
        console.print(show.table("by task", [show.named("task"), kind, *show.TOTALS], found["tasks"]))


def _whole(total: Row, models: list[Row], *, as_json: bool) -> None:
    if as_json:
        show.show_json({"total": total, "models": models})
        return
    if not total["spans"]:
        click.echo("Nothing has been counted in this ledger yet.")
        return
    console = show.console()
    console.print(show.table("the whole ledger", show.TOTALS, [total]))
    if total["late_correction_usd"]:
        sent = show.money(total["late_correction_usd"])
        console.print(f"Spans were sent with {sent} more than that, before later ones proved them repeats.")
    console.print(show.table("by model", [*show.MODEL, *show.SPEND], models))


def _since(reader: Reader, whose: bytes, since: int, *, as_json: bool) -> None:
    first, total = date_of(since), questions.spent(reader, whose, since)
    days, models = questions.days(reader, whose, since), questions.models(reader, whose, since)
    if as_json:
        show.show_json({"since": first, "total": total, "days": days, "models": models})
        return
    if not days:
        click.echo(f"Nothing was spent since {first} (UTC).")
        return
    console = show.console()
    console.print(show.table(f"since {first} (UTC)", show.SPEND, [total]))
    console.print(show.table("by day", [("day", lambda row: row["day"] or "-", False), *show.SPEND], days))
    console.print(show.table("by model", [*show.MODEL, *show.SPEND], models))
