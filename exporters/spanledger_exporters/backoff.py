"""When to try again: the Collector's `retry_on_failure`, inside the time that the sender still waits. No clock here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from spanledger_exporters.settings import RetrySettings


def waits(settings: RetrySettings, chance: Callable[[], float]) -> Iterator[float]:
    """Seconds before each retry, without end: exponential, each spread at random. `chance` gives numbers in [0, 1)."""
    interval = min(settings.initial_interval, settings.max_interval)
    while True:
        spread = settings.randomization_factor * interval
        yield interval - spread + 2 * spread * chance()
        interval = min(interval * settings.multiplier, settings.max_interval)


class Schedule:
    """The retries of one request that began at `began` and is given up at `deadline` (both seconds of one clock)."""

    def __init__(self, settings: RetrySettings, began: float, deadline: float, chance: Callable[[], float]) -> None:
        self._waits = waits(settings, chance)
        longest = settings.max_elapsed_time
        self._end = min(deadline, began + longest) if longest else deadline

    def wait(self, now: float, took: float, asked: float | None) -> float | None:
        """Seconds to wait before the next attempt; None where it could not end in time.

        `took` is how long the last attempt lasted, which is what the next one is expected to need; `asked` is the
        least that the destination wants us to wait.
        """
        wait = max(next(self._waits), asked or 0.0)
        return wait if now + wait + took < self._end else None
