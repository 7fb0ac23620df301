"""A cheap look for words in bytes, before anything is decoded."""

from __future__ import annotations


class Marks:
    """Words that say that something may be of interest. Text may hold them by chance: structure decides later."""

    def __init__(self, markers: tuple[bytes, ...]) -> None:
        self._markers = markers

    def hits(self, body: bytes) -> tuple[bytes, ...]:
        """Those markers that stand in `body` at all."""
        return tuple(marker for marker in self._markers if marker in body)
