"""The loop: what changed is read, made into spans that wait on disk, and sent until acknowledged.

`start` is what `serve` calls: the sidecar runs in threads beside the server and hands its requests to a function.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from spanledger_processor.model import ToolCall
from spanledger_processor.signing import Signer
from spanledger_sidecar.cursor import Cursor
from spanledger_sidecar.homes.home import Home, Look
from spanledger_sidecar.homes.mux import MuxHome
from spanledger_sidecar.homes.tilth import TilthHome
from spanledger_sidecar.senders import InProcess, Post, Sender
from spanledger_sidecar.settings import Settings, Source
from spanledger_sidecar.values import Sign
from spanledger_sidecar.watch.events import Watcher

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
        self.homes: list[Home] = [_home(source, self.cursor, sign, environ) for source in settings.sources]
        self._since = {home.name: self._first_run(home.name) for home in self.homes}
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
        """Look at everything once."""
        for home in self.homes:
            home.scan(home.roots(), self._look(home, room, settle, progress))
        self._more.set()

    def _look(self, home: Home, room: Callable[[], bool], settle: float, progress: Progress = lambda *_: None) -> Look:
        return Look(self._now_ms(), round(settle * 1000), self._since[home.name], room, progress)

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
        watchers = [Watcher(home.names) for home in self.homes]
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
        for home, watcher in zip(self.homes, watchers, strict=True):
            roots = home.roots()
            scan |= watcher.follow(roots)
            sessions = _sessions(watcher, roots)
            sessions |= {name: root for name, (at, root) in home.again.items() if at <= self._now_ms()}
            if scan:
                home.scan(roots, self._look(home, room, self.settings.settle))
            elif sessions:
                home.touched(sessions, self._look(home, room, self.settings.settle))
        self._more.set()
        if not scan:
            return next_scan
        took = time.process_time() - begun
        return time.monotonic() + max(self.settings.scan_every, took * self.settings.scan_share)


def _home(source: Source, cursor: Cursor, sign: Sign, environ: Mapping[str, str]) -> Home:
    if source.name == "tilth":
        return TilthHome(cursor, sign, source.roots, environ=environ)
    return MuxHome(cursor, sign, source.roots, finer=source.grain == "auto", environ=environ)


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
