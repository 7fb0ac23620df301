"""Blocking work in order, off the event loop: one thread, and all jobs that wait run as one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")
Output = TypeVar("Output")


@dataclass(slots=True, eq=False)
class _Pending(Generic[Job, Output]):
    job: Job
    done: asyncio.Future[Output]
    begun: bool = False


class SerialExecutor(Generic[Job, Output]):
    """Runs `work` over batches of jobs; it returns one result for each job, in order."""

    def __init__(self, name: str, work: Callable[[Sequence[Job]], Sequence[Output]]) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._waiting: list[_Pending[Job, Output]] = []
        self._draining: asyncio.Task[None] | None = None

    async def run(self, job: Job, deadline: float) -> Output | None:
        """Return the job's result; None if it was not begun by `deadline` (loop time), and then it never is.

        A job that was begun is waited for to its end: nobody can say of it that it was not done.
        """
        loop = asyncio.get_running_loop()
        left = deadline - loop.time()
        if left <= 0:
            return None
        pending: _Pending[Job, Output] = _Pending(job, loop.create_future())
        self._waiting.append(pending)
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        try:
            await asyncio.wait({pending.done}, timeout=left)
            return await pending.done if pending.begun else None
        finally:
            if not pending.begun and pending in self._waiting:
                self._waiting.remove(pending)

    async def close(self) -> None:
        """Wait until nothing is left to do."""
        if self._draining is not None:
            await self._draining
        self._thread.shutdown(wait=False)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                for pending in batch:
                    pending.begun = True
                await self._finish(batch, loop)
        finally:
            self._draining = None

    async def _finish(self, batch: Sequence[_Pending[Job, Output]], loop: asyncio.AbstractEventLoop) -> None:
        try:
            results = await loop.run_in_executor(self._thread, self._work, [pending.job for pending in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits for the job gets it
            for pending in batch:
                if not pending.done.done():
                    pending.done.set_exception(error)
            return
        for pending, result in zip(batch, results, strict=True):
            if not pending.done.done():
                pending.done.set_result(result)
