"""Send one request to one exporter: awaited, best effort or out of a queue on disk; log and count its result."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from spanledger_exporters.file import File
from spanledger_exporters.interface import (
    ACCEPTED,
    ITEMS,
    DeliveryObserver,
    DestinationError,
    Exporter,
    Result,
    Signal,
    Verdict,
    logger_of,
)
from spanledger_exporters.queue import DurableQueue, Entry, measure, total
from spanledger_exporters.settings import FileSettings, Match, QueueSettings, RetrySettings
from spanledger_exporters.wrappers import waits

_BEST_EFFORT_SECONDS = 60.0
"""How long a request may take to a destination that no sender waits for."""
_BEST_EFFORT_REQUESTS = 64
_BEST_EFFORT_BYTES = 64 * 2**20
"""What may be under way to such a destination; a single larger request still is sent."""
_ATTEMPT_SECONDS = 3600.0
"""The deadline of an attempt out of a queue: the exporter's own `timeout` ends it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One export request to be sent: `deadline` is loop time, `items` its spans, log records or data points.

    `items` is 0 for a request of our own: nobody sent what it holds, so nothing of a sender's is lost with it.
    """

    signal: Signal
    body: bytes
    deadline: float
    items: int


@dataclass(slots=True)
class DeliveryState:
    """How far one request has come, by exporter's name."""

    final: dict[str, Result] = field(default_factory=dict)
    """Final results: accepted, or refused for good."""
    under_way: dict[str, asyncio.Task[Result]] = field(default_factory=dict)
    awaited: bool = False
    """A sender waits for the result."""

    def forget_refusals(self) -> None:
        """Forget refusals that senders have got: once the destination is mended, a request gets a new answer."""
        self.final = {name: past for name, past in self.final.items() if past.verdict is Verdict.ACCEPTED}


class Sender:
    """Sends to one exporter. Sends run by themselves: whoever waits for one may go away.

    `dead_letter` is the path of a file that gets what the destination refuses for good.
    """

    def __init__(self, exporter: Exporter, observer: DeliveryObserver, dead_letter: str | None = None) -> None:
        self.exporter = exporter
        self.name = exporter.name
        self.match: Match | None = None
        """The resources that it gets; None: all."""
        self.tasks: set[asyncio.Task[Result]] = set()
        """The sends that have no result yet."""
        self._observer = observer
        self._log = logger_of(exporter.name)
        self._dead_letters = None if dead_letter is None else _dead_letters(exporter, dead_letter)

    async def start(self) -> None:
        """Start the exporter.

        Raises:
            DestinationError: it cannot be used as configured.
        """
        await self.exporter.start()
        if self._dead_letters is not None:
            try:
                await self._dead_letters.start()
            except DestinationError as error:
                problem = str(error).partition(": path: ")[2]
                raise DestinationError(self.name, f"dead_letter: {problem}") from error

    async def close(self) -> None:
        """Close the exporter."""
        try:
            await self.exporter.close()
        finally:
            if self._dead_letters is not None:
                await self._dead_letters.close()

    def send(self, request: Request, state: DeliveryState) -> None:
        """Begin to send, unless the exporter has the request, refused it for good, or is being sent it."""
        if self.name not in state.final and self.name not in state.under_way:
            self._begin(request, state)

    def _begin(self, request: Request, state: DeliveryState) -> None:
        task = state.under_way[self.name] = asyncio.create_task(self._result(request, state))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _result(self, request: Request, state: DeliveryState) -> Result:
        try:
            result = await self._sent(request)
        finally:
            del state.under_way[self.name]
        if result.verdict is not Verdict.RETRYABLE:
            state.final[self.name] = result
        return result

    async def _sent(self, request: Request) -> Result:
        began = asyncio.get_running_loop().time()
        result = await self._attempt(request)
        if result.verdict is Verdict.PERMANENT and not await self._keep_refused(request):
            result = Result(Verdict.RETRYABLE, f"{result.reason}; and its dead_letter cannot be written now")
        self._report(request, result, began)
        return result

    async def _attempt(self, request: Request) -> Result:
        try:
            return await self.exporter.send(request.signal, request.body, request.deadline)
        except Exception as error:  # noqa: BLE001 - a bug in one exporter must not harm the others
            self._log.exception("unexpected error; the sender keeps the data")
            return Result(Verdict.RETRYABLE, f"unexpected {type(error).__name__}")

    async def _keep_refused(self, request: Request) -> bool:
        """Write a refused request to the dead letter file, if there is one; false where that may be tried again."""
        if self._dead_letters is None:
            return True
        deadline = asyncio.get_running_loop().time() + _ATTEMPT_SECONDS
        result = await self._dead_letters.send(request.signal, request.body, deadline)
        if result.verdict is not Verdict.ACCEPTED:
            address = self._dead_letters.address(request.signal)
            self._log.error("%s: a refused request cannot be kept there: %s", address, result.reason)
        return result.verdict is not Verdict.RETRYABLE

    def _report(self, request: Request, result: Result, began: float) -> None:
        seconds = asyncio.get_running_loop().time() - began
        self._observer.answered(self.name, request.signal, result.verdict, request.items, seconds)
        if result.attempts > 1:
            self._observer.retried(self.name, request.signal, result.attempts - 1)
        match result.verdict:
            case Verdict.ACCEPTED:
                self._report_accepted(request, result)
            case Verdict.RETRYABLE:
                self._log.warning("%s: not accepted now: %s", self._address(request), result.reason)
            case Verdict.PERMANENT:
                self._observer.refused(self.name, request.signal, request.items)
                if not request.items:  # of our own
                    self._log.warning("%s: refused for good: %s", self._address(request), result.reason)
                    return
                lost = (self._address(request), ITEMS[request.signal], request.items, result.reason)
                self._log.error("%s: refused for good; %s lost there: %d; %s", *lost)

    def _address(self, request: Request) -> str:
        return self.exporter.address(request.signal)

    def _report_accepted(self, request: Request, result: Result) -> None:
        self._observer.forwarded(self.name, request.signal, max(0, request.items - result.rejected))
        if result.rejected:
            self._observer.rejected(self.name, request.signal, result.rejected)
            lost = (self._address(request), ITEMS[request.signal], result.rejected, result.reason)
            self._log.error("%s: accepted in part; %s lost there: %d; %s", *lost)
        elif result.reason:
            self._log.warning("accepted with a warning: %s", result.reason)


def _dead_letters(exporter: Exporter, path: str) -> File:
    return File(exporter.name, FileSettings(path=path))


class BestEffortSender(Sender):
    """To an exporter that is not required: sends have a deadline of their own, and what is too much is dropped."""

    def __init__(self, exporter: Exporter, observer: DeliveryObserver, dead_letter: str | None = None) -> None:
        super().__init__(exporter, observer, dead_letter)
        self._requests = 0
        self._bytes = 0

    def _begin(self, request: Request, state: DeliveryState) -> None:
        size = len(request.body)
        if self._requests and (self._requests >= _BEST_EFFORT_REQUESTS or self._bytes + size > _BEST_EFFORT_BYTES):
            self._observer.dropped(self.name, request.signal, request.items)
            address = self._address(request)
            self._log.error("%s: does not keep up, and is not required: requests to it are dropped", address)
            return
        self._requests += 1
        self._bytes += size
        deadline = asyncio.get_running_loop().time() + _BEST_EFFORT_SECONDS
        super()._begin(replace(request, deadline=deadline), state)
        state.under_way[self.name].add_done_callback(lambda _: self._release(size))

    def _release(self, size: int) -> None:
        self._requests -= 1
        self._bytes -= size


class _StoppingError(Exception):
    """The queue ends; what waits stays in it."""


class QueuedSender(Sender):
    """Keeps each request in a queue on disk, which is its result, and sends from there until the destination has it.

    A request is never given up: only an answer of the destination takes it out of the queue.
    """

    def __init__(
        self,
        exporter: Exporter,
        observer: DeliveryObserver,
        queue: QueueSettings,
        retries: RetrySettings,
        dead_letter: str | None = None,
    ) -> None:
        super().__init__(exporter, observer, dead_letter)
        assert queue.storage is not None, "the configuration fills it in"
        self._settings = queue
        self._retries = retries
        self._queue = DurableQueue(Path(queue.storage).expanduser(), exporter.name)
        self._waiting: deque[Entry] = deque()
        self._arrived = asyncio.Condition()
        """Notified when an entry waits, when there is room again, and when it ends."""
        self._size = 0
        self._stopping = asyncio.Event()
        self._consumers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the exporter, and send what waits from the last time."""
        await super().start()
        try:
            self._waiting.extend(await self._queue.open())
        except BlockingIOError as error:
            problem = f"{self._queue.folder} is in use by another exporter or process"
            raise DestinationError(self.name, f"sending_queue.storage: {problem}") from error
        except OSError as error:
            problem = f"{self._queue.folder}: {error.strerror}"
            raise DestinationError(self.name, f"sending_queue.storage: {problem}") from error
        self._resize(total(self._waiting, self._settings.sizer))
        if self._waiting:
            self._log.info("%d requests wait in the queue since the last run, and are sent now", len(self._waiting))
        self._observer.set_aside(self.name, self._queue.set_aside)  # 0 begins the counter
        self._consumers = [asyncio.create_task(self._consume()) for _ in range(self._settings.num_consumers)]

    async def close(self) -> None:
        """Let attempts under way end as long as whoever closes waits; what is not delivered stays in the queue."""
        self._stopping.set()
        async with self._arrived:
            self._arrived.notify_all()
        try:
            await asyncio.gather(*self._consumers, return_exceptions=True)
        finally:
            for consumer in self._consumers:
                consumer.cancel()
            await self._queue.close()
            await super().close()

    async def _sent(self, request: Request) -> Result:
        """Keep a request; the destination's answer is reported when it comes."""
        size = measure(request.items, len(request.body), self._settings.sizer)
        if not self._has_room(size) and not await self._room(size, request.deadline):
            self._observer.queue_refused(self.name, request.signal, request.items)
            if not self.exporter.required:
                self._observer.dropped(self.name, request.signal, request.items)
                self._log.error("%s: sending_queue is full: requests to it are dropped", self._address(request))
            else:
                self._log.warning("%s: sending_queue is full: senders are told to try again", self._address(request))
            return Result(Verdict.RETRYABLE, "sending_queue is full")
        self._resize(size)
        kept = await self._queue.append(request.signal, request.body, request.items, request.deadline)
        if isinstance(kept, Result):
            self._observer.queue_refused(self.name, request.signal, request.items)
            self._log.error("%s: %s", self._queue.folder, kept.reason)
            self._resize(-size)
            return kept
        async with self._arrived:
            self._waiting.append(kept)
            self._arrived.notify_all()
        return ACCEPTED

    def _has_room(self, size: int) -> bool:
        """Return whether `size` more fits; what is larger than the whole queue is let in where nothing waits."""
        return not self._size or self._size + size <= self._settings.queue_size

    async def _room(self, size: int, deadline: float) -> bool:
        if not self._settings.block_on_overflow:
            return False
        try:
            async with asyncio.timeout_at(deadline), self._arrived:
                await self._arrived.wait_for(lambda: self._has_room(size) or self._stopping.is_set())
        except TimeoutError:
            return False
        return self._has_room(size)

    def _resize(self, by: int) -> None:
        self._size += by
        self._observer.queue(self.name, self._size, self._settings.queue_size)

    async def _consume(self) -> None:
        while True:
            async with self._arrived:
                await self._arrived.wait_for(lambda: self._waiting or self._stopping.is_set())
                if self._stopping.is_set():
                    return
                entry = self._waiting.popleft()
            try:
                if not await self._send(entry):
                    return
            except Exception:  # noqa: BLE001 - the other requests still go
                self._log.exception("unexpected error; the request stays in the queue until the next start")
                continue
            await self._queue.acknowledge(entry)
            async with self._arrived:
                self._resize(-measure(entry.items, entry.size, self._settings.sizer))
                self._arrived.notify_all()

    async def _send(self, entry: Entry) -> bool:
        """Return once nothing more is to be done for an entry; False where it ends first."""
        pauses = waits(self._retries, random.random)
        try:
            body = await self._body(entry, pauses)
        except _StoppingError:
            return False
        if body is None:
            self._observer.set_aside(self.name, 1)
            return True
        attempts = 0
        while not self._stopping.is_set():
            deadline = asyncio.get_running_loop().time() + _ATTEMPT_SECONDS
            request = Request(entry.signal, body, deadline, entry.items)
            attempts += 1
            began = asyncio.get_running_loop().time()
            result = await self._attempt(request)
            self._report(request, replace(result, attempts=min(attempts, 2)), began)
            if result.verdict is Verdict.ACCEPTED:
                return True
            if result.verdict is Verdict.PERMANENT and await self._keep_refused(request):
                return True
            await self._pause(max(next(pauses), result.retry_after or 0.0))
        return False

    async def _body(self, entry: Entry, pauses: Iterator[float]) -> bytes | None:
        """Return the body of an entry, None where it is not there any more; a disk that fails is asked again.

        Raises:
            _StoppingError: it ends first.
        """
        while not self._stopping.is_set():
            try:
                return await self._queue.read(entry)
            except FileNotFoundError:
                self._log.error("%s: a file of the queue is gone, and a request with it", self._queue.folder)
                return None
            except OSError as error:
                self._log.error("%s: a request cannot be read now: %s", self._queue.folder, error.strerror)
            await self._pause(next(pauses))
        raise _StoppingError

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
