"""The way to one exporter: one send for one request at a time, its answer kept and told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from spanledger_exporters.interface import Exporter, Outcome, Signal, Verdict
from spanledger_exporters.logs import logger_of
from spanledger_exporters.observer import Observer
from spanledger_exporters.window import Progress

_UNAWAITED_SECONDS = 60.0
"""How long a request may take to a destination that nobody waits for."""
_UNAWAITED_REQUESTS = 64
_UNAWAITED_BYTES = 64 * 2**20
"""What may be under way to such a destination; a single larger request still is sent."""


@dataclass(frozen=True, slots=True)
class Request:
    """One export request on its way: `deadline` is loop time, `items` its spans, log records or data points."""

    signal: Signal
    body: bytes
    deadline: float
    items: int


class Way:
    """Sends to one exporter. Sends run by themselves: whoever waits for one may go away."""

    def __init__(self, exporter: Exporter, observer: Observer) -> None:
        self.exporter = exporter
        self.name = exporter.name
        self._observer = observer
        self._log = logger_of(exporter.name)

    def send(self, request: Request, progress: Progress) -> None:
        """Begin to send, unless the exporter has the request, refused it for good, or is being sent it."""
        if self.name not in progress.settled and self.name not in progress.under_way:
            self._begin(request, progress)

    def _begin(self, request: Request, progress: Progress) -> None:
        progress.under_way[self.name] = asyncio.create_task(self._answer(request, progress))

    async def _answer(self, request: Request, progress: Progress) -> Outcome:
        try:
            outcome = await self.exporter.send(request.signal, request.body, request.deadline)
        except Exception as error:  # noqa: BLE001 - a bug in one exporter must not harm the others
            self._log.exception("unexpected error; the sender keeps the data")
            outcome = Outcome(Verdict.RETRYABLE, f"unexpected {type(error).__name__}")
        finally:
            del progress.under_way[self.name]
        if outcome.verdict is not Verdict.RETRYABLE:
            progress.settled[self.name] = outcome
        self._tell(request, outcome)
        return outcome

    def _tell(self, request: Request, outcome: Outcome) -> None:
        self._observer.answered(self.name, request.signal, outcome.verdict)
        if outcome.attempts > 1:
            self._observer.retried(self.name, request.signal, outcome.attempts - 1)
        match outcome.verdict:
            case Verdict.ACCEPTED:
                self._tell_accepted(request, outcome)
            case Verdict.RETRYABLE:
                self._log.warning("not accepted now: %s", outcome.reason)
            case Verdict.PERMANENT:
                self._log.warning("refused for good: %s", outcome.reason)

    def _tell_accepted(self, request: Request, outcome: Outcome) -> None:
        self._observer.forwarded(self.name, request.signal, max(0, request.items - outcome.rejected))
        if outcome.rejected:
            self._observer.rejected(self.name, request.signal, outcome.rejected)
            lost = (outcome.rejected, request.signal, outcome.reason)
            self._log.warning("accepted without %d items of %s, which are lost there: %s", *lost)
        elif outcome.reason:
            self._log.warning("accepted with a warning: %s", outcome.reason)


class UnawaitedWay(Way):
    """To an exporter that is not required: sends have a deadline of their own, and what is too much is dropped."""

    def __init__(self, exporter: Exporter, observer: Observer) -> None:
        super().__init__(exporter, observer)
        self._requests = 0
        self._bytes = 0

    def _begin(self, request: Request, progress: Progress) -> None:
        size = len(request.body)
        if self._requests and (self._requests >= _UNAWAITED_REQUESTS or self._bytes + size > _UNAWAITED_BYTES):
            self._observer.dropped(self.name, request.signal, request.items)
            self._log.warning("does not keep up, and is not required: requests to it are dropped")
            return
        self._requests += 1
        self._bytes += size
        deadline = asyncio.get_running_loop().time() + _UNAWAITED_SECONDS
        super()._begin(replace(request, deadline=deadline), progress)
        progress.under_way[self.name].add_done_callback(lambda _: self._release(size))

    def _release(self, size: int) -> None:
        self._requests -= 1
        self._bytes -= size
