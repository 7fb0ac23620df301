"""One value of a dimension: the option that asks for it, and what is said of an answer that is of it."""

from __future__ import annotations

import click

from spanledger_processor.cli import show
from spanledger_processor.ledger.rows import Row

OF_VALUE = click.option("--dimension", metavar="NAME:VALUE", help="Of this value of a dimension, such as user:ann.")


def of_value(answer: Row) -> str:
    """Return which value of a dimension an answer is of, in words; empty where it is of all."""
    return f"of {answer['dimension']} {show.word(answer['value'])}" if "dimension" in answer else ""


def print_others(answer: Row) -> None:
    """Say what values spent that are not told apart any more, where a part of it may belong to the answer."""
    others = answer.get("not_distinguished", {"calls": 0})
    if others["calls"]:
        spent = f"{show.money(others['cost_usd'])} of {show.counted(others['calls'], 'call')}"
        click.echo(f"Not in it: {spent} of values that are not told apart any more; a part may be this one's.")


def print_whole(what: str, value: str | None) -> None:
    """Say of a list of sessions or runs in which something has a value that they are whole ones."""
    if value is not None:
        click.echo(f"Whole {what}s in which something has this value; `summary --dimension` has what it spent itself.")
