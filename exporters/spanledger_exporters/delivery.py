"""Delivery of each request to all exporters that take its signal, once to each, and one result for its sender."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING

from spanledger_exporters.interface import (
    ACCEPTED,
    DeliveryObserver,
    Exporter,
    Result,
    Signal,
    Verdict,
    combined,
    logger_of,
)
from spanledger_exporters.retry import Retrying
from spanledger_exporters.settings import (
    ALL_SIGNALS,
    DebugSettings,
    ExporterSettings,
    FileSettings,
    OtlpGrpcSettings,
    OtlpHttpSettings,
)

if TYPE_CHECKING:
    from spanledger_exporters.debug import Display

log = logging.getLogger(__name__)

_REMEMBERED = 16384
"""Requests: more than senders repeat at one time; each costs a few hundred bytes."""

_CLOSING_SECONDS = 5.0
"""How long an exporter may take to close: a disk that hangs keeps nothing else open."""

_BEST_EFFORT_SECONDS = 60.0
"""How long a request may take to a destination that no sender waits for."""
_BEST_EFFORT_REQUESTS = 64
_BEST_EFFORT_BYTES = 64 * 2**20
"""What may be under way to such a destination; a single larger request still is sent."""

_LATE = Result(Verdict.RETRYABLE, "no answer in time")
_STOPPING = Result(Verdict.RETRYABLE, "stopping")

_EXPORTERS: Mapping[type[ExporterSettings], tuple[str, str]] = {
    OtlpGrpcSettings: ("otlp_grpc", "OtlpGrpc"),
    OtlpHttpSettings: ("otlp_http", "OtlpHttp"),
    FileSettings: ("file", "File"),
    DebugSettings: ("debug", "Debug"),
}
"""Module and class, imported when first built: gRPC and an HTTP client take long to load, and few need both."""


def build(name: str, settings: ExporterSettings, display: Display | None = None) -> Exporter:
    """Return the exporter with component id `name` that the settings (one of `settings.TYPES`) describe, not started.

    `display` says what a `debug` exporter may show of attributes; None: nothing.
    """
    module, kind = _EXPORTERS[type(settings)]
    more = {"display": display} if isinstance(settings, DebugSettings) else {}
    exporter: Exporter = getattr(import_module(f"spanledger_exporters.{module}"), kind)(name, settings, **more)
    retries = getattr(settings, "retry_on_failure", None)
    return Retrying(exporter, retries) if retries is not None and retries.enabled else exporter


@dataclass(frozen=True, slots=True)
class Request:
    """One export request to be sent: `deadline` is loop time, `items` its spans, log records or data points."""

    signal: Signal
    body: bytes
    deadline: float
    items: int


@dataclass(slots=True)
class DeliveryState:
    """How far one request has come, by exporter's name."""

    settled: dict[str, Result] = field(default_factory=dict)
    """Final results: accepted, or refused for good."""
    under_way: dict[str, asyncio.Task[Result]] = field(default_factory=dict)
    awaited: bool = False
    """A sender waits for the result."""

    def forget_refusals(self) -> None:
        """Once the sender was told: whoever mends the destination and sends again gets a new answer."""
        self.settled = {name: past for name, past in self.settled.items() if past.verdict is Verdict.ACCEPTED}


_IDENTIFIED: frozenset[Signal] = frozenset(("traces",))
"""Signals whose items carry ids: equal requests hold the same items. Of others, equal requests may be two."""


class DeliveryCache:
    """The delivery states of the requests seen last, of at most `limit` ids and those that are still under way.

    An equal trace request is the same request. An equal request of another signal is one that comes again only where
    an earlier one was not acknowledged and nobody waits for it any more; otherwise both are delivered.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._states: OrderedDict[tuple[Signal, bytes], list[DeliveryState]] = OrderedDict()

    def take(self, signal: Signal, request_id: bytes) -> DeliveryState:
        """Return the state of this request, which counts as seen now; a sender waits for its result from now on."""
        states = self._states.setdefault((signal, request_id), [])
        self._states.move_to_end((signal, request_id))
        known = states if signal in _IDENTIFIED else [state for state in states if not state.awaited]
        if known:
            state = known[0]
        else:
            state = DeliveryState()
            states.append(state)
            self._evict()
        state.awaited = True
        return state

    def give_back(self, signal: Signal, request_id: bytes, state: DeliveryState, *, acknowledged: bool) -> None:
        """No sender waits any more; `acknowledged`: it was told that the request has arrived."""
        state.awaited = False
        if not acknowledged or signal in _IDENTIFIED:
            return
        states = self._states.get((signal, request_id), [])
        if state in states:
            states.remove(state)
        if not states:
            self._states.pop((signal, request_id), None)

    def _evict(self) -> None:
        for _ in range(len(self._states) - self._limit):
            key, states = self._states.popitem(last=False)
            if any(state.awaited or state.under_way for state in states):  # evicted later, when it has an end
                self._states[key] = states


class Sender:
    """Sends to one exporter. Sends run by themselves: whoever waits for one may go away."""

    def __init__(self, exporter: Exporter, observer: DeliveryObserver) -> None:
        self.exporter = exporter
        self.name = exporter.name
        self.tasks: set[asyncio.Task[Result]] = set()
        """The sends that have no result yet."""
        self._observer = observer
        self._log = logger_of(exporter.name)

    def send(self, request: Request, state: DeliveryState) -> None:
        """Begin to send, unless the exporter has the request, refused it for good, or is being sent it."""
        if self.name not in state.settled and self.name not in state.under_way:
            self._begin(request, state)

    def _begin(self, request: Request, state: DeliveryState) -> None:
        task = state.under_way[self.name] = asyncio.create_task(self._result(request, state))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _result(self, request: Request, state: DeliveryState) -> Result:
        try:
            result = await self.exporter.send(request.signal, request.body, request.deadline)
        except Exception as error:  # noqa: BLE001 - a bug in one exporter must not harm the others
            self._log.exception("unexpected error; the sender keeps the data")
            result = Result(Verdict.RETRYABLE, f"unexpected {type(error).__name__}")
        finally:
            del state.under_way[self.name]
        if result.verdict is not Verdict.RETRYABLE:
            state.settled[self.name] = result
        self._report(request, result)
        return result

    def _report(self, request: Request, result: Result) -> None:
        self._observer.answered(self.name, request.signal, result.verdict)
        if result.attempts > 1:
            self._observer.retried(self.name, request.signal, result.attempts - 1)
        match result.verdict:
            case Verdict.ACCEPTED:
                self._report_accepted(request, result)
            case Verdict.RETRYABLE:
                self._log.warning("%s: not accepted now: %s", self._address(request), result.reason)
            case Verdict.PERMANENT:
                self._observer.refused(self.name, request.signal, request.items)
                lost = (self._address(request), request.items, request.signal, result.reason)
                self._log.error("%s: refused for good, %d items of %s are not there: %s", *lost)

    def _address(self, request: Request) -> str:
        return self.exporter.address(request.signal)

    def _report_accepted(self, request: Request, result: Result) -> None:
        self._observer.forwarded(self.name, request.signal, max(0, request.items - result.rejected))
        if result.rejected:
            self._observer.rejected(self.name, request.signal, result.rejected)
            lost = (self._address(request), result.rejected, request.signal, result.reason)
            self._log.error("%s: accepted without %d items of %s, which are lost there: %s", *lost)
        elif result.reason:
            self._log.warning("accepted with a warning: %s", result.reason)


class BestEffortSender(Sender):
    """To an exporter that is not required: sends have a deadline of their own, and what is too much is dropped."""

    def __init__(self, exporter: Exporter, observer: DeliveryObserver) -> None:
        super().__init__(exporter, observer)
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


class Delivery:
    """Sends every request to all exporters that take its signal, to each of them once.

    A request that comes again (`DeliveryCache` says which does) goes only to those exporters that lack it, and waits
    for the result where it is being sent already.
    """

    def __init__(
        self, exporters: Iterable[Exporter], observer: DeliveryObserver, *, remembered: int = _REMEMBERED
    ) -> None:
        self._exporters: Sequence[Exporter] = tuple(exporters)
        self._observer = observer
        self._cache = DeliveryCache(remembered)
        self._stopping = False
        self._all = [
            (Sender if exporter.required else BestEffortSender)(exporter, observer) for exporter in self._exporters
        ]
        self._senders: dict[Signal, list[Sender]] = {
            signal: [sender for sender in self._all if signal in sender.exporter.signals] for signal in ALL_SIGNALS
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
        for signal in sorted(ALL_SIGNALS) if self._exporters else ():  # without any, nothing is to be delivered
            if not self._senders[signal]:
                log.warning("no exporter takes %s: they are accepted and go nowhere", signal)

    async def deliver(self, signal: Signal, request_id: bytes, body: bytes, deadline: float, items: int = 0) -> Result:
        """Send one encoded export request; returns by `deadline` (loop time), whatever the exporters do.

        `items` is how many spans, log records or data points it holds, for the observer.
        """
        if self._stopping:
            return _STOPPING
        if not self._senders[signal]:
            self._observer.unclaimed(signal, items)
            return ACCEPTED
        state = self._cache.take(signal, request_id)
        acknowledged = False
        try:
            request = Request(signal, body, deadline, items)
            for sender in self._senders[signal]:
                sender.send(request, state)
            result = combined(await _results(self._required(signal), state, deadline))
            acknowledged = result.verdict is Verdict.ACCEPTED
            if result.verdict is Verdict.PERMANENT:
                state.forget_refusals()
            return result
        finally:
            self._cache.give_back(signal, request_id, state, acknowledged=acknowledged)

    def _required(self, signal: Signal) -> list[str]:
        return [sender.name for sender in self._senders[signal] if sender.exporter.required]

    async def close(self, grace: float = 10.0) -> None:
        """Take no more requests, let those under way end within `grace` seconds, and close all exporters."""
        self._stopping = True
        if under_way := [task for sender in self._all for task in sender.tasks]:
            _, late = await asyncio.wait(under_way, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await _close(self._exporters)


async def _results(names: Sequence[str], state: DeliveryState, deadline: float) -> dict[str, Result]:
    """Return the results of these exporters by the deadline. Sends go on where whoever waits here is cancelled."""
    sends = {name: state.under_way[name] for name in names if name in state.under_way}
    results = {name: state.settled.get(name, _LATE) for name in names}
    if sends:
        timeout = max(0.0, deadline - asyncio.get_running_loop().time())
        await asyncio.wait(sends.values(), timeout=timeout)
    for name, task in sends.items():
        if task.done():
            results[name] = _STOPPING if task.cancelled() else task.result()
    return results


async def _close(exporters: Sequence[Exporter]) -> None:
    """Close them all, whatever one of them does."""
    closing = (asyncio.wait_for(exporter.close(), _CLOSING_SECONDS) for exporter in exporters)
    results = await asyncio.gather(*closing, return_exceptions=True)
    for exporter, result in zip(exporters, results, strict=True):
        if isinstance(result, BaseException):
            logger_of(exporter.name).error("could not be closed", exc_info=result)
