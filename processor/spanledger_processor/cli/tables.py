"""Tables that fit the terminal: which columns there is room for, and how wide each is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spanledger_processor.server.forms import visible

Column: TypeAlias = tuple[str, Callable[[dict[str, Any]], str | list[str]], bool]
"""Heading, text of a row or its lines, whether it is a number (right-aligned)."""


@dataclass(frozen=True, slots=True)
class Shortened:
    """A text of a row, and what stands for it where a table has not enough room."""

    whole: Callable[[dict[str, Any]], str]
    brief: Callable[[dict[str, Any]], str]

    def __call__(self, row: dict[str, Any]) -> str:
        return self.whole(row)


_LEFT_OUT = ("signature", "cached", "tools", "input", "output", "project", "models", "denied", "unpriced")
"""Headings of details, in the order in which a narrow terminal goes without them; not where something is unpriced.

The id, cost, state and last activity stay. Before any of these goes what says nothing of any row, and of several
models all but the first.
"""
_OF_ONE_LINE = ("unpriced", "calls", "last active (UTC)", "state")
"""What goes after these where a row has to be a line; a cost says itself that some of it is not known."""


def print_table(title: str, columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as a table that fits the terminal, or as a paragraph a row where an id would have to be broken.

    What is left out of a narrow one is said below it.
    """
    out = console()
    out.print(Text(plain(title), "bold"), soft_wrap=True)
    shown = _fitting(out, columns, rows)
    widths = _widths(out, shown, rows)
    if widths is not None:
        out.print(_table("", shown, rows, widths))
    else:
        shown = list(columns)
        _print_paragraphs(out, columns, rows)
    if missing := [heading for heading, _, _ in columns if heading not in {column[0] for column in shown}]:
        out.print(Text(f"No room here for {', '.join(missing)}; --json has all.", "dim"))


def table(title: str, columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> Table:
    """Return rows as a table of a line a row: on a narrow terminal, details are left out, the state the last."""
    return _table(title, _fitting(console(), columns, rows, (*_LEFT_OUT, *_OF_ONE_LINE)), rows)


def _fitting(
    out: Console, columns: Sequence[Column], rows: Sequence[dict[str, Any]], left_out: Sequence[str] = _LEFT_OUT
) -> list[Column]:
    """Return the columns there is room for: of models the first, then less details where there is not enough."""
    shown = list(columns)
    if not _fits(out, shown, rows):
        said = [column for column in shown[1:] if _says_something(column, rows)]
        shown = [shown[0], *((name, _brief(text), number) for name, text, number in said)]
    for number, heading in enumerate(left_out):
        if _fits(out, shown, rows):
            break
        again = heading in left_out[:number]
        shown = [column for column in shown if column[0] != heading or (heading == "unpriced" and not again)]
    return shown


def _brief(text: Callable[[dict[str, Any]], str | list[str]]) -> Callable[[dict[str, Any]], str | list[str]]:
    return text.brief if isinstance(text, Shortened) else text


def _says_something(column: Column, rows: Sequence[dict[str, Any]]) -> bool:
    return any(column[1](row) != "-" for row in rows)


def _fits(out: Console, columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> bool:
    """Return whether a table has room with every row on one line."""
    unbound = out.options.update(width=_UNBOUND)
    return Measurement.get(out, unbound, _table("", columns, rows)).maximum <= out.width


def _widths(out: Console, columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> list[int] | None:
    """Return the cells of each column where the first, and all numbers, stand on one line; None if there is no room."""
    least = [_least_width(index, column, rows) for index, column in enumerate(columns)]
    wanted = [max(map(cell_len, _lines(column, rows))) - width for column, width in zip(columns, least, strict=True)]
    spare = out.width - _BETWEEN * (len(columns) - 1) - _EDGES - sum(least)
    if spare < 0:
        return None
    for left, index in zip(
        range(len(columns), 0, -1), sorted(range(len(columns)), key=wanted.__getitem__), strict=True
    ):
        more = min(wanted[index], spare // left)
        least[index] += more
        spare -= more
    return least


def _lines(column: Column, rows: Sequence[dict[str, Any]]) -> list[str]:
    heading, text, _ = column
    return [heading, *(line for row in rows for line in _cell(text(row)).split("\n"))]


def _least_width(index: int, column: Column, rows: Sequence[dict[str, Any]]) -> int:
    """Return the cells that a column needs: all of a text that stays whole, of another its longest word or a part."""
    heading, _, number = column
    lines = _lines(column, rows)
    if _stays_whole(index, heading, number=number):
        return max(map(cell_len, lines))
    return min(_NARROWEST, max(cell_len(word) for line in lines for word in line.split(" ")))


def _stays_whole(index: int, heading: str, *, number: bool) -> bool:
    """Return whether a column is never folded: numbers, and what people copy."""
    return number or not index or heading == "model"


def _print_paragraphs(out: Console, columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> None:
    (_, name, _), *others = columns
    for row in rows:
        out.print(Text(_cell(name(row))), soft_wrap=True)
        reported = ", ".join(
            f"{heading} {result}" for heading, text, _ in others if (result := _cell(text(row))) != "-"
        )
        out.print(Padding(Text(reported), (0, 0, 0, 4)))


def _table(
    title: str, columns: Sequence[Column], rows: Sequence[dict[str, Any]], widths: Sequence[int] | None = None
) -> Table:
    """Return a table; text from the network is printed literally, never as markup or control characters."""
    built = Table(
        title=Text(plain(title), "bold") if title else None,
        title_justify="left",
        header_style="dim",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, (heading, _, number) in enumerate(columns):
        whole = _stays_whole(index, heading, number=number)
        width = None if widths is None else widths[index]
        aligned: JustifyMethod = "right" if number else "left"
        built.add_column(heading, justify=aligned, overflow="fold", no_wrap=whole, width=width)
    for result in rows:
        built.add_row(*(Text(_cell(text(result))) for _, text, _ in columns))
    return built


def _cell(text: str | list[str]) -> str:
    return plain(text) if isinstance(text, str) else "\n".join(map(plain, text))


_UNBOUND = 10_000
_NARROWEST = 18
"""Cells that a column of text may be folded to."""
_BETWEEN = 3
"""Cells between two columns."""
_EDGES = 2
"""Cells before the first and after the last."""
_WIDE = 240
"""Columns where nobody looks, so that pipes get whole lines."""


def console() -> Console:
    """Return a console on standard output."""
    built = Console()
    return built if built.is_terminal else Console(width=_WIDE)


def plain(text: str) -> str:
    """Return text of one line: what would end it, move the cursor, or hide or turn round other text is an escape."""
    return visible(text).replace("\n", "\\u000a")
