"""Report which sessions' files changed, from the system's events."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from watchfiles import Change, watch

from spanledger_sidecar.files import identity_of

log = logging.getLogger(__name__)

_DEBOUNCE_MS = 500
_STEP_MS = 200


@dataclass(slots=True)
class Watcher:
    """Watches the `sessions` folders of homes in a thread: folders, since every rename gives a file a new inode.

    What changed comes into `changes` as paths. Where the system cannot watch so much, the scans must do.
    """

    names: Collection[str]
    changes: queue.SimpleQueue[set[Path]] = field(default_factory=queue.SimpleQueue)
    watched: tuple[tuple[Path, str], ...] = ()
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def follow(self, roots: Iterable[Path]) -> bool:
        """Watch these homes from now on, instead of others; whether that is new, so that a scan is due."""
        folders = tuple((path, identity_of(path)) for root in roots if (path := root / "sessions").is_dir())
        if folders == self.watched:
            return False
        self.close()
        self.watched = folders
        if folders:
            self._stop = threading.Event()
            watched = tuple(path for path, _ in folders)
            self._thread = threading.Thread(target=self._run, args=(watched, self._stop), daemon=True)
            self._thread.start()
        return True

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, folders: tuple[Path, ...], stop: threading.Event) -> None:
        try:
            for changes in watch(
                *folders,
                watch_filter=self._wanted,
                debounce=_DEBOUNCE_MS,
                step=_STEP_MS,
                stop_event=stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self.changes.put({Path(path) for _, path in changes})
        except (OSError, RuntimeError) as error:
            log.warning("no events for %s, changes are found by scans only: %s", ", ".join(map(str, folders)), error)

    def _wanted(self, _: Change, path: str) -> bool:
        return path.rpartition("/")[2] in self.names
