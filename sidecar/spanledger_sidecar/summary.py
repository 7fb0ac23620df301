"""What a run found and sent, as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.table import Table

from spanledger_sidecar.homes.home import Home

_PICO = 10**12
_ROWS: Sequence[tuple[str, Callable[[Home], str]]] = (
    ("sessions", lambda home: f"{home.counts.sessions:,}"),
    ("spans: calls", lambda home: f"{home.counts.spans['per-message']:,}"),
    ("spans: turns", lambda home: f"{home.counts.spans['per-turn']:,}"),
    ("spans: aggregates", lambda home: f"{home.counts.spans['per-session-aggregate']:,}"),
    ("spans: tools", lambda home: f"{home.counts.spans['tools']:,}"),
    ("spans: sessions closed", lambda home: f"{home.counts.spans['closed']:,}"),
    ("tokens", lambda home: f"{home.counts.tokens:,}"),
    ("cost as the source reports it", lambda home: f"${home.counts.cost / _PICO:,.6f}"),
    ("usage without such a cost", lambda home: f"{home.counts.uncosted:,}"),
    ("files made anew", lambda home: f"{home.counts.rebaselines:,}"),
    ("files that cannot be used", lambda home: f"{home.troubles.count:,}"),
)


def table(homes: Sequence[Home], waiting: int) -> Table:
    """One column a source; below it how many spans still wait for the endpoint."""
    found = Table(box=box.SIMPLE, caption=f"{waiting} spans wait for the endpoint" if waiting else None)
    found.add_column("new")
    for home in homes:
        found.add_column(home.name, justify="right")
    for name, cell in _ROWS:
        found.add_row(name, *(cell(home) for home in homes))
    return found
