"""Blocking work in order, off the event loop: one thread, and everything that waits for it done together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Ticket(Generic[Job, Result]):
    job: Job
    done: asyncio.Future[Result]
    begun: bool = False


class Lane(Generic[Job, Result]):
    """Runs `work` over batches of jobs; it returns one result for each job, in order."""

    def __init__(self, name: str, work: Callable[[Sequence[Job]], Sequence[Result]]) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._waiting: list[_Ticket[Job, Result]] = []
        self._pump: asyncio.Task[None] | None = None

    async def do(self, job: Job, deadline: float) -> Result | None:
        """The job's result; None if it was not begun by `deadline` (loop time), and then it never is.

        A job that was begun is waited for to its end: nobody can say of it that it was not done.
        """
        loop = asyncio.get_running_loop()
        left = deadline - loop.time()
        if left <= 0:
            return None
        ticket: _Ticket[Job, Result] = _Ticket(job, loop.create_future())
        self._waiting.append(ticket)
        if self._pump is None:
            self._pump = asyncio.create_task(self._run())
        try:
            await asyncio.wait({ticket.done}, timeout=left)
            return await ticket.done if ticket.begun else None
        finally:
            if not ticket.begun and ticket in self._waiting:
                self._waiting.remove(ticket)

    async def close(self) -> None:
        """Wait until nothing is left to do."""
        if self._pump is not None:
            await self._pump
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                for ticket in batch:
                    ticket.begun = True
                await self._finish(batch, loop)
        finally:
            self._pump = None

    async def _finish(self, batch: Sequence[_Ticket[Job, Result]], loop: asyncio.AbstractEventLoop) -> None:
        try:
            results = await loop.run_in_executor(self._thread, self._work, [ticket.job for ticket in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits for the job gets it
            for ticket in batch:
                if not ticket.done.done():
                    ticket.done.set_exception(error)
            return
        for ticket, result in zip(batch, results, strict=True):
            if not ticket.done.done():
                ticket.done.set_result(result)
