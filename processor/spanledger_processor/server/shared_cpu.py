"""Keep the threads of the event loop and of the ledger on one CPU, where the system can (Linux).

Each request goes from one of them to the other and back, and the interpreter runs one of them at a time. On CPUs of
their own every object that both touch moves between two caches, and each turn waits until the other CPU has woken:
a fifth of the CPU time, and half of the throughput (benchmarks/README.md). They stay together, and move to another CPU
when theirs is wanted by others. All other threads run wherever the system puts them.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from spanledger_processor.server.periodic import PeriodicTask

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Seconds between two looks at how long the threads had to wait for their CPU."""
MOST_WAITED = 0.1
"""The share of that time from which on another CPU is looked for ..."""
LEAST_GAIN = 0.2
"""... which was idle for so much more of it."""


class Cpus(Protocol):
    """The part of the system that decides which thread runs where. CPUs are numbers, threads the system's ids."""

    def allowed(self) -> Collection[int]:
        """Return the CPUs that this process may use."""
        ...

    def current(self, thread: int) -> int:
        """Return the CPU on which a thread ran last."""
        ...

    def waited_s(self, thread: int) -> float:
        """Return how long a thread was ready to run and did not, since it began."""
        ...

    def idle_s(self) -> Mapping[int, float]:
        """Return how long each CPU had nothing to do, since the system began."""
        ...

    def restrict(self, thread: int, cpus: Collection[int]) -> None:
        """Let a thread run on these CPUs alone."""
        ...

    def threads(self) -> Collection[int]:
        """Return the threads of this process."""
        ...


class LinuxCpus:
    """CPUs as Linux tells of them in /proc."""

    def __init__(self) -> None:
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self._tasks = Path(f"/proc/{os.getpid()}/task")

    def allowed(self) -> Collection[int]:
        """See `Cpus`."""
        return os.sched_getaffinity(0)

    def current(self, thread: int) -> int:
        """See `Cpus`."""
        return int((self._tasks / str(thread) / "stat").read_text().rpartition(")")[2].split()[36])

    def waited_s(self, thread: int) -> float:
        """See `Cpus`."""
        return int((self._tasks / str(thread) / "schedstat").read_text().split()[1]) / 1e9

    def idle_s(self) -> Mapping[int, float]:
        """See `Cpus`."""
        rows = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        return {int(row[0][3:]): int(row[4]) * self._tick_s for row in rows if row[0][:3] == "cpu" and row[0] != "cpu"}

    def restrict(self, thread: int, cpus: Collection[int]) -> None:
        """See `Cpus`."""
        os.sched_setaffinity(thread, cpus)

    def threads(self) -> Collection[int]:
        """See `Cpus`."""
        return [int(task.name) for task in self._tasks.iterdir()]


class SharedCpu:
    """Keeps threads on one CPU, at first that of the first one, until it is stopped.

    Does nothing where there is only one CPU, or the system does not let a process choose.

    `leaves` decides whether to move where that is of use: of several processes on one CPU not all leave it at once.
    """

    def __init__(
        self,
        threads: Sequence[int],
        cpus: Cpus | None = None,
        leaves: Callable[[], bool] = lambda: random.random() < 0.5,  # noqa: S311 - decides on no secret
    ) -> None:
        if cpus is None and hasattr(os, "sched_setaffinity"):
            cpus = LinuxCpus()
        self._threads = threads
        self._cpus = cpus
        self._leaves = leaves
        self._allowed: frozenset[int] = frozenset() if cpus is None else frozenset(cpus.allowed())
        self._on: int | None = None
        self._waited_s = 0.0
        self._idle_s: Mapping[int, float] = {}
        self._task = PeriodicTask(self._keep, INTERVAL_S, "threads are not kept on one CPU")

    def start(self) -> None:
        """Begin in a while, when the libraries have started their own threads."""
        if len(self._allowed) > 1:
            self._task.start(INTERVAL_S)

    async def stop(self) -> None:
        """Let all threads run anywhere again."""
        await self._task.stop()
        if self._cpus is not None and self._on is not None:
            self._free(self._cpus, self._cpus.threads())

    def look(self) -> bool:
        """Put the threads on one CPU, or on another one if that is idler; return false where the system refuses."""
        cpus = self._cpus
        if cpus is None:
            return False
        try:
            waited_s, idle_s = sum(map(cpus.waited_s, self._threads)), cpus.idle_s()
            if self._on is None:
                self._on = cpus.current(self._threads[0])
            elif waited_s - self._waited_s > MOST_WAITED * INTERVAL_S:
                self._on = self._better(self._on, idle_s)
            self._waited_s, self._idle_s = waited_s, idle_s
            for thread in self._threads:
                cpus.restrict(thread, (self._on,))
            self._free(cpus, set(cpus.threads()).difference(self._threads))
        except (OSError, ValueError, IndexError) as error:
            log.info("the threads run on any CPU, since the system does not let them share one: %s", error)
            with suppress(OSError):
                self._free(cpus, self._threads)
            self._on = None
            return False
        return True

    async def _keep(self) -> float:
        return INTERVAL_S if self.look() else float("inf")

    def _better(self, on: int, idle_s: Mapping[int, float]) -> int:
        """Return the CPU that was idle longest since the last look, if that gains enough; else `on`."""
        idle = {cpu: idle_s[cpu] - self._idle_s.get(cpu, idle_s[cpu]) for cpu in self._allowed & idle_s.keys()}
        best = max(idle, key=idle.__getitem__, default=on)
        gain = idle.get(best, 0.0) - idle.get(on, 0.0)
        return best if gain > LEAST_GAIN * INTERVAL_S and self._leaves() else on

    def _free(self, cpus: Cpus, threads: Collection[int]) -> None:
        """Let threads run anywhere: also those which the ones on one CPU have started."""
        for thread in threads:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                cpus.restrict(thread, self._allowed)
