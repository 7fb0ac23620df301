"""How answers are shown: tables for people, JSON for programs; one way for every command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import click
import orjson
from rich.console import Console
from rich.table import Table

Column: TypeAlias = tuple[str, Callable[[dict[str, Any]], str], bool]
"""Heading, text of a row, whether it is a number (right-aligned)."""


def show_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def table(title: str, columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> Table:
    """A table of rows."""
    made = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for heading, _, number in columns:
        made.add_column(heading, justify="right" if number else "left", overflow="fold")
    for found in rows:
        made.add_row(*(text(found) for _, text, _ in columns))
    return made


def console() -> Console:
    """A console on standard output; wide where nobody looks, so that pipes get whole lines."""
    made = Console()
    return made if made.is_terminal else Console(width=200)


def money(amount: float | None) -> str:
    """USD for people: cents where there are dollars, more digits where there are none."""
    if amount is None:
        return "-"
    return f"${amount:,.2f}" if abs(amount) >= 100 else f"${amount:,.6f}"


def count(number: int | None) -> str:
    """A count for people."""
    return "-" if number is None else f"{number:,}"


TOTALS: Sequence[Column] = (
    ("cost", lambda row: money(row["cost_usd"]), True),
    ("calls", lambda row: count(row["calls"]), True),
    ("unpriced", lambda row: ", ".join(f"{n} {why}" for why, n in row["unpriced"].items()) or "-", False),
    ("input", lambda row: count(row["tokens"]["input"]), True),
    ("of it cached", lambda row: count(row["tokens"]["cache_read"]), True),
    ("output", lambda row: count(row["tokens"]["output"]), True),
    ("tools", lambda row: count(row["tool_calls"]), True),
    ("models", lambda row: ", ".join(row["models"]) or "-", False),
    ("last active", lambda row: (row["last"] or "-").removesuffix("Z").replace("T", " "), False),
)
"""The columns that sessions, runs, tasks and models share."""


def named(heading: str) -> Column:
    """The column of the id; what belongs to none says so."""
    return (heading, lambda row: row["id"] or "(unattributed)", False)
