"""The ledger of a simulated process: the real store, committed to under virtual time, with the faults of a disk."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from spanledger_processor.ledger.store import Reader, StateError, Store, Unit
from spanledger_processor.ledger.writer import count_joint, outcomes

T = TypeVar("T")


@dataclass(frozen=True)
class Disk:
    """How often what happens to one commit, each from 0 to 1; `latency` is the longest that it takes, in seconds."""

    latency: float = 0.0
    full: float = 0.0
    """It fails, and nothing of it is stored."""
    away: float = 0.0
    """For `AWAY_S` seconds nothing can be read or written."""
    rerun: float = 0.0
    """A unit of work is run, thrown away and run again."""


AWAY_S = 20.0


class _ThrownAwayError(Exception):
    pass


class SimulatedLedger:
    """What the handler knows of `LedgerWriter`: works that wait share a commit, each as a part of its own."""

    def __init__(self, store: Store, disk: Disk, rng: random.Random) -> None:
        self._store = store
        self._disk = disk
        self._rng = rng
        self._waiting: list[tuple[Callable[[Unit], Any], asyncio.Future[Any]]] = []
        self._committer: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self.problem: str | None = None

    def mend(self) -> None:
        """No more faults."""
        self._disk = Disk()
        self._away_until = 0.0

    async def submit(self, work: Callable[[Unit], T], *, takes_long: bool = False) -> T:
        """Return what `work` does once it is stored; raises StateError where it is not."""
        if asyncio.get_running_loop().time() < self._away_until:
            raise StateError("the disk is away")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._committer is None:
            self._committer = asyncio.create_task(self._run())
        return await future

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """What is stored now."""
        with self._store.snapshot() as reader:
            yield reader

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._rng.random() * self._disk.latency)
            works, self._waiting = self._waiting, []
            error = self._fault()
            if error is None and self._rng.random() < self._disk.rerun:
                with suppress(_ThrownAwayError), self._store.unit() as unit:
                    _do(works, unit)
                    raise _ThrownAwayError
            results: list[Any] = []
            try:
                with self._store.unit() as unit:
                    results = _do(works, unit)
                    if error is not None:
                        raise error
            except StateError as failed:
                results = [failed] * len(works)
            await asyncio.sleep(self._rng.random() * self._disk.latency)  # where a process may die after a commit
            for (_, future), result in zip(works, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        self._committer = None

    def _fault(self) -> StateError | None:
        if self._rng.random() < self._disk.full:
            return StateError("no space left")
        if self._rng.random() < self._disk.away:
            self._away_until = asyncio.get_running_loop().time() + AWAY_S
            return StateError("the disk went away")
        return None


def _do(works: list[tuple[Callable[[Unit], Any], asyncio.Future[Any]]], unit: Unit) -> list[Any]:
    """Do them as the writer does: together where they can be."""
    results: list[Any] = []
    left = [work for work, _ in works]
    while left:
        together = count_joint(left)
        results += outcomes(left[:together], unit)
        del left[:together]
    return results
