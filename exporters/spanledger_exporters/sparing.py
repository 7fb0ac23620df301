"""Log lines that tell of a state which lasts: the first at once, then one now and then with the number left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Kind:
    last: float
    left_out: int = 0


class Sparing:
    """Lets one line of each kind through in `interval` seconds. Kinds are few: names of exporters, not of requests."""

    def __init__(self, interval: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._kinds: dict[Hashable, _Kind] = {}

    def due(self, kind: Hashable) -> int | None:
        """How many lines of this kind were left out since the last; None if this one is to be left out too."""
        now = self._clock()
        known = self._kinds.get(kind)
        if known is None:
            self._kinds[kind] = _Kind(now)
            return 0
        if now - known.last < self._interval:
            known.left_out += 1
            return None
        left_out, known.left_out, known.last = known.left_out, 0, now
        return left_out
