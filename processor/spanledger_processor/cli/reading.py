"""The commands that read the ledger, while `serve` runs or after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from spanledger_processor.cli import show
from spanledger_processor.cli.options import as_json, configuration, configured, fail, ledger, tenant
from spanledger_processor.reports import ledger as questions
from spanledger_processor.reports.rows import Row


def _reading(command: Callable[..., Any]) -> Callable[..., Any]:
    return configuration(tenant(as_json(command)))


@click.command()
@_reading
def sessions(path: Path | None, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """List all sessions: cost, calls, tokens, models."""
    with ledger(configured(path, sets), tenant) as (reader, whose):
        _list("session", questions.sessions(reader, whose), as_json=as_json)


@click.command()
@_reading
def runs(path: Path | None, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """List all runs: cost, calls, tokens, models."""
    with ledger(configured(path, sets), tenant) as (reader, whose):
        _list("run", questions.runs(reader, whose), as_json=as_json)


@click.command()
@click.argument("session_id", metavar="ID")
@_reading
def session(session_id: str, path: Path | None, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """Show one session by model and task."""
    with ledger(configured(path, sets), tenant) as (reader, whose):
        _one("session", session_id, questions.session(reader, whose, session_id), as_json=as_json)


@click.command()
@click.argument("run_id", metavar="ID")
@_reading
def run(run_id: str, path: Path | None, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """Show one run by model."""
    with ledger(configured(path, sets), tenant) as (reader, whose):
        _one("run", run_id, questions.run(reader, whose, run_id), as_json=as_json)


@click.command()
@click.option("--session", "session_id", help="Of one session only: its tasks and models.")
@click.option("--run", "run_id", help="Of one run only.")
@_reading
def summary(
    session_id: str | None, run_id: str | None, path: Path | None, sets: tuple[str, ...], tenant: str, *, as_json: bool
) -> None:
    """Sum up the ledger: the total, by model, and what could not be priced."""
    with ledger(configured(path, sets), tenant) as (reader, whose):
        if session_id is not None:
            _one("session", session_id, questions.session(reader, whose, session_id), as_json=as_json)
        elif run_id is not None:
            _one("run", run_id, questions.run(reader, whose, run_id), as_json=as_json)
        else:
            _whole(questions.total(reader, whose), questions.models(reader, whose), as_json=as_json)


def _list(what: str, rows: list[Row], *, as_json: bool) -> None:
    if as_json:
        show.show_json(rows)
    elif rows:
        show.console().print(show.table(f"{len(rows)} {what}s", [show.named(what), *show.TOTALS], rows))
    else:
        click.echo(f"no {what}s yet")


def _one(what: str, name: str, found: Row | None, *, as_json: bool) -> None:
    if found is None:
        fail(f"no {what} {name!r} in this ledger", 1)
    if as_json:
        show.show_json(found)
        return
    console = show.console()
    console.print(show.table(f"{what} {name}", show.TOTALS, [found]))
    models = [{"model": model, "cost": cost} for model, cost in found["models"].items()]
    columns: list[show.Column] = [
        ("model", lambda row: row["model"], False),
        ("cost", lambda row: show.money(row["cost"]), True),
    ]
    console.print(show.table("by model", columns, models))
    if found.get("tasks"):
        kind: show.Column = ("kind", lambda row: row["kind"], False)
        console.print(show.table("by task", [show.named("task"), kind, *show.TOTALS], found["tasks"]))


def _whole(total: Row, models: list[Row], *, as_json: bool) -> None:
    if as_json:
        show.show_json({"total": total, "models": models})
        return
    console = show.console()
    console.print(show.table("the whole ledger", show.TOTALS, [total]))
    if total["late_correction_usd"]:
        console.print(f"sent on spans beyond that, and corrected: {show.money(total['late_correction_usd'])}")
    seller: show.Column = ("provider", lambda row: row["provider"] or "-", False)
    model: show.Column = ("model", lambda row: row["model"] or "(no model)", False)
    columns = [column for column in show.TOTALS if column[0] != "models"]
    console.print(show.table("by model", [seller, model, *columns], models))
