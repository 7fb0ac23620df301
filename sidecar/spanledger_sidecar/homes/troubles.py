"""Files that cannot be used: told once each time they change, and counted."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

_KEPT = 10_000


class Troubles:
    """Call it with a file and why it cannot be used. `count` is how often that was news."""

    def __init__(self) -> None:
        self.count = 0
        self._told: dict[Path, tuple[str, int, int]] = {}

    def __call__(self, path: Path, why: str) -> None:
        try:
            status = os.lstat(path)
            news = (why, status.st_mtime_ns, status.st_size)
        except OSError:
            news = (why, 0, 0)
        if self._told.get(path) == news:
            return
        if len(self._told) >= _KEPT:
            self._told.clear()
        self._told[path] = news
        self.count += 1
        log.warning("%s %s; it is tried again when it changes", path, why)
