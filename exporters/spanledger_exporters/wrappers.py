"""Exporters around another exporter: one sends again, one follows changed certificates and headers.

`Retrying` is the Collector's `retry_on_failure`, inside the time that the sender still waits. `Renewed` makes its
exporter again when its certificates or headers change, while requests under way end with the old one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from spanledger_exporters.interface import DestinationError, Exporter, Result, Signal, Verdict, logger_of
from spanledger_exporters.settings import NetworkSettings, RetrySettings
from spanledger_exporters.tls import Stamp, stamp


@dataclass(slots=True, eq=False)
class _Use:
    """An exporter, and the requests that are under way on it."""

    exporter: Exporter
    under_way: int = 0
    retired: bool = False

    async def retire(self) -> None:
        """Close it once nothing is under way on it."""
        self.retired = True
        if not self.under_way:
            await self.exporter.close()


class Renewed:
    """Sends through the exporter that `make` returns for the settings, made again when the certificates change."""

    def __init__(self, settings: NetworkSettings, make: Callable[[NetworkSettings], Exporter]) -> None:
        self._settings = settings
        self._make = make
        self._use = _Use(make(settings))
        self._stamp = self._look()
        self.name = self._use.exporter.name
        self.required = self._use.exporter.required
        self.signals = self._use.exporter.signals
        self._log = logger_of(self.name)

    def address(self, signal: Signal) -> str:
        """Return where requests of this signal go."""
        return self._use.exporter.address(signal)

    async def start(self) -> None:
        """Make ready to send.

        Raises:
            DestinationError: it cannot be used as configured.
        """
        await self._use.exporter.start()

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        """Send by what is current when it begins."""
        if (now := self._look()) != self._stamp:
            self._stamp = now
            await self._follow_files()
        use = self._use
        use.under_way += 1
        try:
            return await use.exporter.send(signal, body, deadline)
        finally:
            use.under_way -= 1
            if use.retired and not use.under_way:
                await use.exporter.close()

    async def prepare(self, settings: NetworkSettings) -> Callable[[], Awaitable[None]]:
        """Return what puts the headers and the certificates of other settings into use.

        Raises:
            DestinationError: they cannot be used.
        """
        tried = self._make(settings)  # as the next start will find them
        try:
            await tried.start()
        finally:
            await tried.close()
        wanted = self._settings.model_copy(update={"headers": settings.headers, "tls": settings.tls})
        built = self._make(wanted)
        await built.start()

        async def commit() -> None:
            self._settings = wanted
            self._stamp = self._look()
            await self._put_into_use(built)

        return commit

    async def close(self) -> None:
        """Close what is current."""
        await self._use.exporter.close()

    def _look(self) -> Stamp:
        tls = self._settings.tls
        return stamp((tls.ca_file, tls.cert_file, tls.key_file)) if tls.needs_tls() else ()

    async def _follow_files(self) -> None:
        built = self._make(self._settings)
        try:
            await built.start()
        except DestinationError as error:
            self._log.error("changed certificates cannot be used, and the old ones stay in use: %s", error)
            return
        await self._put_into_use(built)
        self._log.info("certificates have changed and are in use")

    async def _put_into_use(self, exporter: Exporter) -> None:
        old, self._use = self._use, _Use(exporter)
        await old.retire()


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
