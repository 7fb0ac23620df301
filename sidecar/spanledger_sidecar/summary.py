"""What a run found and sent, as a table."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from spanledger_sidecar.homes.home import Home

_GRAINS = (
    ("per-message", "calls"),
    ("per-turn", "turns"),
    ("per-session-aggregate", "aggregates"),
    ("tools", "tools"),
    ("closed", "closed"),
)
_SUMS = ("tokens", "reported USD", "without cost", "rebuilt", "unreadable")


def table(homes: Iterable[Home], waiting: int) -> Table:
    """One row a source; below it how many spans still wait for the endpoint."""
    found = Table(caption=f"{waiting} spans wait for the endpoint" if waiting else None, caption_justify="left")
    found.add_column("source")
    for name in (
        "sessions",
        *(word for _, word in _GRAINS),
        "tokens",
        "reported USD",
        "without cost",
        "rebuilt",
        "unreadable",
    ):
        found.add_column(name, justify="right")
    for home in homes:
        counts = home.counts
        found.add_row(
            home.name,
            f"{counts.sessions:,}",
            *(f"{counts.spans[grain]:,}" for grain, _ in _GRAINS),
            f"{counts.tokens:,}",
            f"{counts.cost / 1e12:,.6f}",
            f"{counts.uncosted:,}",
            f"{counts.rebaselines:,}",
            f"{home.troubles.count:,}",
        )
    return found
