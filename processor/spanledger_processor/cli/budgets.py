"""`spanledger budgets`: what is used of each budget; exit code 1 where one is used up, if that is asked."""

from __future__ import annotations

from typing import Any

import click

from spanledger_processor.cli.asking import Where, asks
from spanledger_processor.cli.options import FAILED, as_json, fail
from spanledger_processor.cli.show import Column, money, print_table, show_json


def _state(row: dict[str, Any]) -> str:
    passed = f"{row['passed'][-1]} % passed" if row["passed"] else ""
    return "used up" if row["over"] else ", ".join(filter(None, (passed, "will not last" if row["forecast"] else "")))


_COLUMNS: tuple[Column, ...] = (
    ("budget", lambda row: row["budget"], False),
    ("of", lambda row: row["value"] or "-", False),
    ("period", lambda row: row["period"] + (f" since {row['since']}" if row["since"] else ""), False),
    ("used", lambda row: f"{row['used']:.0%}", True),
    ("spent", lambda row: money(row["used_usd"]), True),
    ("amount", lambda row: money(row["amount_usd"]), True),
    ("state", lambda row: _state(row) or "-", False),
)


@click.command()
@click.option("--of", "value", metavar="VALUE", help="Of this value of a dimension, session or run, and of all.")
@click.option("--check", is_flag=True, help="End with exit code 1 if one is used up.")
@asks
@as_json
def budgets(value: str | None, where: Where, *, check: bool, as_json: bool) -> None:
    """Show what is used of each budget, the most used first."""
    with where.open() as source:
        result = source.ask("/api/v1/budgets", {}, {"value": value})
        assert result is not None
    if as_json:
        show_json(result)
    elif result["budgets"]:
        print_table("budgets", _COLUMNS, result["budgets"])
    else:
        click.echo("No budget is configured (processor.budgets), or nothing has been spent yet of those there are.")
    if check and result["over"]:
        fail("a budget is used up", FAILED)
