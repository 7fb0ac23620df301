"""How many bytes of requests may be held at once, both protocols together."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable


class Budget:
    """Bytes held never exceed `limit`. `changed` is told how many are held."""

    def __init__(self, limit: int, changed: Callable[[int], None]) -> None:
        self.limit = limit
        self.held = 0
        self._changed = changed
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, size: int) -> bool:
        """Hold `size` more bytes if there is room for them."""
        if self.held + size > self.limit:
            return False
        self._set(self.held + size)
        return True

    def give(self, size: int) -> None:
        """Let go of `size` bytes, and let those in that wait for room, first come first served."""
        self._set(self.held - size)
        while self._waiting:
            wanted, room = self._waiting[0]
            if not room.done():
                if not self.take(wanted):
                    return
                room.set_result(None)
            self._waiting.popleft()

    async def wait(self, size: int, seconds: float) -> bool:
        """Hold `size` more bytes as soon as there is room; False if there is none for so long."""
        if not self._waiting and self.take(size):
            return True
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (size, room)
        self._waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                await room
        except TimeoutError:
            return _given(room)
        except asyncio.CancelledError:
            if _given(room):
                self.give(size)
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(place)
        return True

    def _set(self, held: int) -> None:
        self.held = held
        self._changed(held)


def _given(room: asyncio.Future[None]) -> bool:
    return room.done() and not room.cancelled()


class Claim:
    """What one request holds of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def grow(self, size: int) -> bool:
        """Hold `size` more bytes if there is room for them."""
        if not self._budget.take(size):
            return False
        self._size += size
        return True

    async def reserve(self, size: int, seconds: float) -> bool:
        """Hold `size` more bytes, waiting so long for room."""
        if not await self._budget.wait(size, seconds):
            return False
        self._size += size
        return True

    def settle(self, size: int) -> bool:
        """Hold `size` bytes in all; False if that is more than before and there is no room for it."""
        if size > self._size:
            return self.grow(size - self._size)
        surplus, self._size = self._size - size, size
        self._budget.give(surplus)
        return True

    def release(self) -> None:
        """Hold nothing any more."""
        self.settle(0)
