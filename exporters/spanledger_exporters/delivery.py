"""Several destinations at once: what the sender is told once those that are required have the request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from spanledger_exporters.combine import combined
from spanledger_exporters.interface import ACCEPTED, Exporter, Outcome, Signal, Verdict
from spanledger_exporters.logs import logger_of
from spanledger_exporters.observer import Observer
from spanledger_exporters.settings import ALL_SIGNALS
from spanledger_exporters.way import Request, UnawaitedWay, Way
from spanledger_exporters.window import Progress, Window

log = logging.getLogger(__name__)

_REMEMBERED = 16384
"""Requests: more than senders repeat at one time; each costs a few hundred bytes."""

_CLOSING_SECONDS = 5.0
"""How long an exporter may take to close: a disk that hangs keeps nothing else open."""

_LATE = Outcome(Verdict.RETRYABLE, "no answer in time")
_STOPPING = Outcome(Verdict.RETRYABLE, "stopping")


class Delivery:
    """Sends every request to all exporters that take its signal, to each of them once.

    Requests are told apart by their ids. One that comes again goes only to those exporters that lack it; one that
    comes again while it is being sent waits for that answer.
    """

    def __init__(self, exporters: Iterable[Exporter], observer: Observer, *, remembered: int = _REMEMBERED) -> None:
        self._exporters: Sequence[Exporter] = tuple(exporters)
        self._observer = observer
        self._window = Window(remembered)
        self._stopping = False
        ways = [(Way if exporter.required else UnawaitedWay)(exporter, observer) for exporter in self._exporters]
        self._ways: dict[Signal, list[Way]] = {
            signal: [way for way in ways if signal in way.exporter.signals] for signal in ALL_SIGNALS
        }

    async def start(self) -> None:
        """Start all exporters; warns of signals that none takes.

        Raises:
            DestinationError: one of them cannot be used as configured; the others are closed again.
        """
        for count, exporter in enumerate(self._exporters):
            try:
                await exporter.start()
            except BaseException:
                await _close(self._exporters[:count])
                raise
        for signal in sorted(ALL_SIGNALS):
            if not self._ways[signal]:
                log.warning("no exporter takes %s: they are accepted and go nowhere", signal)

    async def deliver(self, signal: Signal, request_id: bytes, body: bytes, deadline: float, items: int = 0) -> Outcome:
        """Send one encoded export request; answers by `deadline` (loop time), whatever the exporters do.

        `items` is how many spans, log records or data points it holds, which is what the observer is told.
        """
        if self._stopping:
            return _STOPPING
        if not self._ways[signal]:
            self._observer.unclaimed(signal, items)
            return ACCEPTED
        progress = self._window.progress(signal, request_id)
        request = Request(signal, body, deadline, items)
        for way in self._ways[signal]:
            way.send(request, progress)
        required = [way.name for way in self._ways[signal] if way.exporter.required]
        outcome = combined(await _outcomes(required, progress, deadline))
        if outcome.verdict is Verdict.PERMANENT:
            progress.forget_refusals()
        return outcome

    async def close(self, grace: float = 10.0) -> None:
        """Take no more requests, let those under way end within `grace` seconds, and close all exporters."""
        self._stopping = True
        if under_way := self._window.under_way():
            _, late = await asyncio.wait(under_way, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await _close(self._exporters)


async def _outcomes(names: Sequence[str], progress: Progress, deadline: float) -> dict[str, Outcome]:
    """What these exporters answered by the deadline. Sends go on where whoever waits here is cancelled."""
    sends = {name: progress.under_way[name] for name in names if name in progress.under_way}
    outcomes = {name: progress.settled.get(name, _LATE) for name in names}
    if sends:
        timeout = max(0.0, deadline - asyncio.get_running_loop().time())
        await asyncio.wait(sends.values(), timeout=timeout)
    for name, task in sends.items():
        if task.done():
            outcomes[name] = _STOPPING if task.cancelled() else task.result()
    return outcomes


async def _close(exporters: Sequence[Exporter]) -> None:
    """Close them all, whatever one of them does."""
    closing = (asyncio.wait_for(exporter.close(), _CLOSING_SECONDS) for exporter in exporters)
    results = await asyncio.gather(*closing, return_exceptions=True)
    for exporter, result in zip(exporters, results, strict=True):
        if isinstance(result, BaseException):
            logger_of(exporter.name).error("could not be closed", exc_info=result)
