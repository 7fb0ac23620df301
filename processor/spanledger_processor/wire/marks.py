"""A cheap look for words in bytes, before anything is decoded."""

from __future__ import annotations


class Marks:
    """Words that say that something may be of interest. Text may hold them by chance: structure decides later."""

    def __init__(self, markers: tuple[bytes, ...]) -> None:
        """A marker that holds another one is not looked for: wherever it stands, the other one does."""
        self._markers = tuple(
            marker for marker in dict.fromkeys(markers) if not any(o in marker for o in markers if o != marker)
        )

    def hits(self, body: bytes) -> tuple[bytes, ...]:
        """Those markers that stand in `body` at all; searching it is all that a request without any costs."""
        return tuple(marker for marker in self._markers if marker in body)
