"""Read the homes of tilth: event logs that only grow."""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from spanledger_sidecar.cursor import Change, Cursor
from spanledger_sidecar.files import FileErrors, Lines, list_sessions, open_plain, real_folders, signals
from spanledger_sidecar.records import NO_TIME, Sign, UnreadableError
from spanledger_sidecar.sources.base import Counts, ScanContext, packed
from spanledger_sidecar.sources.tilth.events import SOURCE, UNCHECKED, EventLog, Progress

EVENTS = "events.jsonl"
_GROUP = 50
_CHECKED = 512
"""Bytes before the end of what was read, by which a log is known again."""


class TilthSource:
    """Implements `base.Source` for tilth."""

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

    def places(self) -> list[Path]:
        return list(self._paths) or [Path(self._environ.get("HOME") or Path.home()) / ".tilth"]

    def roots(self) -> list[Path]:
        return real_folders(self.places())

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
            seen = {}
            with self._cursor.write() as change:
                for name in group:
                    progress = self._look_at_one(change, name, sessions[name], context)
                    if progress is not None:
                        seen[name] = progress.signals
            self._seen.update(seen)
            context.progress(start + len(group), len(names))

    def _look_at_one(self, change: Change, name: str, root: Path, context: ScanContext) -> Progress | None:
        """Count one session's new events; None, with nothing changed, where that failed in a way not foreseen."""
        try:
            path = root / "sessions" / name / EVENTS
            log = self._read(change, name, path, context)
            spans = packed(log.records, context.now_ms)
            record = log.progress.pack()
        except Exception as error:  # noqa: BLE001 - one session must not stop the others
            self.errors(root / "sessions" / name, f"could not be read ({type(error).__name__}: this is a bug)")
            return None
        for key in log.taken:
            change.count(key, name)
        change.enqueue(spans)
        change.remember(SOURCE, name, record)
        self.counts.add(log.records)
        self.counts.known_tokens += log.known
        self.counts.known_sessions += bool(log.known)
        return log.progress

    def _read(self, change: Change, name: str, path: Path, context: ScanContext) -> EventLog:
        """The new events of a session. Events that are there already at the first look are new from `since_ms` on.

        A log whose bytes are no longer what was read was put back from a copy: it is read from its beginning, and what
        was counted is left out.
        """
        record = change.state(SOURCE, name)
        progress = Progress() if record is None else Progress.unpack(record)
        since_ms = context.since_ms if record is None else 0
        progress.signals = signals(path.parent, self.names)
        log = EventLog(name, progress, self._sign, lambda key: change.counted(key) is not None)
        lines = Lines()
        try:
            with open_plain(path) as file:
                if progress.check not in (UNCHECKED, _checksum(file, progress.offset)):
                    self.counts.resets += 1
                    self.errors(path, "is not the log that it was; what was counted of it is not counted again")
                    since_ms = context.since_ms
                    progress.restart()
                log.read(lines.read(file, progress.offset), since_ms)
                progress.check = _checksum(file, progress.offset)
        except FileNotFoundError:
            pass
        except UnreadableError as error:
            self.errors(path, str(error))
        if lines.damaged:
            self.errors(path, f"has {lines.damaged} damaged lines, which are left out")
        if log.undated:
            self.errors(path, NO_TIME.format(log.undated))
        return log


def _checksum(file: BinaryIO, offset: int) -> int:
    """A checksum of what stands before `offset`; 0 where nothing does."""
    start = max(0, offset - _CHECKED)
    file.seek(start)
    content = file.read(offset - start)
    return zlib.crc32(content) if len(content) == offset - start else -1
