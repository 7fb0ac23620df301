"""One thread that writes to the ledger, many requests to a commit; the event loop never waits for a disk.

`ReopeningStore` opens the store again when it breaks.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice, takewhile
from threading import Condition, Thread
from typing import Any, Protocol, TypeVar

from spanledger_processor.ledger.store import (
    Reader,
    StateBrokenError,
    StateError,
    StateLockedError,
    Store,
    StoreUsage,
    Unit,
    UnitConflictError,
    UnitTooLargeError,
)

_RETRY_S = 2.0
"""Between two attempts to open it."""


class ReopeningStore:
    """Holds the store that can be used now, or the reason why there is none."""

    def __init__(self, open_store: Callable[[], Store], available: Callable[[bool], None]) -> None:
        """Open the store; `available` is called whenever that changes.

        Raises:
            StateLockedError: another process writes to it, which does not pass with waiting.
        """
        self._open_store = open_store
        self._available = available
        self._store: Store | None = None
        self.problem: str | None = ""
        """Why the last attempt to use it failed; None if it did not."""
        self._next_attempt = 0.0
        try:
            self._use(open_store())
        except StateLockedError:
            raise
        except StateError as error:
            self._fail(error)

    def ready(self) -> Store:
        """Return the store that can be used now.

        Raises:
            StateError: there is none now.
        """
        store = self._store
        if store is None:
            raise StateError(self.problem or "")
        return store

    def retry(self) -> None:
        """Open it again, if it is not open and the last attempt was a while ago."""
        if self._store is not None or time.monotonic() < self._next_attempt:
            return
        try:
            self._use(self._open_store())
        except StateError as error:
            self._fail(error)

    def succeeded(self) -> None:
        """Note that the store could be used."""
        if self.problem is not None:
            self.problem = None
            log.info("the ledger is available")
            self._available(True)

    def failed(self, error: StateError) -> None:
        """Note that the store failed. Without a store nothing was tried, and the time of the next attempt stays."""
        store = self._store
        if store is None:
            return
        if isinstance(error, StateBrokenError):
            self._store = None
            _close(store)
        self._fail(error)

    def close(self) -> None:
        """Close the store for good.

        Raises:
            StateError: what it held back could not be written.
        """
        store, self._store, self.problem = self._store, None, "the ledger is closed"
        if store is not None:
            store.close()

    def _use(self, store: Store) -> None:
        self._store = store
        self.succeeded()

    def _fail(self, error: StateError) -> None:
        self._next_attempt = time.monotonic() + _RETRY_S
        if self.problem != str(error):
            log.error("the ledger is not available, spans go on as not_accounted: %s", error)
            self._available(False)
        self.problem = str(error)


def _close(store: Store) -> None:
    try:
        store.close()
    except StateError as error:
        log.error("closing the ledger: %s", error)


log = logging.getLogger(__name__)

T = TypeVar("T")

_QUIET_TURNS = 12
"""Turns of the event loop without another work after which those that wait are begun: what is being received and read
comes along, and works that are done together take fewer steps. One sender alone waits for these turns in vain.
"""
_QUIET_S, _LOOK_AGAIN_S = 0.006, 0.002
"""Seconds without another work after which they are begun where fewer wait than were there at once before: senders that
were answered together send again together. The second is how often that is looked at: to do so at each turn of the
loop would cost what is saved.
"""
_GATHER_S = 0.04
"""Seconds after which they are begun however much there is to read."""
_UNIT_S = 0.05
"""Seconds for which a unit takes in works that waited when it began."""
_MOST_WAITING = 32_768
"""More than the receivers take in at once."""
_PATIENCE_S = 5.0
"""Seconds that works wait for a commit to be written, and as long again for as long as the thread that writes it has
run meanwhile: a disk that hangs must not hold up the data, and a busy CPU must not be taken for one.
"""
_RAN_S = 0.001
"""CPU seconds from which on a thread has run."""
_WORK_PATIENCE_S = 20.0
"""How long one work may compute, and read. Works are small (the handler splits large requests): only a disk that hangs
takes so long.
"""
_MOST_TOGETHER = 2048
"""The size of works that are done as one, at most."""
_MOST_RUNS = 8
"""Times that a unit is run which other writers of the store get in the way of; then its works fail."""
_MAINTAIN_EVERY_S = 1.0
_MAINTAIN_AGAIN_S = 0.02
"""While more is to be done than one slice, and no work is there; commits take their slices along."""


class LedgerObserver(Protocol):
    """The events of the writer that telemetry counts; called on its thread."""

    def committed(self, seconds: float, works: int, usage: StoreUsage) -> None:
        """Note that so many works landed in one commit; `seconds` with all that they did."""
        ...

    def available(self, available: bool) -> None:  # noqa: FBT001
        """Note that from now on the ledger can be written, or cannot."""
        ...


class Unobserved:
    """An observer that counts nothing."""

    def committed(self, seconds: float, works: int, usage: StoreUsage) -> None:
        """Do nothing."""

    def available(self, available: bool) -> None:  # noqa: FBT001
        """Do nothing."""


class JointWork(Protocol):
    """A work that may be done together with others, in fewer steps than one after the other."""

    @property
    def size(self) -> int:
        """Return how much it takes: one for each usual call."""
        ...

    def __call__(self, unit: Unit) -> Any:
        """Do it alone."""
        ...

    def joins(self, other: Any) -> bool:
        """Return whether it can be done together with another work, of any kind."""
        ...

    def together(self, works: Sequence[Any], unit: Unit) -> list[Any]:
        """Do works that it joins, itself being the first; return the result of each."""
        ...


def count_joint(works: Iterable[Any]) -> int:
    """Return how many of these works can be done together: the first, and those behind it that it joins."""
    first, *behind = islice(works, _MOST_TOGETHER)
    joins = getattr(first, "joins", None)  # isinstance of a protocol takes twenty calls
    if joins is None or not behind:
        return 1
    count, size = 1, first.size
    for other in behind:
        if not joins(other) or (size := size + other.size) > _MOST_TOGETHER:
            break
        count += 1
    return count


def outcomes(works: Sequence[Any], unit: Unit) -> list[Any]:
    """Do works that can be done together; return the result of each, or the exception that it raised.

    Where they fail together each is done alone, since one is no business of the others.
    """
    if len(works) > 1:
        try:
            with unit.part() as part:
                return list(works[0].together(works, part))
        except StateBrokenError:
            raise
        except Exception as error:  # noqa: BLE001 - which of them it was shows when each is done alone
            log.debug("works that fail together are done one by one: %r", error)
    results: list[Any] = []
    for work in works:
        try:
            with unit.part() as part:
                results.append(work(part))
        except StateBrokenError:
            raise
        except Exception as error:  # noqa: BLE001 - it is its submitter's
            results.append(error)
    return results


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[Unit], Any]
    future: asyncio.Future[Any]
    takes_long: bool = False
    result: Any = None
    error: Exception | None = None


class LedgerWriter:
    """Runs works on the store, on one thread: each as a part of its own in a unit that it shares with others."""

    def __init__(self, open_store: Callable[[], Store], observer: LedgerObserver | None = None) -> None:
        """Open the store, here and again whenever it breaks; until it opens, the state is not available.

        Raises:
            StateLockedError: another process writes to it, which does not pass with waiting.
        """
        self._observer = observer or Unobserved()
        self._store = ReopeningStore(open_store, self._observer.available)
        self._wake = Condition()
        self._jobs: deque[_Job] = deque()
        self._closed = False
        self._next_maintenance = 0.0
        self._begin_at = math.inf
        """When works that wait are begun: -inf at once, inf where none came since the last were."""
        self._at_once = 0
        """Works that were there when the last unit ended: its own, and those that came meanwhile."""
        self._patience_ends = math.inf
        """The deadline of the work or write under way."""
        self._cpu_begun = 0.0
        """CPU seconds of the thread when that began."""
        self._cpu_seen, self._extended_to = 0.0, 0.0
        """CPU seconds of it when the deadline was extended last, and to when; written by those that wait alone."""
        self._thread = Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    async def submit(self, work: Callable[[Unit], T], *, takes_long: bool = False) -> T:
        """Return what `work` returns, when what it applied to its unit is stored as durably as the store promises.

        One that `takes_long` joins no unit that others have begun: they land before it.

        Raises:
            UnitTooLargeError: there is no room for all of it at once, and nothing of it is stored.
            StateError: the state is not available, and nothing of the work is stored.
            Exception: what `work` raised; nothing of it is stored.
        """
        self._store.ready()
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future(), takes_long)
        if self._enqueue(job):
            loop.call_soon(self._gather, loop, 0, 0, loop.time())
        self._give_up_if_hanging(job)
        watch = _Watch(self._give_up_if_hanging, job)
        try:
            result: T = await job.future
        except asyncio.CancelledError:
            self._withdraw(job)
            raise
        finally:
            watch.end()
        return result

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """Provide what is committed now, for answers; on any thread, and short.

        Raises:
            StateError: the state is not available.
        """
        with self._store.ready().snapshot() as reader:
            yield reader

    @property
    def thread(self) -> int:
        """Return the system's id of the thread that writes."""
        assert self._thread.native_id is not None
        return self._thread.native_id

    @property
    def problem(self) -> str | None:
        """Return why the state is not available; None when it is."""
        return self._store.problem

    def close(self) -> None:
        """Finish what has been submitted, and close the store."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _enqueue(self, job: _Job) -> bool:
        """Let a work wait; return whether it is the first of those that will be begun together."""
        with self._wake:
            if self._closed:
                raise StateError("the ledger is closed")
            if len(self._jobs) >= _MOST_WAITING:
                raise StateError(f"{_MOST_WAITING} requests wait for the ledger already")
            is_first = not self._jobs or self._begin_at == math.inf
            self._jobs.append(job)
            if job.takes_long:
                self._at_once = 0  # nothing joins it
            if is_first:
                self._begin_at = time.monotonic() + _GATHER_S
            return is_first

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, quiet: int, since: float) -> None:
        """Let the thread begin the works that wait: once none came for `_QUIET_TURNS`, and where others are likely to
        come, for `_QUIET_S`; or once the first waits for `_GATHER_S`.

        It calls itself again with what it has `seen`: how many works wait, for how many turns of the loop and since
        when (seconds, by the loop's clock) as many do.
        """
        waiting = len(self._jobs)
        quiet, since = (quiet + 1, since) if waiting == seen else (0, loop.time())
        if waiting and time.monotonic() < self._begin_at < math.inf:
            if quiet < _QUIET_TURNS:
                loop.call_soon(self._gather, loop, waiting, quiet, since)
                return
            if waiting < self._at_once and loop.time() < since + _QUIET_S:
                loop.call_later(_LOOK_AGAIN_S, self._gather, loop, waiting, quiet, since)
                return
        with self._wake:
            if self._begin_at < math.inf:
                self._begin_at = -math.inf
                self._wake.notify()

    def _give_up_if_hanging(self, job: _Job) -> None:
        """Give up a work that waits behind a commit that does not end; a long queue alone is waited for.

        A commit hangs where its deadline has passed, and the thread has not run since the work or write under way began
        and since the deadline was extended last. Where the thread has run, the deadline is extended.
        """
        now = time.monotonic()
        if now <= max(self._patience_ends, self._extended_to):
            return
        ran = _cpu_seconds(self._thread)
        if ran - max(self._cpu_seen, self._cpu_begun) >= _RAN_S:  # it computes: that is no disk that hangs
            self._cpu_seen, self._extended_to = ran, now + _PATIENCE_S
        elif self._withdraw(job):
            job.error = StateError("the ledger's disk has not answered in time")
            _resolve([job])

    def _withdraw(self, job: _Job) -> bool:
        """Return whether the writer had not begun it; then it never will."""
        with self._wake:
            try:
                self._jobs.remove(job)
            except ValueError:
                return False
            return True

    def _run(self) -> None:
        while self._wait():
            if self._begins():
                self._commit()
                self._begin_left()
            if time.monotonic() >= self._next_maintenance:
                self._maintain()
        try:
            self._store.close()
        except StateError as error:
            log.error("closing the ledger: %s", error)

    def _wait(self) -> bool:
        """Wait until there is something to do; return False when there will be nothing more."""
        with self._wake:
            self._wake.wait_for(self._may_begin, max(0.0, self._next_maintenance - time.monotonic()))
            return bool(self._jobs) or not self._closed

    def _may_begin(self) -> bool:
        return self._closed or (bool(self._jobs) and time.monotonic() >= self._begin_at)

    def _begins(self) -> bool:
        """Return whether works that wait are begun now. Those that come from here on gather for the next time."""
        with self._wake:
            begins = bool(self._jobs) and self._may_begin()
            if begins:
                self._begin_at = math.inf
            return begins

    def _begin_left(self) -> None:
        """Begin at once what a unit had no more time for, unless others gather to be begun with it."""
        with self._wake:
            if self._jobs and self._begin_at == math.inf:
                self._begin_at = -math.inf

    def _commit(self, again: Sequence[_Job] = ()) -> None:
        """Do the works that wait in one commit; or `again` those of one that was too large."""
        begun = time.monotonic()
        jobs = [*again]
        try:
            store = self._store.ready()
            self._run_unit(store, begun, jobs)
        except UnitTooLargeError as error:
            if len(jobs) == 1:
                self._fail(jobs, error)
            else:
                for job in jobs:
                    self._commit([job])
        except StateError as error:
            self._store.failed(error)
            self._fail(jobs, error)
        except Exception as error:
            log.exception("the ledger's writer failed")
            self._fail(jobs, error)
        else:
            self._landed(store, time.monotonic() - begun, jobs)
        self._patience_ends = math.inf

    def _run_unit(self, store: Store, begun: float, jobs: list[_Job]) -> None:
        """Do works in a unit of their own until it lands, and add them to `jobs`.

        What other writers of the store have changed meanwhile may need it to be run again, with the same works.
        """
        runs = 0
        while True:
            runs += 1
            try:
                with store.unit() as unit:
                    for joined in [[job] for job in jobs] or self._waiting(begun, jobs):
                        self._wait_for(_WORK_PATIENCE_S)
                        _do(joined, unit)
                    self._wait_for(_PATIENCE_S)
            except UnitConflictError:
                if runs == _MOST_RUNS:
                    raise
            else:
                return

    def _wait_for(self, seconds: float) -> None:
        """Let works wait so long for what the thread begins now."""
        self._cpu_begun, self._patience_ends = time.thread_time(), time.monotonic() + seconds

    def _waiting(self, begun: float, jobs: list[_Job]) -> Iterator[list[_Job]]:
        """Yield the works that wait now, those together that can be, for as long as a unit takes them in, and add them
        to `jobs`. Those that come meanwhile gather for the next.
        """
        waiting = len(self._jobs)
        while joined := self._next(waiting - len(jobs), begun + _UNIT_S, is_first=not jobs):
            jobs += joined
            yield joined

    def _landed(self, store: Store, seconds: float, jobs: list[_Job]) -> None:
        self._at_once = len(jobs) + len(self._jobs)
        try:
            self._store.succeeded()
            self._observer.committed(seconds, len(jobs), store.usage())
        except Exception:
            log.exception("after a commit that landed")
        _answer(jobs)

    def _next(self, most: int, until: float, *, is_first: bool) -> list[_Job]:
        """Return the work that waits longest, with those behind it that can be done together with it, `most` at most;
        one that takes long only alone, as the first of its unit.
        """
        with self._wake:
            if most <= 0 or time.monotonic() >= until:
                return []
            job = next((job for job in self._jobs if is_first or not job.takes_long), None)
            if job is None:
                return []
            self._jobs.remove(job)
            behind = () if job.takes_long else takewhile(lambda one: not one.takes_long, islice(self._jobs, most - 1))
            together = count_joint(one.work for one in chain((job,), behind))
            return [job, *(self._jobs.popleft() for _ in range(together - 1))]

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        """Let those that were begun fail, or, where none could be, all that wait."""
        with self._wake:
            if not jobs:
                jobs = list(self._jobs)
                self._jobs.clear()
        kind = UnitTooLargeError if isinstance(error, UnitTooLargeError) else StateError
        for job in jobs:
            job.error = job.error or kind(str(error))
        _answer(jobs)

    def _maintain(self) -> None:
        more = False
        try:
            self._store.retry()
            more = self._store.ready().maintain()
        except StateError as error:
            self._store.failed(error)
        except Exception:
            log.exception("the ledger's upkeep failed")
        again = more and not self._jobs
        self._next_maintenance = time.monotonic() + (_MAINTAIN_AGAIN_S if again else _MAINTAIN_EVERY_S)


def _cpu_seconds(thread: Thread) -> float:
    """Return the CPU time of a thread; 0 where the system does not say, or the thread has ended: its clock has, too."""
    if sys.platform == "linux" and thread.ident is not None and thread.is_alive():
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return 0.0


class _Watch:
    """Looks after a work now and again for as long as it is waited for."""

    def __init__(self, look: Callable[[_Job], None], job: _Job) -> None:
        self._look = look
        self._job = job
        self._timer = job.future.get_loop().call_later(_PATIENCE_S, self._again)

    def end(self) -> None:
        self._timer.cancel()

    def _again(self) -> None:
        self._timer = self._job.future.get_loop().call_later(_PATIENCE_S, self._again)
        self._look(self._job)


def _do(jobs: list[_Job], unit: Unit) -> None:
    for job, outcome in zip(jobs, outcomes([job.work for job in jobs], unit), strict=True):
        job.result, job.error = (None, outcome) if isinstance(outcome, Exception) else (outcome, None)


def _answer(jobs: list[_Job]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.future.get_loop(), []).append(job)
    for loop, its in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(_resolve, its)


def _resolve(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)
