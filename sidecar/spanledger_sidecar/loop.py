"""Read what changed, make spans that wait on disk, and send them until they are acknowledged.

`start` is what `serve` calls: the sidecar runs in threads beside the server and hands its requests to a function.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

from spanledger_processor.model import ToolCall
from spanledger_processor.signing import Signer
from spanledger_sidecar.cursor import Cursor
from spanledger_sidecar.records import Sign
from spanledger_sidecar.sender import InProcess, Post, Sender
from spanledger_sidecar.sources.base import ScanContext, Source
from spanledger_sidecar.sources.mux.source import MuxSource
from spanledger_sidecar.sources.tilth.source import TilthSource
from spanledger_sidecar.watch import Watcher

SourceName: TypeAlias = Literal["mux", "tilth"]
Grain: TypeAlias = Literal["auto", "usage"]

SOURCES: tuple[SourceName, ...] = ("mux", "tilth")


@dataclass(frozen=True, slots=True)
class SourceSettings:
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
    sources: Sequence[SourceSettings] = field(default_factory=lambda: [SourceSettings(name) for name in SOURCES])
    since_ms: int | None = None
    settle: float = 2.0
    scan_every: float = 30.0
    scan_share: int = 200
    tick: float = 1.0
    batch: int = 512
    waiting: int = 100_000
    longest_wait: float = 60.0


log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def signing(signer: Signer) -> Sign:
    """`signer` as sources use it."""

    def sign(name: str, arguments: Any) -> tuple[str, str]:
        signature = signer.sign(ToolCall(name, arguments))
        return (signature.value, signature.scope) if signature is not None else ("", "")

    return sign


def start(settings: Settings, post: Post, signer: Signer) -> Running:
    """Run a sidecar in threads of its own; `post` is called from one of them with one encoded request at a time.

    Raises:
        CursorError: the state cannot be used.
    """
    return Running(Sidecar(settings, InProcess(post), signer))


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
    """Reads and sends. `scan` and `look` belong to one thread, `send_batch` may run on another."""

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
        self.sources: list[Source] = [_home(source, self.cursor, sign, environ) for source in settings.sources]
        self._since = {source.name: self._first_run(source.name) for source in self.sources}
        self._more = threading.Event()
        self._refused = False

    def __enter__(self) -> Sidecar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.sender.close()
        self.cursor.close()

    def _first_run(self, name: str) -> int:
        """From when usage counts: set at a source's first run, and kept."""
        kept: int | None = self.cursor.meta(f"{name} since")
        if kept is None:
            kept = self._now_ms() if self.settings.since_ms is None else self.settings.since_ms
            with self.cursor.write() as change:
                change.set_meta(f"{name} since", kept)
        elif self.settings.since_ms is not None and self.settings.since_ms != kept:
            log.warning("%s was started before: --since and --backfill count at the first run only", name)
        return kept

    def scan(self, room: Callable[[], bool], *, settle: float, progress: Progress = lambda *_: None) -> None:
        """ScanContext at everything once."""
        for source in self.sources:
            source.scan(source.roots(), self._look(source, room, settle, progress))
        self._more.set()

    def _look(
        self, source: Source, room: Callable[[], bool], settle: float, progress: Progress = lambda *_: None
    ) -> ScanContext:
        return ScanContext(self._now_ms(), round(settle * 1000), self._since[source.name], room, progress)

    def send_batch(self) -> bool | None:
        """Send what has waited longest: whether it was acknowledged, None if nothing waits."""
        batch = self.cursor.oldest(self.settings.batch)
        if not batch:
            return None
        if not self.sender.send([span for _, span in batch]):
            if not self._refused:
                log.warning("the endpoint does not take spans; %d wait, and are tried again", self.cursor.waiting())
            self._refused = True
            return False
        self.cursor.acknowledged(batch)
        if self._refused:
            log.warning("the endpoint takes spans again")
        self._refused = False
        return True

    def drain(self) -> bool:
        """Send all that waits; false as soon as something is not acknowledged."""
        while (sent := self.send_batch()) is not None:
            if not sent:
                return False
        return True

    def once(self, progress: Progress = lambda *_: None) -> bool:
        """Scan and send; whether all of it was acknowledged."""

        def room() -> bool:
            return self.cursor.waiting() < self.settings.waiting or self.drain()

        self.scan(room, settle=0, progress=progress)
        return self.drain()

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
            wait = min(max(1.0, 2 * wait), self.settings.longest_wait) if sent is False else 0.0
            stop.wait(wait)

    def _try_to_send(self) -> bool | None:
        try:
            return self.send_batch()
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
        """One turn of the reading loop; when the next scan of everything is due (monotonic seconds)."""
        scan = time.monotonic() >= next_scan
        begun = time.process_time()
        for source, watcher in zip(self.sources, watchers, strict=True):
            roots = source.roots()
            scan |= watcher.follow(roots)
            sessions = _sessions(watcher, roots)
            sessions |= {name: root for name, (at, root) in source.again.items() if at <= self._now_ms()}
            if scan:
                source.scan(roots, self._look(source, room, self.settings.settle))
            elif sessions:
                source.touched(sessions, self._look(source, room, self.settings.settle))
        self._more.set()
        if not scan:
            return next_scan
        took = time.process_time() - begun
        return time.monotonic() + max(self.settings.scan_every, took * self.settings.scan_share)


def _home(source: SourceSettings, cursor: Cursor, sign: Sign, environ: Mapping[str, str]) -> Source:
    if source.name == "tilth":
        return TilthSource(cursor, sign, source.roots, environ=environ)
    return MuxSource(cursor, sign, source.roots, finer=source.grain == "auto", environ=environ)


def _sessions(watcher: Watcher, roots: list[Path]) -> dict[str, Path]:
    """The sessions whose files changed, with their homes."""
    found: dict[str, Path] = {}
    while True:
        try:
            paths = watcher.changes.get_nowait()
        except queue.Empty:
            return found
        for path in paths:
            for root in roots:
                sessions = root / "sessions"
                if path.is_relative_to(sessions) and path != sessions:
                    found[path.relative_to(sessions).parts[0]] = root
