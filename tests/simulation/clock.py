"""Virtual time: an event loop whose clock stands still while anything is ready, and jumps to the next timer else.

A run of hours takes as long as its work. Nothing in it may wait for a socket, and what is given to a thread is done
on the loop's own: by a real thread's speed, time would jump or the run would stall.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class StalledError(Exception):
    """Nothing is due and nothing is ready: whoever waits would wait for ever."""


class _Selector(selectors.DefaultSelector):
    """Never blocks; the time that it was asked to wait has passed instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise StalledError("nothing is due")
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that begins at 0 s of virtual time."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._virtual.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], T], *args: *Arguments
    ) -> asyncio.Future[T]:
        """Return the future of a function that is meant for another thread; the loop calls it at its next turn."""
        done: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
                done.set_exception(error)

        self.call_soon(work)
        return done


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in virtual time.

    Raises:
        StalledError: it waits for something that never comes.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
