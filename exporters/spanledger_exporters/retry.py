"""An exporter that tries again."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

from spanledger_exporters.backoff import Schedule
from spanledger_exporters.interface import Exporter, Outcome, Signal, Verdict
from spanledger_exporters.logs import logger_of
from spanledger_exporters.settings import RetrySettings


class Retrying:
    """Sends through another exporter, again after each retryable answer while the sender waits."""

    def __init__(self, exporter: Exporter, settings: RetrySettings) -> None:
        self._exporter = exporter
        self._settings = settings
        self.name = exporter.name
        self.required = exporter.required
        self.signals = exporter.signals
        self._log = logger_of(exporter.name)

    async def start(self) -> None:
        """Start the exporter behind."""
        await self._exporter.start()

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Outcome:
        """The last answer, and how many attempts it took."""
        clock = asyncio.get_running_loop().time
        began = clock()
        schedule = Schedule(self._settings, began, deadline, random.random)
        attempts = 1
        while True:
            outcome = await self._exporter.send(signal, body, deadline)
            if outcome.verdict is not Verdict.RETRYABLE:
                break
            now = clock()
            wait = schedule.wait(now, now - began, outcome.retry_after)
            if wait is None:
                break
            self._log.warning("not accepted, trying again: %s", outcome.reason)
            await asyncio.sleep(wait)
            began = clock()
            if began >= deadline:  # slept too long on a busy machine
                break
            attempts += 1
        return replace(outcome, attempts=attempts)

    async def close(self) -> None:
        """Close the exporter behind."""
        await self._exporter.close()
