"""Blocking work in one thread: in order, in batches, and never after whoever asked was told that it is not done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import pytest

from requests_out import soon
from spanledger_exporters.executor import SerialExecutor


class Worker:
    """Work that notes its batches, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def work(self, jobs: Sequence[str]) -> Sequence[str]:
        self.batches.append(list(jobs))
        self.begun.set()
        assert self.go_on.wait(30)
        if "bad" in jobs:
            raise ValueError("bad")
        return [job.upper() for job in jobs]

    async def hold(self, executor: SerialExecutor[str, str]) -> asyncio.Task[str | None]:
        """Keep the thread busy with one job."""
        self.go_on.clear()
        self.begun.clear()
        task = asyncio.create_task(executor.run("first", soon()))
        await asyncio.to_thread(self.begun.wait, 30)
        return task


@contextmanager
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop the loop's clock: what is begun meanwhile is begun before any deadline, however slow the machine is."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    with monkeypatch.context() as changed:
        changed.setattr(loop, "time", lambda: now)
        yield


async def passing(deadline: float) -> None:
    """Wait until the loop's timers for `deadline` have run: those that were set before this one's are due earlier."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_at(deadline + 0.01, passed.set)
    await passed.wait()


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
async def executor(worker: Worker) -> AsyncIterator[SerialExecutor[str, str]]:
    executor: SerialExecutor[str, str] = SerialExecutor("test", worker.work)
    yield executor
    worker.go_on.set()
    await executor.close()


async def test_what_comes_while_it_works_is_done_together(worker: Worker, executor: SerialExecutor[str, str]) -> None:
    first = await worker.hold(executor)
    others = [asyncio.create_task(executor.run(job, soon())) for job in "abc"]
    await asyncio.sleep(0)
    worker.go_on.set()
    assert [await task for task in (first, *others)] == ["FIRST", "A", "B", "C"]
    assert worker.batches == [["first"], ["a", "b", "c"]]


async def test_what_was_not_begun_by_its_deadline_is_never_done(
    worker: Worker, executor: SerialExecutor[str, str]
) -> None:
    first = await worker.hold(executor)
    assert await executor.run("late", soon(0.01)) is None
    assert await executor.run("later", soon(-1)) is None
    worker.go_on.set()
    assert await first == "FIRST"
    assert await executor.run("next", soon()) == "NEXT"
    assert worker.batches == [["first"], ["next"]]


async def test_what_was_begun_is_waited_for_beyond_its_deadline(
    worker: Worker, executor: SerialExecutor[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It will be done: to say that it was not would have it done twice."""
    worker.go_on.clear()
    with stopped_clock(monkeypatch):
        deadline = soon(0.01)
        task = asyncio.create_task(executor.run("slow", deadline))
        await asyncio.to_thread(worker.begun.wait, 30)
    await passing(deadline)
    assert not task.done()
    worker.go_on.set()
    assert await task == "SLOW"


async def test_who_gives_up_before_it_is_begun_has_it_not_done(
    worker: Worker, executor: SerialExecutor[str, str]
) -> None:
    first = await worker.hold(executor)
    given_up = asyncio.create_task(executor.run("given up", soon()))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait({given_up})
    worker.go_on.set()
    assert await first == "FIRST"
    assert worker.batches == [["first"]]


@pytest.mark.parametrize("late", [False, True], ids=["before the deadline", "after the deadline"])
async def test_who_gives_up_later_harms_nobody(
    late: bool,  # noqa: FBT001 - a parameter of pytest
    worker: Worker,
    executor: SerialExecutor[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever gives up while the job is being done."""
    worker.go_on.clear()
    with stopped_clock(monkeypatch):
        deadline = soon(0.01 if late else 30)
        given_up = asyncio.create_task(executor.run("given up", deadline))
        other = asyncio.create_task(executor.run("other", soon()))
        await asyncio.to_thread(worker.begun.wait, 30)
    if late:
        await passing(deadline)
    given_up.cancel()
    await asyncio.wait({given_up})
    worker.go_on.set()
    assert await other == "OTHER"


async def test_an_error_goes_to_those_who_wait_and_to_nobody_else(executor: SerialExecutor[str, str]) -> None:
    with pytest.raises(ValueError, match="bad"):
        await executor.run("bad", soon())
    assert await executor.run("next", soon()) == "NEXT"


async def test_closing_waits_for_what_was_asked_for(worker: Worker, executor: SerialExecutor[str, str]) -> None:
    first = await worker.hold(executor)
    second = asyncio.create_task(executor.run("second", soon()))
    await asyncio.sleep(0)
    closing = asyncio.create_task(executor.close())
    await asyncio.sleep(0)
    assert not closing.done()
    worker.go_on.set()
    await closing
    assert [await first, await second] == ["FIRST", "SECOND"]
