"""How many bytes of requests may be held at once, both protocols together."""

from __future__ import annotations

from collections.abc import Callable


class MemoryLimiter:
    """Bytes held never exceed `limit`. `changed` is called with how many are held."""

    def __init__(self, limit: int, changed: Callable[[int], None]) -> None:
        self.limit = limit
        self.held = 0
        self._changed = changed

    def has_room_for(self, size: int) -> bool:
        """Return whether `size` more bytes could be held now."""
        return self.held + size <= self.limit

    def change(self, size: int) -> None:
        """Hold `size` more bytes, or fewer where it is negative."""
        self.held += size
        self._changed(self.held)


class Reservation:
    """What one request holds of the limit."""

    def __init__(self, limiter: MemoryLimiter) -> None:
        self._limiter = limiter
        self._size = 0

    def grow(self, size: int) -> bool:
        """Hold `size` more bytes; False, and nothing changes, if there is no room for them."""
        return self.resize(self._size + size)

    def resize(self, size: int) -> bool:
        """Hold `size` bytes in all; False, and nothing changes, if there is no room for them."""
        more = size - self._size
        if more > 0 and not self._limiter.has_room_for(more):
            return False
        if more:
            self._size = size
            self._limiter.change(more)
        return True

    def release(self) -> None:
        """Hold nothing any more."""
        self.resize(0)
