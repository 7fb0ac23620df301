"""What a sidecar is told: sources, where its state is, and from when usage counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

SourceName: TypeAlias = Literal["mux", "tilth"]
Grain: TypeAlias = Literal["auto", "usage"]

SOURCES: tuple[SourceName, ...] = ("mux", "tilth")


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of file and its homes; without homes, where the agent itself keeps it.

    `grain`: `auto` takes the finest that a workspace's files have; `usage` never opens chat files.
    """

    name: SourceName
    roots: Sequence[Path] = ()
    grain: Grain = "auto"


@dataclass(frozen=True, slots=True)
class Settings:
    """`since_ms` counts at the first run of a source only: what ended before is left out. None: before now; 0: nothing.

    Periods in seconds. `settle`: how long the finer files are waited for before a usage file's remainder is sent.
    `scan_every`: the shortest time between two scans of everything; a scan takes at most 1/`scan_share` of the time.
    `waiting`: spans in the queue beyond which no more files are read.
    """

    state: Path
    sources: Sequence[Source] = field(default_factory=lambda: [Source(name) for name in SOURCES])
    since_ms: int | None = None
    settle: float = 2.0
    scan_every: float = 30.0
    scan_share: int = 200
    tick: float = 1.0
    batch: int = 512
    waiting: int = 100_000
    longest_wait: float = 60.0
