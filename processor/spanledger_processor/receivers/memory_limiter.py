"""How many bytes of requests may be held at once, both protocols together, and how many of them by one sender."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class MemoryLimiter:
    """Bytes held never exceed `limit`. `changed` is called with how many are held.

    A quarter of it is kept for other senders where one (known by its host) holds the rest; a sender that holds nothing
    may take a request of any size that fits.
    """

    def __init__(self, limit: int, changed: Callable[[int], None]) -> None:
        self.limit = limit
        self.held = 0
        self._by_sender: Counter[str] = Counter()
        self._changed = changed

    def has_room_for(self, size: int) -> bool:
        """Return whether `size` more bytes could be held now."""
        return self.held + size <= self.limit

    def change(self, size: int, sender: str) -> None:
        """Hold `size` more bytes of a sender, or fewer where it is negative."""
        self.held += size
        self._by_sender[sender] += size
        if not self._by_sender[sender]:
            del self._by_sender[sender]
        self._changed(self.held)

    def share_allows(self, size: int, own: int, sender: str) -> bool:
        """Return whether a sender may hold `size` more bytes for a request that holds `own` already."""
        others = self._by_sender[sender] - own
        return not sender or not others or others + own + size <= self.limit - self.limit // 4


class Reservation:
    """What one request of `sender` (a host) holds of the limit."""

    def __init__(self, limiter: MemoryLimiter, sender: str = "") -> None:
        self._limiter = limiter
        self._sender = sender
        self._size = 0

    def grow(self, size: int) -> bool:
        """Hold `size` more bytes; False, and nothing changes, if there is no room for them."""
        return self.resize(self._size + size)

    def resize(self, size: int) -> bool:
        """Hold `size` bytes in all; False, and nothing changes, if there is no room for them."""
        more = size - self._size
        if more > 0 and not self._has_room_for(more):
            return False
        if more:
            self._size = size
            self._limiter.change(more, self._sender)
        return True

    def hold(self, size: int) -> None:
        """Hold `size` bytes in all where that is taken already; of more, as much as leaves half of the limit:
        a quarter for others, and a quarter without which nobody's message is read.
        """
        limiter = self._limiter
        more = size - self._size
        if more > 0:
            more = min(more, max(0, limiter.limit // 2 - limiter.held))
        if more:
            self._size += more
            limiter.change(more, self._sender)

    def _has_room_for(self, more: int) -> bool:
        limiter = self._limiter
        return limiter.has_room_for(more) and limiter.share_allows(more, self._size, self._sender)

    def release(self) -> None:
        """Hold nothing any more."""
        self.resize(0)
