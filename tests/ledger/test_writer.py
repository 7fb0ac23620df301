"""The writer thread: many works to a commit, each on its own, and the state lost and found again."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spanledger_processor.ledger import writer
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import (
    StateBrokenError,
    StateError,
    StateLockedError,
    Store,
    StoreUsage,
    Unit,
    UnitConflictError,
    UnitTooLargeError,
)
from spanledger_processor.ledger.writer import LedgerWriter, count_joint
from stores import cost_of, enter, open_store, spend


class Watcher:
    """Keeps what the writer tells."""

    def __init__(self) -> None:
        self.works: list[int] = []
        self.states: list[bool] = []
        self.usage: StoreUsage | None = None
        self.again = threading.Event()

    def committed(self, seconds: float, works: int, usage: StoreUsage) -> None:
        assert seconds >= 0
        self.works.append(works)
        self.usage = usage

    def available(self, available: bool) -> None:  # noqa: FBT001 - the writer's protocol
        if available and False in self.states:
            self.again.set()
        self.states.append(available)


class Faulty(MemoryStore):
    """A store whose commits fail as long as `error` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.error: StateError | None = None
        self.closed = 0

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        with super().unit() as unit:
            yield unit
            if self.error is not None:
                raise self.error

    def close(self) -> None:
        self.closed += 1


def _spend(name: str, cost: int = 1) -> Callable[[Unit], int]:
    def work(unit: Unit) -> int:
        enter(unit, spend(name, cost))
        return cost

    return work


def _cost(ledger: LedgerWriter, name: str) -> int:
    with ledger.snapshot() as reader:
        return cost_of(reader, name)


@pytest.fixture
def faulty() -> Faulty:
    return Faulty()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[LedgerWriter]:
    ledger = LedgerWriter(partial(open_store, tmp_path))
    yield ledger
    ledger.close()


class Gate:
    """A work that holds the writer's thread until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, unit: Unit) -> None:
        self.reached.set()
        assert self.open.wait(30)


async def _held(ledger: LedgerWriter) -> tuple[Gate, asyncio.Task[None]]:
    gate = Gate()
    task = asyncio.create_task(ledger.submit(gate))
    await asyncio.to_thread(gate.reached.wait, 30)
    return gate, task


async def test_a_work_is_stored_when_it_is_answered(ledger: LedgerWriter, tmp_path: Path) -> None:
    assert await ledger.submit(_spend("s", 5)) == 5
    assert _cost(ledger, "s") == 5


async def test_a_work_that_takes_long_lands_after_those_that_wait_and_alone() -> None:
    """Others would wait for it a second time: it begins when they have landed, the next time at the latest."""
    watcher = Watcher()
    ledger = LedgerWriter(MemoryStore, watcher)
    gate, held = await _held(ledger)
    order = list[str]()

    def work(name: str) -> Callable[[Unit], None]:
        return lambda _: order.append(name)

    works = (("a", False), ("part", True), ("b", False))
    submitted = [asyncio.create_task(ledger.submit(work(name), takes_long=long)) for name, long in works]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(held, *submitted)
    assert order == ["a", "b", "part"]
    assert watcher.works == [1, 2, 1]


async def test_works_that_wait_share_a_commit() -> None:
    watcher = Watcher()
    ledger = LedgerWriter(MemoryStore, watcher)
    gate, held = await _held(ledger)
    waiting = [asyncio.create_task(ledger.submit(_spend("s"))) for _ in range(100)]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(held, *waiting)
    assert watcher.works == [1, 100]
    assert _cost(ledger, "s") == 100
    assert watcher.usage is not None
    assert watcher.usage.records > 0
    ledger.close()


async def test_works_that_the_event_loop_is_still_about_to_bring_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are begun when nothing came for some turns of the loop."""
    monkeypatch.setattr(writer, "_GATHER_S", 60.0)
    watcher = Watcher()
    ledger = LedgerWriter(MemoryStore, watcher)

    async def later(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await ledger.submit(_spend("s"))

    await asyncio.gather(*map(later, range(0, 50, 5)))
    assert watcher.works == [10]
    ledger.close()


async def test_works_are_begun_although_the_event_loop_is_never_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first waits for `_GATHER_S` at most, however many come behind it: here four in that time."""
    now = [0.0]
    monkeypatch.setattr(writer, "time", SimpleNamespace(monotonic=lambda: now[0], thread_time=time.thread_time))
    ledger = LedgerWriter(MemoryStore)
    begun = threading.Event()

    async def later() -> None:
        now[0] += writer._GATHER_S / 4
        await ledger.submit(lambda _: begun.set())

    works = list[asyncio.Task[None]]()
    for _ in range(8):
        works.append(asyncio.create_task(later()))
        await asyncio.sleep(0)
    assert begun.wait(10), "while the event loop has no other turn"
    await asyncio.gather(*works)
    ledger.close()


async def test_works_that_were_there_at_once_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their senders send again at about one time. One that takes long is begun by itself, and waits for none."""
    monkeypatch.setattr(writer, "_GATHER_S", 60.0)
    watcher = Watcher()
    ledger = LedgerWriter(MemoryStore, watcher)
    gate, held = await _held(ledger)
    first = [asyncio.create_task(ledger.submit(_spend("s"))) for _ in range(3)]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(held, *first)

    monkeypatch.setattr(writer, "_QUIET_S", 60.0)
    again = list[asyncio.Task[int]]()
    for _ in range(3):
        again.append(asyncio.create_task(ledger.submit(_spend("s"))))
        for _ in range(100):
            await asyncio.sleep(0)
        assert 0 < ledger._begin_at < math.inf or len(again) == 3, "not begun yet"
    await asyncio.gather(*again)
    assert watcher.works == [1, 3, 3]
    await ledger.submit(_spend("s"), takes_long=True)
    assert watcher.works == [1, 3, 3, 1]
    ledger.close()


async def test_works_that_do_not_come_again_are_not_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_GATHER_S", 60.0)
    watcher = Watcher()
    ledger = LedgerWriter(MemoryStore, watcher)
    await asyncio.gather(*(ledger.submit(_spend("s")) for _ in range(3)))
    for _ in range(3):
        await ledger.submit(_spend("s"))
    assert watcher.works == [3, 1, 1, 1]
    ledger.close()


async def test_a_work_that_comes_after_one_was_withdrawn_is_begun() -> None:
    ledger = LedgerWriter(MemoryStore)
    for turns in range(30):
        withdrawn = asyncio.create_task(ledger.submit(_spend("s")))
        for _ in range(turns):
            await asyncio.sleep(0)
        withdrawn.cancel()
        await asyncio.gather(withdrawn, return_exceptions=True)
        assert await ledger.submit(_spend("s")) == 1
    ledger.close()


async def test_works_that_come_while_others_gather_are_not_left_when_the_ledger_closes() -> None:
    ledger = LedgerWriter(MemoryStore)
    task = asyncio.create_task(ledger.submit(_spend("s")))
    await asyncio.sleep(0)
    await asyncio.to_thread(ledger.close)
    assert await task == 1


@dataclass
class Joint:
    """A joint work of `size` parts, which notes how it was done."""

    name: str
    size: int
    done: list[str]
    kind: str = "a"
    fails: bool = False

    def __call__(self, unit: Unit) -> str:
        if self.fails:
            raise KeyError(self.name)
        enter(unit, spend("s"))
        self.done.append(self.name)
        return self.name

    def joins(self, other: Any) -> bool:
        return isinstance(other, Joint) and self.kind == other.kind

    def together(self, works: Sequence[Any], unit: Unit) -> list[str]:
        enter(unit, spend("s", len(works)))
        if any(work.fails for work in works):
            raise KeyError("together")
        self.done.append("+".join(work.name for work in works))
        return [work.name for work in works]


async def _done(works: Sequence[Any], long: int = -1) -> tuple[list[Any], int]:
    """The results of works that waited together, and what they spent."""
    ledger = LedgerWriter(MemoryStore)
    gate, held = await _held(ledger)
    tasks = [asyncio.create_task(ledger.submit(work, takes_long=n == long)) for n, work in enumerate(works)]
    await asyncio.sleep(0)
    gate.open.set()
    await held
    results = await asyncio.gather(*tasks, return_exceptions=True)
    spent = _cost(ledger, "s")
    ledger.close()
    return results, spent


async def test_works_that_can_be_are_done_together() -> None:
    """In the order in which they came, those behind one another, of one kind and not too large."""
    done: list[str] = []
    works = [Joint(name, 800, done) for name in "abcd"] + [Joint("e", 1, done, "b"), Joint("f", 1, done, "b")]
    results, spent = await _done(works)
    assert done == ["a+b", "c+d", "e+f"]
    assert results == [*"abcdef"]
    assert spent == 6


async def test_steps_to_find_works_that_can_be_done_together_grow_with_their_number_alone() -> None:
    """The event loop waits meanwhile to let a work wait."""
    asked: list[str] = []

    class Sized:
        @property
        def size(self) -> int:
            asked.append("size")
            return 1

        def joins(self, other: Any) -> bool:
            asked.append("joins")
            return isinstance(other, Sized)

    assert count_joint(Sized() for _ in range(3000)) == 2048
    assert len(asked) <= 2 * 2048
    assert count_joint([Sized(), 1]) == count_joint([1, Sized()]) == 1


async def test_a_work_that_takes_long_is_done_alone() -> None:
    done: list[str] = []
    results, _ = await _done([Joint(name, 1, done) for name in "abc"], long=1)
    assert done == ["a", "c", "b"]
    assert results == [*"abc"]


async def test_works_that_fail_together_are_done_alone() -> None:
    done: list[str] = []
    results, spent = await _done([Joint("a", 1, done), Joint("b", 1, done, fails=True), Joint("c", 1, done)])
    assert done == ["a", "c"]
    assert [results[0], results[2]] == ["a", "c"]
    assert isinstance(results[1], KeyError)
    assert spent == 2


async def test_works_see_those_before_them(ledger: LedgerWriter) -> None:
    def work(unit: Unit) -> int:
        enter(unit, spend("s"))
        return cost_of(unit, "s")

    assert await asyncio.gather(*(ledger.submit(work) for _ in range(50))) == list(range(1, 51))


async def test_a_work_that_raises_leaves_nothing_and_harms_no_other(ledger: LedgerWriter) -> None:
    def fails(unit: Unit) -> None:
        enter(unit, spend("s", 1000))
        raise KeyError("mine")

    works = [fails if number % 3 == 0 else _spend("s") for number in range(30)]
    results = await asyncio.gather(*(ledger.submit(work) for work in works), return_exceptions=True)
    assert [isinstance(result, KeyError) for result in results] == [number % 3 == 0 for number in range(30)]
    assert _cost(ledger, "s") == 20


async def test_a_commit_that_fails_fails_all_its_works_and_the_next_may_succeed(faulty: Faulty) -> None:
    watcher = Watcher()
    ledger = LedgerWriter(lambda: faulty, watcher)
    faulty.error = StateError("no space left")
    results = await asyncio.gather(*(ledger.submit(_spend("s")) for _ in range(5)), return_exceptions=True)
    assert [(type(result), str(result)) for result in results] == [(StateError, "no space left")] * 5
    assert ledger.problem == "no space left"
    faulty.error = None
    await ledger.submit(_spend("s"))
    assert _cost(ledger, "s") == 1
    assert watcher.states == [True, False, True]
    assert faulty.closed == 0, "a store that is only full stays open"
    ledger.close()


@pytest.mark.parametrize("conflicts", [1, 3])
async def test_a_unit_that_another_writer_got_in_the_way_of_is_run_again(faulty: Faulty, conflicts: int) -> None:
    """With all its works, each of them once."""
    runs: list[int] = []

    def work(unit: Unit) -> int:
        runs.append(len(runs))
        faulty.error = UnitConflictError("changed") if len(runs) <= conflicts else None
        return _spend("a")(unit)

    ledger = LedgerWriter(lambda: faulty)
    try:
        assert await ledger.submit(work) == 1
        assert ledger.problem is None
        assert _cost(ledger, "a") == 1
    finally:
        ledger.close()
    assert len(runs) == conflicts + 1


async def test_a_unit_that_others_always_get_in_the_way_of_fails(faulty: Faulty) -> None:
    faulty.error = UnitConflictError("changed")
    ledger = LedgerWriter(lambda: faulty)
    try:
        with pytest.raises(StateError):
            await ledger.submit(_spend("a"))
        faulty.error = None
        assert await ledger.submit(_spend("b")) == 1
        assert _cost(ledger, "a") == 0
    finally:
        ledger.close()


class Small(MemoryStore):
    """Has room for what one or two sessions spend at once, and no more."""

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        with super().unit() as unit:
            yield unit
            if sum(cost_of(unit, name) > 0 for name in "abc") > sum(_cost_in(self, name) > 0 for name in "abc") + 2:
                raise UnitTooLargeError("full")


def _cost_in(store: MemoryStore, name: str) -> int:
    with store.snapshot() as reader:
        return cost_of(reader, name)


async def test_works_that_are_too_large_together_land_one_by_one() -> None:
    ledger = LedgerWriter(Small)

    def all_at_once(unit: Unit) -> None:
        for name in "abc":
            enter(unit, spend(name))

    with pytest.raises(UnitTooLargeError):
        await ledger.submit(all_at_once)
    assert ledger.problem is None, "smaller ones fit"
    gate, held = await _held(ledger)
    waiting = [asyncio.create_task(ledger.submit(_spend(name))) for name in "abc"]
    await asyncio.sleep(0)
    gate.open.set()
    await held
    assert await asyncio.gather(*waiting) == [1, 1, 1]
    assert [_cost(ledger, name) for name in "abc"] == [1, 1, 1]
    ledger.close()


async def test_a_commit_that_fails_fails_none_that_wait_behind_it(faulty: Faulty) -> None:
    ledger = LedgerWriter(lambda: faulty)
    gate, held = await _held(ledger)
    faulty.error = StateError("one too large")

    def mends(unit: Unit) -> None:
        faulty.error = None

    waiting = asyncio.create_task(ledger.submit(mends))
    await asyncio.sleep(0)
    gate.open.set()
    with pytest.raises(StateError, match="one too large"):
        await held
    await waiting
    await ledger.submit(_spend("s"))
    ledger.close()


async def test_an_observer_that_fails_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Watcher):
        def committed(self, seconds: float, works: int, usage: StoreUsage) -> None:
            raise KeyError("telemetry")

    ledger = LedgerWriter(MemoryStore, Failing())
    for cost in (1, 2):
        assert await ledger.submit(_spend("s", cost)) == cost
    assert _cost(ledger, "s") == 3
    ledger.close()
    assert "after a commit that landed" in caplog.text


async def test_upkeep_that_fails_does_not_end_the_writer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Messy(MemoryStore):
        def maintain(self) -> bool:
            tended.set()
            raise KeyError("upkeep")

    tended = threading.Event()
    monkeypatch.setattr(writer, "_MAINTAIN_EVERY_S", 0.001)
    ledger = LedgerWriter(Messy)
    assert await asyncio.to_thread(tended.wait, 30)
    assert await ledger.submit(_spend("s", 2)) == 2
    ledger.close()
    assert "upkeep failed" in caplog.text


async def test_a_broken_store_is_closed_and_opened_anew(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_RETRY_S", 0.05)
    monkeypatch.setattr(writer, "_MAINTAIN_EVERY_S", 0.01)
    healthy = MemoryStore()
    stores: list[Store] = [faulty, healthy]
    watcher = Watcher()
    ledger = LedgerWriter(lambda: stores.pop(0), watcher)
    faulty.error = StateBrokenError("damaged")
    with pytest.raises(StateError, match="damaged"):
        await ledger.submit(_spend("s"))
    assert faulty.closed == 1
    assert await asyncio.to_thread(watcher.again.wait, 30)
    await ledger.submit(_spend("s"))
    with healthy.snapshot() as reader:
        assert cost_of(reader, "s") == 1
    ledger.close()


async def test_a_state_that_cannot_be_opened_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` begins without it, and finds it when the folder can be written."""
    monkeypatch.setattr(writer, "_RETRY_S", 0.05)
    monkeypatch.setattr(writer, "_MAINTAIN_EVERY_S", 0.01)
    (tmp_path / "state").write_text("in the way")
    watcher = Watcher()
    ledger = LedgerWriter(partial(open_store, tmp_path / "state"), watcher)
    with pytest.raises(StateError, match=r"give state\.path a folder"):
        await ledger.submit(_spend("s"))
    with pytest.raises(StateError, match=r"give state\.path a folder"), ledger.snapshot():
        pass
    (tmp_path / "state").unlink()
    assert await asyncio.to_thread(watcher.again.wait, 30)
    await ledger.submit(_spend("s", 9))
    assert _cost(ledger, "s") == 9
    ledger.close()


async def test_a_damaged_ledger_that_is_moved_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its message says to do; `serve` needs no restart."""
    monkeypatch.setattr(writer, "_RETRY_S", 0.05)
    monkeypatch.setattr(writer, "_MAINTAIN_EVERY_S", 0.01)
    open_store(tmp_path).close()
    (tmp_path / "ledger" / "data.mdb").write_bytes(b"damaged" * 5000)
    watcher = Watcher()
    ledger = LedgerWriter(partial(open_store, tmp_path), watcher)
    with pytest.raises(StateError, match=rf"move {tmp_path}/ledger away"):
        await ledger.submit(_spend("s"))
    (tmp_path / "ledger").rename(tmp_path / "damaged")
    assert await asyncio.to_thread(watcher.again.wait, 30)
    await ledger.submit(_spend("s", 8))
    assert _cost(ledger, "s") == 8
    ledger.close()


def test_a_locked_folder_is_told_at_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(StateLockedError):
        LedgerWriter(partial(open_store, tmp_path))
    store.close()


async def test_closing_finishes_what_was_submitted(tmp_path: Path) -> None:
    ledger = LedgerWriter(partial(open_store, tmp_path, durability="async"))
    gate, held = await _held(ledger)
    waiting = [asyncio.create_task(ledger.submit(_spend("s"))) for _ in range(20)]
    await asyncio.sleep(0)
    gate.open.set()
    ledger.close()
    await asyncio.gather(held, *waiting)
    with pytest.raises(StateError, match="closed"):
        await ledger.submit(_spend("s"))
    store = open_store(tmp_path, read_only=True)
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == 20
    store.close()


async def test_the_event_loop_goes_on_while_a_commit_hangs(ledger: LedgerWriter) -> None:
    gate, held = await _held(ledger)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not held.done()
    gate.open.set()
    await held


async def test_a_work_behind_a_commit_that_hangs_is_never_done(
    ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its spans have gone on as not_accounted; to count them afterwards would make the sums untrue."""
    monkeypatch.setattr(writer, "_WORK_PATIENCE_S", 0.02)
    monkeypatch.setattr(writer, "_PATIENCE_S", 0.02)
    gate, held = await _held(ledger)
    for _ in range(2):
        with pytest.raises(StateError, match="has not answered"):
            await ledger.submit(_spend("s"))
    monkeypatch.undo()
    gate.open.set()
    await held
    await ledger.submit(_spend("s", 10))
    assert _cost(ledger, "s") == 10


async def test_a_write_that_runs_is_not_taken_for_a_disk_that_hangs(
    ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine whose CPUs are busy a commit of 250 sessions took more than five seconds: its spans went on as
    not_accounted although the disk was well.
    """
    ran = itertools.count(1)
    monkeypatch.setattr(writer, "_WORK_PATIENCE_S", 0.0)
    monkeypatch.setattr(writer, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(writer, "_cpu_seconds", lambda _: next(ran))
    gate, held = await _held(ledger)
    waiting = [asyncio.create_task(ledger.submit(_spend("s"))) for _ in range(3)]
    for _ in range(100):
        await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    assert next(ran) > 50, "they looked"
    gate.open.set()
    await asyncio.gather(held, *waiting)
    assert _cost(ledger, "s") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only there the system is asked")
def test_the_clock_of_a_thread_that_has_ended_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask for it may end the process (time.pthread_getcpuclockid)."""
    thread = threading.Thread(target=str)
    thread.start()
    thread.join()
    asked: list[int] = []
    monkeypatch.setattr(time, "pthread_getcpuclockid", asked.append)
    assert (writer._cpu_seconds(thread), asked) == (0.0, [])


async def test_a_work_that_computes_for_long_is_not_taken_for_a_disk_that_hangs(
    ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those behind it wait, however often they look."""
    monkeypatch.setattr(writer, "_PATIENCE_S", 0.001)
    begun, go_on, looked = threading.Event(), threading.Event(), asyncio.Semaphore(0)
    give_up = ledger._give_up_if_hanging

    def looks(job: Any) -> None:
        looked.release()
        give_up(job)

    def computes(unit: Unit) -> None:
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr(ledger, "_give_up_if_hanging", looks)
    first = asyncio.create_task(ledger.submit(computes))
    await asyncio.to_thread(begun.wait, 30)
    second = asyncio.create_task(ledger.submit(_spend("s", 10)))
    for _ in range(10):
        await looked.acquire()
    go_on.set()
    await asyncio.gather(first, second)
    assert _cost(ledger, "s") == 10


async def test_a_cancelled_work_that_had_not_begun_is_never_done(ledger: LedgerWriter) -> None:
    gate, held = await _held(ledger)
    waiting = asyncio.create_task(ledger.submit(_spend("s")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.open.set()
    await held
    await ledger.submit(_spend("s", 10))
    assert _cost(ledger, "s") == 10


async def test_too_many_waiting_works_are_refused(ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_MOST_WAITING", 3)
    gate, held = await _held(ledger)
    waiting = [asyncio.create_task(ledger.submit(_spend("s"))) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(StateError, match="3 requests wait"):
        await ledger.submit(_spend("s"))
    gate.open.set()
    await asyncio.gather(held, *waiting)
    assert _cost(ledger, "s") == 3


async def test_what_async_holds_back_is_written_within_seconds(tmp_path: Path) -> None:
    """By the writer's own upkeep, without another work that would bring it along."""
    ledger = LedgerWriter(
        partial(LmdbStore.open, tmp_path, max_size_mib=16, durability="async", retention_ns=3600 * 10**9)
    )
    await ledger.submit(_spend("s", 4))
    other = await asyncio.to_thread(_stored_elsewhere, tmp_path)
    assert other == "4\n"
    ledger.close()


_WAIT = """
import sys
from pathlib import Path
from stores import cost_of, open_store
from tools.programs import eventually

def cost():
    store = open_store(Path(sys.argv[1]), read_only=True)
    try:
        with store.snapshot() as reader:
            return cost_of(reader, "s") or False
    finally:
        store.close()

print(eventually(cost))
"""


async def test_attempts_to_open_are_not_made_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor ever put off by works that come in between."""
    monkeypatch.setattr(writer, "_MAINTAIN_EVERY_S", 0.001)
    monkeypatch.setattr(writer, "_RETRY_S", 0.2)
    attempts = []
    third = threading.Event()

    def open_later() -> Store:
        attempts.append(time.monotonic())
        if len(attempts) < 3:
            raise StateError("not yet")
        third.set()
        return MemoryStore()

    ledger = LedgerWriter(open_later)
    while not await asyncio.to_thread(third.wait, 0.01):
        with suppress(StateError):
            await ledger.submit(_spend("s"))
    assert [later - earlier >= 0.2 for earlier, later in itertools.pairwise(attempts)] == [True, True]
    ledger.close()


def _stored_elsewhere(folder: Path) -> str:
    support = str(Path(__file__).parents[1] / "support")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([support, *sys.path])}
    return subprocess.run(
        [sys.executable, "-c", _WAIT, str(folder)], env=environ, capture_output=True, text=True, check=True
    ).stdout
