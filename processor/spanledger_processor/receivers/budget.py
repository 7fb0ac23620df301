"""How many bytes of requests may be held at once, both protocols together."""

from __future__ import annotations

from collections.abc import Callable


class Budget:
    """Bytes held never exceed `limit`. `changed` is told how many are held."""

    def __init__(self, limit: int, changed: Callable[[int], None]) -> None:
        self.limit = limit
        self.held = 0
        self._changed = changed

    def has_room_for(self, size: int) -> bool:
        """Whether `size` more bytes could be held now."""
        return self.held + size <= self.limit

    def change(self, size: int) -> None:
        """Hold `size` more bytes, or fewer where it is negative."""
        self.held += size
        self._changed(self.held)


class Claim:
    """What one request holds of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def grow(self, size: int) -> bool:
        """Hold `size` more bytes; False, and nothing changes, if there is no room for them."""
        return self.settle(self._size + size)

    def settle(self, size: int) -> bool:
        """Hold `size` bytes in all; False, and nothing changes, if there is no room for them."""
        more = size - self._size
        if more > 0 and not self._budget.has_room_for(more):
            return False
        if more:
            self._size = size
            self._budget.change(more)
        return True

    def release(self) -> None:
        """Hold nothing any more."""
        self.settle(0)
