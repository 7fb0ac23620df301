"""The sidecar's loop: read changed files, queue their spans on disk, and send these until they are acknowledged.

`start` is what `serve` calls: the sidecar runs in threads beside the server and hands its requests to a function.
"""

from __future__ import annotations

import logging
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

from spanledger_processor.model import ToolCall
from spanledger_processor.signing import Signer
from spanledger_sidecar.cursor import Cursor
from spanledger_sidecar.files import Watcher, is_folder, list_sessions, real_folders, unchanged
from spanledger_sidecar.records import Sign
from spanledger_sidecar.sender import InProcess, Outbox, Post, Sender
from spanledger_sidecar.sources import ScanContext, Source
from spanledger_sidecar.sources.mux.source import MuxSource
from spanledger_sidecar.sources.tilth import TilthSource

SourceName: TypeAlias = Literal["mux", "tilth"]
Grain: TypeAlias = Literal["auto", "usage"]

SOURCES: tuple[SourceName, ...] = ("mux", "tilth")


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """One kind of usage files and the homes to read them in; without `roots`, the agent's own default.

    `grain`: `auto` takes the finest that a workspace's files have; `usage` never opens chat files.
    """

    name: SourceName
    roots: Sequence[Path] = ()
    grain: Grain = "auto"


@dataclass(frozen=True, slots=True)
class Settings:
    """`since_ms` counts at the first run of a source only: what ended before is left out. None: before now; 0: nothing.

    Periods in seconds. `hold_back`: how long the remainder of a usage file is held back, waiting for the finer files.
    `scan_every`: the time between the beginnings of two scans of everything, and so the bound on how late a change is
    seen that no event of the system tells of.
    `waiting`: spans in the queue beyond which no more files are read.
    """

    state: Path
    sources: Sequence[SourceSettings] = field(default_factory=lambda: [SourceSettings(name) for name in SOURCES])
    since_ms: int | None = None
    hold_back: float = 2.0
    scan_every: float = 30.0
    tick: float = 1.0
    batch: int = 512
    waiting: int = 100_000
    longest_wait: float = 60.0


log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def signing(signer: Signer) -> Sign:
    """Return a function that signs tool calls, as sources call it."""

    def sign(name: str, arguments: Any) -> tuple[str, str]:
        signature = signer.sign(ToolCall(name, arguments))
        return (signature.value, signature.scope) if signature is not None else ("", "")

    return sign


ReadCounts: TypeAlias = Callable[[Iterable[str]], str | None]
"""Returns the first of these sessions that a ledger has; None if it has none of them."""


class AlreadyCountedError(Exception):
    """A first run would count again what the ledger has of a source; the message names one session."""


def start(settings: Settings, post: Post, signer: Signer, counted: ReadCounts = lambda _: None) -> Running:
    """Run a sidecar in threads of its own; `post` is called from one of them with one encoded request at a time.

    Raises:
        CursorError: the state cannot be used.
        AlreadyCountedError: see `Sidecar.refuse_counted`.
    """
    sidecar = Sidecar(settings, InProcess(post), signer)
    try:
        sidecar.refuse_counted(counted)
    except Exception:
        sidecar.close()
        raise
    for line in sidecar.late:
        log.warning(line)
    return Running(sidecar)


class Running:
    """A sidecar at work in the background."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self._stop = threading.Event()
        self._thread = threading.Thread(target=sidecar.run, args=(self._stop,), name="sidecar", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait until it has stopped. What was not acknowledged is sent at the next start."""
        self._stop.set()
        self._thread.join()
        self.sidecar.close()


class Sidecar:
    """Reads and sends. `scan` belongs to one thread, the outbox may be used by another."""

    def __init__(
        self,
        settings: Settings,
        sender: Sender,
        signer: Signer,
        *,
        environ: Mapping[str, str] = os.environ,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.settings = settings
        self.cursor = Cursor(settings.state)
        self.sender = sender
        self._now_ms = now_ms
        sign = signing(signer)
        self.sources: list[Source] = [_source(source, self.cursor, sign, environ) for source in settings.sources]
        self._faults = {source.name: self._recall_faults(source) for source in self.sources}
        self.late: list[str] = []
        self.first = {source.name for source in self.sources if self._is_first_run(source.name)}
        self._since = {source.name: self._first_run(source.name) for source in self.sources}
        self._more = threading.Event()
        self._reported: dict[str, tuple[int, int]] = {}
        self.outbox = Outbox(self.cursor, sender, settings.batch)
        if offered := self.cursor.offer_again():
            log.info("%d spans that were refused before are offered again", offered)

    def __enter__(self) -> Sidecar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.sender.close()
        self.cursor.close()

    def _is_first_run(self, name: str) -> bool:
        """Return whether the settings decide from when usage counts: until anything of a source was read."""
        if self.cursor.meta(f"{name} since") is None:
            return True
        return self.settings.since_ms is not None and next(self.cursor.states(name), None) is None

    def _first_run(self, name: str) -> int:
        """Return the time from which usage counts: set at a source's first run, and kept."""
        kept: int = self.cursor.meta(f"{name} since") or 0
        if name in self.first:
            now_ms = self._now_ms()
            kept = now_ms if self.settings.since_ms is None else min(self.settings.since_ms, now_ms)
            with self.cursor.write() as change:
                change.set_meta(f"{name} since", kept)
        elif self.settings.since_ms is not None and self.settings.since_ms < kept:
            self.late.append(
                f"{name} was read before, and counts what is dated from {_day(kept)} on, not from "
                f"{_day(self.settings.since_ms)}. " + AGAIN.format(self.cursor.path)
            )
        return kept

    def _recall_faults(self, source: Source) -> dict[bytes, tuple[str, int, int]]:
        """Load the faults of files that are as an earlier run left them into a source; return those of all homes."""
        kept = unchanged(self.cursor.meta(f"{source.name} faults") or {})
        folders = [root / "sessions" for root in real_folders(source.candidates())]
        here = {
            path: fault
            for path, fault in kept.items()
            if any(Path(os.fsdecode(path)).is_relative_to(folder) for folder in folders)
        }
        source.errors.recall(here)
        return kept

    def _keep_faults(self, source: Source) -> None:
        """Store which files cannot be used: they are not read again before they change."""
        faults = self._faults[source.name] | source.errors.kept(source.names)
        if faults != self._faults[source.name]:
            self._faults[source.name] = faults
            with self.cursor.write() as change:
                change.set_meta(f"{source.name} faults", faults)

    def refuse_counted(self, counted: ReadCounts) -> None:
        """Refuse a first run that counts everything where the ledger has sessions of these homes.

        Turns have the ids that they had, and count once; sums of which no turn is known would count a second time. The
        next start is a first run as well.

        Raises:
            AlreadyCountedError: the ledger has one.
            Exception: what `counted` raises.
        """
        if self.settings.since_ms != 0:
            return
        try:
            for source in self.sources:
                names = (name for root in source.roots() for name in list_sessions(root) or ())
                if source.name in self.first and (session := counted(names)) is not None:
                    raise AlreadyCountedError(
                        f"the ledger has session {session} of {source.name} already: single turns would count once, "
                        "but sums of which no turn is known twice"
                    )
        except Exception:
            with self.cursor.write() as change:
                for name in self.first:
                    change.forget_meta(f"{name} since")
            raise

    def scan(self, room: Callable[[], bool], *, hold_back: float, progress: Progress = lambda *_: None) -> None:
        """Look at everything once."""
        for source in self.sources:
            source.scan(source.roots(), self._context(source, room, hold_back, progress))
            self._keep_faults(source)
        self._more.set()

    def findings(self, source: Source) -> list[str]:
        """Return the homes of a source, their states and the usage that is not counted, as lines for people."""
        return [*(f"{source.name}: {_state_of(root)}" for root in source.candidates()), *self._left_out(source)]

    def _left_out(self, source: Source) -> list[str]:
        """Return the usage that is not counted and was not reported yet, with the reason and a way to count it."""
        counts, since_ms, given = source.counts, self._since[source.name], self.settings.since_ms
        known, copied = self._reported.get(source.name, (0, 0))
        if source.name in self._reported or source.name not in self.first:
            before = f"that is dated before {_day(since_ms)}, from when on usage counts. " + AGAIN.format(
                self.cursor.path
            )
        elif given is None:
            before = "that was there before the first run (--since, --backfill)"
        else:
            before = f"that is from before {_day(given)} (--since, --backfill)"
        kinds = ((counts.known, known, before), (counts.copied, copied, COPIED))
        lines = []
        for sessions, reported, why in kinds:
            fresh = dict(islice(sessions.items(), reported, None))
            if fresh:
                lines.append(
                    f"{source.name}: {sum(fresh.values()):,} tokens of {_sessions_of(fresh)} are not counted: {why}"
                )
        return lines

    def _log_findings(self, source: Source) -> None:
        """Log the findings of the first scan; after later ones only what else is not counted."""
        level = logging.WARNING if source.name in self._reported else logging.INFO
        lines = self._left_out(source) if source.name in self._reported else self.findings(source)
        self._reported[source.name] = len(source.counts.known), len(source.counts.copied)
        for line in lines:
            log.log(level, line)

    def _context(
        self, source: Source, room: Callable[[], bool], hold_back: float, progress: Progress = lambda *_: None
    ) -> ScanContext:
        return ScanContext(self._now_ms(), round(hold_back * 1000), self._since[source.name], room, progress)

    def once(self, progress: Progress = lambda *_: None) -> bool:
        """Scan and send; return whether everything was acknowledged."""

        def room() -> bool:
            return self.cursor.waiting() < self.settings.waiting or self.outbox.drain()

        self.scan(room, hold_back=0, progress=progress)
        return self.outbox.drain()

    def run(self, stop: threading.Event) -> None:
        """Read and send until `stop`."""
        sending = threading.Thread(target=self._send_until, args=(stop,), name="sidecar-send")
        sending.start()
        watchers = [Watcher(source.names) for source in self.sources]
        try:
            self._read_until(stop, watchers)
        finally:
            stop.set()
            self._more.set()
            for watcher in watchers:
                watcher.close()
            sending.join()

    def _send_until(self, stop: threading.Event) -> None:
        wait = 0.0
        while not stop.is_set():
            sent = self._try_to_send()
            if sent is None:
                self._more.wait(self.settings.tick * 5)
                self._more.clear()
            asked = max(1.0, self.outbox.wait)
            wait = min(max(asked, 2 * wait), self.settings.longest_wait) if sent is False else 0.0
            stop.wait(wait)

    def _try_to_send(self) -> bool | None:
        try:
            return self.outbox.send()
        except Exception:
            log.exception("sending failed; it is tried again")
            return False

    def _read_until(self, stop: threading.Event, watchers: list[Watcher]) -> None:
        def room() -> bool:
            while self.cursor.waiting() >= self.settings.waiting and not stop.is_set():
                stop.wait(self.settings.tick)
            return not stop.is_set()

        next_scan = 0.0
        while not stop.is_set():
            try:
                next_scan = self._read(room, watchers, next_scan)
            except Exception:
                log.exception("reading failed; it is tried again")
                next_scan = time.monotonic() + self.settings.scan_every
            stop.wait(self.settings.tick)

    def _read(self, room: Callable[[], bool], watchers: list[Watcher], next_scan: float) -> float:
        """Read what changed; return when the next scan of everything is due (monotonic seconds)."""
        scan = time.monotonic() >= next_scan
        begun = time.monotonic()
        for source, watcher in zip(self.sources, watchers, strict=True):
            roots = source.roots()
            scan |= watcher.follow(roots)
            sessions = _sessions(watcher, roots)
            sessions |= {name: root for name, (at, root) in source.again.items() if at <= self._now_ms()}
            if scan:
                source.scan(roots, self._context(source, room, self.settings.hold_back))
            elif sessions:
                source.touched(sessions, self._context(source, room, self.settings.hold_back))
            if scan or sessions:
                self._log_findings(source)
                self._keep_faults(source)
        self._more.set()
        if not scan:
            return next_scan
        return begun + self.settings.scan_every


AGAIN = (
    "--since and --backfill count at a first run only. To have one again, stop the sidecar, delete {} and start it "
    "with the option: single turns keep their ids and count once; sums of which no turn is known may count twice."
)


COPIED = "the usage file is taken for a copy of another session's, as forks by an old version of Mux have one"

_NAMED = 3


def _sessions_of(tokens: Mapping[str, int]) -> str:
    """Return how many sessions, and the names of a few."""
    if len(tokens) > _NAMED:
        return f"{len(tokens):,} sessions"
    return f"{len(tokens)} session{'s' * (len(tokens) != 1)} ({', '.join(tokens)})"


def _state_of(root: Path) -> str:
    if is_folder(root / "sessions"):
        return f"reads {root}"
    try:
        is_shut = not os.access(root, os.X_OK) if stat.S_ISDIR(root.stat().st_mode) else None
    except PermissionError:
        is_shut = True
    except OSError:
        return f"{root} is not there (yet)"
    why = {None: "is no folder", True: "may not be opened", False: "has no folder sessions (yet)"}[is_shut]
    return f"{root} {why}: nothing is read there"


def _day(at_ms: int) -> str:
    return "the beginning" if not at_ms else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _source(source: SourceSettings, cursor: Cursor, sign: Sign, environ: Mapping[str, str]) -> Source:
    if source.name == "tilth":
        return TilthSource(cursor, sign, source.roots, environ=environ)
    return MuxSource(cursor, sign, source.roots, finer=source.grain == "auto", environ=environ)


def _sessions(watcher: Watcher, roots: list[Path]) -> dict[str, Path]:
    """Return the sessions whose files changed, with their homes."""
    changed: dict[str, Path] = {}
    while True:
        try:
            paths = watcher.changes.get_nowait()
        except queue.Empty:
            return changed
        for path in paths:
            for root in roots:
                sessions = root / "sessions"
                if path.is_relative_to(sessions) and path != sessions:
                    changed[path.relative_to(sessions).parts[0]] = root
