"""Retries: the Collector's `retry_on_failure`, inside the time that the sender still waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from spanledger_exporters.interface import Exporter, Result, Signal, Verdict, logger_of
from spanledger_exporters.settings import RetrySettings


def waits(settings: RetrySettings, chance: Callable[[], float]) -> Iterator[float]:
    """Yield seconds before each retry, without end: exponential, spread at random. `chance` gives numbers in [0, 1)."""
    interval = min(settings.initial_interval, settings.max_interval)
    while True:
        spread = settings.randomization_factor * interval
        yield interval - spread + 2 * spread * chance()
        interval = min(interval * settings.multiplier, settings.max_interval)


class Backoff:
    """The retries of one request that began at `began` and is given up at `deadline` (both seconds of one clock)."""

    def __init__(self, settings: RetrySettings, began: float, deadline: float, chance: Callable[[], float]) -> None:
        self._waits = waits(settings, chance)
        longest = settings.max_elapsed_time
        self._end = min(deadline, began + longest) if longest else deadline

    def wait(self, now: float, took: float, asked: float | None) -> float | None:
        """Return seconds to wait before the next attempt; None where it could not end in time.

        `took` is how long the last attempt lasted, which is what the next one is expected to need; `asked` is the
        least that the destination wants us to wait.
        """
        wait = max(next(self._waits), asked or 0.0)
        return wait if now + wait + took < self._end else None


class Retrying:
    """Sends through another exporter, again after each retryable answer while the sender waits."""

    def __init__(self, exporter: Exporter, settings: RetrySettings) -> None:
        self.exporter = exporter
        self._settings = settings
        self.name = exporter.name
        self.required = exporter.required
        self.signals = exporter.signals
        self._log = logger_of(exporter.name)

    def address(self, signal: Signal) -> str:
        """Return where the exporter behind sends to."""
        return self.exporter.address(signal)

    async def start(self) -> None:
        """Start the exporter behind."""
        await self.exporter.start()

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        """Return the last answer, and how many attempts it took."""
        clock = asyncio.get_running_loop().time
        began = clock()
        backoff = Backoff(self._settings, began, deadline, random.random)
        attempts = 1
        while True:
            result = await self.exporter.send(signal, body, deadline)
            if result.verdict is not Verdict.RETRYABLE:
                break
            now = clock()
            wait = backoff.wait(now, now - began, result.retry_after)
            if wait is None:
                break
            self._log.warning("not accepted, trying again: %s", result.reason)
            await asyncio.sleep(wait)
            began = clock()
            if began >= deadline:  # slept too long on a busy machine
                break
            attempts += 1
        return result if attempts == result.attempts else replace(result, attempts=attempts)

    async def close(self) -> None:
        """Close the exporter behind."""
        await self.exporter.close()
