"""Work at intervals, concurrently with requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from spanledger_processor.ledger.store import StateError

log = logging.getLogger(__name__)


class PeriodicTask:
    """Awaits `work` again and again until it is stopped; `work` returns the seconds to wait before it runs again.

    An error does not end it: it is logged as `failure`, and `work` runs again after `interval` seconds. A `StateError`
    is not logged, since the ledger's writer does that.
    """

    def __init__(self, work: Callable[[], Awaitable[float]], interval: float, failure: str) -> None:
        self._work = work
        self._interval = interval
        self._failure = failure
        self._task: asyncio.Task[None] | None = None

    def start(self, after: float = 0.0) -> None:
        """Begin to run, `after` seconds from now."""
        self._task = asyncio.create_task(self._run(after))

    async def stop(self) -> None:
        """Cancel the work under way, and wait until it has ended."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, wait: float) -> None:
        while True:
            await asyncio.sleep(wait)
            wait = self._interval
            try:
                wait = await self._work()
            except StateError:
                pass
            except Exception:
                log.exception("%s", self._failure)
