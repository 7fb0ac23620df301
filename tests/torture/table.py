"""The table of `docs/reliability.md`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- make torture: begin -->", "<!-- make torture: end -->"


@dataclass(frozen=True)
class Row:
    """What one fault did.

    `lost` spans were acknowledged and are not at the backend; `doubled` calls are in the ledger beyond those that were
    told with a cost; `wrong` is USD by which the ledger is off; `unaccounted` spans arrived and say that they are not
    in the ledger; `longest` is how many seconds the slowest span took to the backend: how long forwarding
    stopped.
    """

    fault: str
    times: int
    spans: int
    lost: int
    doubled: int
    wrong: Decimal
    unaccounted: int
    longest: float

    def __str__(self) -> str:
        """A line of the table."""
        cells = (self.fault, self.times, self.spans, self.lost, self.doubled, self.unaccounted, f"{self.longest:.1f} s")
        return f"| {' | '.join(map(str, cells))} |"


def write(rows: Iterable[Row], rounds: int) -> None:
    """Put the table between its marks."""
    text = DOCUMENT.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    table = [
        f"`make torture ROUNDS={rounds}`",
        "",
        "| fault | times | spans sent | lost | doubled | `not_accounted` | slowest span |",
        "|---|---|---|---|---|---|---|",
        *map(str, rows),
    ]
    DOCUMENT.write_text("\n".join([head + BEGIN, *table, END + tail]))
