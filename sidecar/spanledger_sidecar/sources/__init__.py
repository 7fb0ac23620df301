"""The interface of a source: sessions in folders, whose changes become spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from spanledger_sidecar.files import FileErrors
from spanledger_sidecar.records import ClosedRecord, Record, UsageRecord, dated
from spanledger_sidecar.spans import span


@dataclass(slots=True)
class Counts:
    """Counts of what this process read and made, for the summary.

    `known` and `copied` are tokens that are not counted, by session: dated before usage counts, and in a usage file
    that is taken for a copy of another session's. `unread` are sessions that changed, and of which nothing could be
    read.
    """

    sessions: int = 0
    spans: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    cost: int = 0
    uncosted: int = 0
    resets: int = 0
    known: dict[str, int] = field(default_factory=dict)
    copied: dict[str, int] = field(default_factory=dict)
    unread: int = 0

    @property
    def left_out(self) -> int:
        """Return how many tokens are not counted."""
        return sum(self.known.values()) + sum(self.copied.values())

    def add(self, records: Iterable[Record]) -> None:
        """Count records of one session."""
        for record in records:
            if isinstance(record, UsageRecord):
                self.spans[record.granularity] += 1
                self.tokens += record.tokens.total
                self.cost += record.cost or 0
                self.uncosted += record.cost is None
            else:
                self.spans["closed" if isinstance(record, ClosedRecord) else "tools"] += 1


@dataclass(frozen=True, slots=True)
class ScanContext:
    """The parameters of a scan: the time, how long finer rows are waited for, and the time from which usage is new.

    Times are in ms, points of time since 1970. `room` is called before every group of sessions: it waits until the
    queue has room, and returns whether to go on. `progress` is called with the sessions read and those to read.
    """

    now_ms: int
    hold_back_ms: int
    since_ms: int
    room: Callable[[], bool]
    progress: Callable[[int, int], None]


def packed(records: Iterable[Record], fallback_ms: int) -> list[bytes]:
    """Return the stored form of the spans of `records`; those without a time get `fallback_ms`."""
    return [span(dated(record, fallback_ms)).pack() for record in records]


class Source(Protocol):
    """One source. Used by one thread."""

    name: str
    names: Collection[str]
    """The file names whose changes matter."""
    counts: Counts
    errors: FileErrors
    again: dict[str, tuple[int, Path]]
    """Sessions where something is held back: when it is due (ms since 1970), and the session's home."""

    def candidates(self) -> list[Path]:
        """Return the homes that are read, whether they are there or not."""
        ...

    def roots(self) -> list[Path]:
        """Return the homes that are there now, resolved, each once."""
        ...

    def scan(self, roots: list[Path], context: ScanContext) -> None:
        """Read what changed in all sessions of `roots`."""
        ...

    def touched(self, sessions: dict[str, Path], context: ScanContext) -> None:
        """Read these sessions (name to home) again."""
        ...
