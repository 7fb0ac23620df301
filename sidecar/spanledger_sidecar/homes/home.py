"""What the loop knows of every source: homes with sessions in them, whose changes become spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from spanledger_sidecar.emit import Span, span
from spanledger_sidecar.homes.troubles import Troubles
from spanledger_sidecar.records import ClosedRecord, Record, UsageRecord


@dataclass(slots=True)
class Counts:
    """What was found and made in this process, for the summary."""

    sessions: int = 0
    spans: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    cost: int = 0
    uncosted: int = 0
    rebaselines: int = 0

    def made(self, records: list[Record]) -> list[Span]:
        """Count `records`, and give their spans."""
        for record in records:
            if isinstance(record, UsageRecord):
                self.spans[record.granularity] += 1
                self.tokens += record.tokens.total
                self.cost += record.cost or 0
                self.uncosted += record.cost is None
            else:
                self.spans["closed" if isinstance(record, ClosedRecord) else "tools"] += 1
        return [span(record) for record in records]


@dataclass(frozen=True, slots=True)
class Look:
    """How to look now: the time (ms since 1970), how long finer rows are waited for, and from when usage is new.

    `room` is asked before every group of sessions: it waits until the queue has room, and says whether to go on.
    `progress` is told how many sessions of how many were looked at.
    """

    now_ms: int
    settle_ms: int
    since_ms: int
    room: Callable[[], bool]
    progress: Callable[[int, int], None]


class Home(Protocol):
    """One source. Used by one thread."""

    name: str
    names: Collection[str]
    """The file names whose changes matter."""
    counts: Counts
    troubles: Troubles
    again: dict[str, tuple[int, Path]]
    """Sessions where something is held back: when it is due (ms since 1970), and the session's home."""

    def roots(self) -> list[Path]:
        """The homes that are there now, resolved, each once."""
        ...

    def scan(self, roots: list[Path], look: Look) -> None:
        """Look at all sessions of `roots`."""
        ...

    def touched(self, sessions: dict[str, Path], look: Look) -> None:
        """Look at these sessions (name to home) again."""
        ...
