"""Read the homes of tilth: event logs that only grow."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from spanledger_sidecar.cursor import Change, Cursor
from spanledger_sidecar.files import FileErrors, Lines, list_sessions, open_plain, real_folders, signal_of, signals
from spanledger_sidecar.records import Record, Sign, UnreadableError
from spanledger_sidecar.sources.base import Counts, ScanContext
from spanledger_sidecar.sources.tilth.events import SOURCE, Progress, records

EVENTS = "events.jsonl"
_GROUP = 50


class TilthSource:
    """Implements `home.Home` for tilth."""

    name = SOURCE
    names: Collection[str] = (EVENTS,)

    def __init__(
        self, cursor: Cursor, sign: Sign, paths: Sequence[Path] = (), *, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.counts = Counts()
        self.errors = FileErrors()
        self.again: dict[str, tuple[int, Path]] = {}
        self._cursor = cursor
        self._sign = sign
        self._paths = paths
        self._environ = environ
        self._seen = {name: Progress.unpack(record).signals for name, record in cursor.states(SOURCE)}

    def roots(self) -> list[Path]:
        home = Path(self._environ.get("HOME") or Path.home())
        return real_folders(self._paths or [home / ".tilth"])

    def scan(self, roots: list[Path], context: ScanContext) -> None:
        sessions: dict[str, Path] = {}
        for root in roots:
            listing = list_sessions(root)
            for name in listing.folders if listing else ():
                sessions.setdefault(name, root)
        changed = {
            name: root
            for name, root in sessions.items()
            if self._seen.get(name) != signals(root / "sessions" / name, self.names)
        }
        self.touched(changed, context)
        self.counts.sessions = len(sessions)

    def touched(self, sessions: dict[str, Path], context: ScanContext) -> None:
        names = sorted(sessions)
        for start in range(0, len(names), _GROUP):
            if not context.room():
                return
            group = names[start : start + _GROUP]
            with self._cursor.write() as change:
                seen = {}
                for name in group:
                    progress, found = self._read(change, name, sessions[name], context)
                    change.enqueue(self.counts.made(found))
                    change.remember(SOURCE, name, progress.pack())
                    seen[name] = progress.signals
            self._seen.update(seen)
            context.progress(start + len(group), len(names))

    def _read(self, change: Change, name: str, root: Path, context: ScanContext) -> tuple[Progress, list[Record]]:
        """The new events of a session. Events that are there already at the first look are new from `since_ms` on."""
        record = change.state(SOURCE, name)
        progress = Progress() if record is None else Progress.unpack(record)
        path = root / "sessions" / name / EVENTS
        progress.signals = signals(path.parent, self.names)
        lines = Lines()
        found: list[Record] = []
        try:
            with open_plain(path) as file:
                size = signal_of(file).size
                if size < progress.offset:
                    self._replaced(path, progress, size)
                since_ms = context.since_ms if record is None else 0
                found = records(name, lines.read(file, progress.offset), progress, self._sign, since_ms)
        except FileNotFoundError:
            pass
        except UnreadableError as error:
            self.errors(path, str(error))
        if lines.damaged:
            self.errors(path, f"has {lines.damaged} damaged lines, which are left out")
        return progress, found

    def _replaced(self, path: Path, progress: Progress, size: int) -> None:
        """A log that only grows has shrunk: go on behind what is there now, for it may have been counted before."""
        self.counts.resets += 1
        self.errors(path, "has become shorter; what stands in it now is taken as known")
        progress.offset = size
