"""Delivery of each request to all exporters that take its signal, once to each, and one result for its sender."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from spanledger_exporters.interface import (
    ACCEPTED,
    ITEMS,
    DeliveryObserver,
    Exporter,
    Result,
    Signal,
    Verdict,
    combined,
    logger_of,
)
from spanledger_exporters.senders import BestEffortSender, DeliveryState, QueuedSender, Request, Sender
from spanledger_exporters.settings import ALL_SIGNALS, DebugSettings, ExporterSettings, Match, NetworkSettings
from spanledger_exporters.wrappers import Renewed, Retrying
from spanledger_processor.otlp import schema
from spanledger_processor.otlp.request import count_data_points, count_log_records, count_traces
from spanledger_processor.otlp.values import Attributes, attributes_of
from spanledger_processor.otlp.wire import LENGTH, MalformedError, fields

if TYPE_CHECKING:
    from spanledger_exporters.debug import Display


log = logging.getLogger(__name__)

_REMEMBERED = 16384
"""Requests: more than senders repeat at one time; each costs a few hundred bytes."""

_PATIENCE_SECONDS = 5.0
"""How long the parts of one request wait in all for exporters that are not required: those that keep up lose none."""

_CLOSING_SECONDS = 5.0
"""How long an exporter may take to close: a disk that hangs keeps nothing else open."""

_LATE = Result(Verdict.RETRYABLE, "no answer in time")
_STOPPING = Result(Verdict.RETRYABLE, "stopping")


def build(name: str, settings: ExporterSettings, display: Display | None = None) -> Exporter:
    """Return the exporter with component id `name` that the settings (one of `settings.TYPES`) describe, not started.

    `display` says what a `debug` exporter may show of attributes; None: nothing.
    """
    module, kind = settings.exporter
    make = partial(getattr(import_module(f"spanledger_exporters.{module}"), kind), name)
    if not isinstance(settings, NetworkSettings):
        plain: Exporter = make(settings, **({"display": display} if isinstance(settings, DebugSettings) else {}))
        return plain
    exporter = Renewed(settings, make)
    if settings.retry_on_failure.enabled and not settings.sending_queue.enabled:
        return Retrying(exporter, settings.retry_on_failure)
    return exporter


def _sender_for(exporter: Exporter, observer: DeliveryObserver, settings: ExporterSettings | None) -> Sender:
    """Return what sends to this exporter what it takes: awaited, best effort, or out of a queue."""
    sender = _unmatched_sender(exporter, observer, settings)
    sender.match = None if settings is None else settings.match
    return sender


def _unmatched_sender(exporter: Exporter, observer: DeliveryObserver, settings: ExporterSettings | None) -> Sender:
    if isinstance(settings, NetworkSettings):
        if settings.sending_queue.enabled:
            retries = settings.retry_on_failure
            return QueuedSender(exporter, observer, settings.sending_queue, retries, settings.dead_letter)
        return (Sender if exporter.required else BestEffortSender)(exporter, observer, settings.dead_letter)
    return (Sender if exporter.required else BestEffortSender)(exporter, observer)


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
        """Note that no sender waits any more; `acknowledged`: it was answered that the request has arrived."""
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


class Delivery:
    """Sends every request to all exporters that take its signal, to each of them once, and what its `match` takes.

    A request that comes again (`DeliveryCache` says which does) goes only to those exporters that lack it, and waits
    for the result where it is being sent already.
    """

    def __init__(
        self,
        exporters: Iterable[Exporter],
        observer: DeliveryObserver,
        settings: Mapping[str, ExporterSettings] = MappingProxyType({}),
        *,
        remembered: int = _REMEMBERED,
    ) -> None:
        self._observer = observer
        self._cache = DeliveryCache(remembered)
        self._stopping = False
        self._all: Sequence[Sender] = [
            _sender_for(exporter, observer, settings.get(exporter.name)) for exporter in exporters
        ]
        self._senders: dict[Signal, list[Sender]] = {
            signal: [sender for sender in self._all if signal in sender.exporter.signals] for signal in ALL_SIGNALS
        }

    async def start(self) -> None:
        """Start all exporters; warns of signals that none takes.

        Raises:
            DestinationError: one of them cannot be used as configured; the others are closed again.
        """
        for count, sender in enumerate(self._all):
            try:
                await sender.start()
            except BaseException:
                await _close(self._all[: count + 1])
                raise
        for signal in sorted(ALL_SIGNALS) if self._all else ():  # without any, nothing is to be delivered
            if not self._senders[signal]:
                log.warning("no exporter takes %s: they are accepted and go nowhere", signal)

    async def prepare(self, settings: Mapping[str, ExporterSettings]) -> Sequence[Callable[[], Awaitable[None]]]:
        """Return what puts the headers and certificates of other settings into use, for each exporter that has others.

        Raises:
            DestinationError: some cannot be used.
        """
        commits = []
        for sender in self._all:
            given = settings.get(sender.name)
            exporter = sender.exporter.exporter if isinstance(sender.exporter, Retrying) else sender.exporter
            if isinstance(exporter, Renewed) and isinstance(given, NetworkSettings):
                commits.append(await exporter.prepare(given))
        return commits

    def takes(self, signal: Signal) -> bool:
        """Return whether any exporter takes this signal."""
        return bool(self._senders[signal])

    async def deliver(self, signal: Signal, request_id: bytes, body: bytes, deadline: float, items: int = 0) -> Result:
        """Send one encoded export request, and return by `deadline` (loop time) at the latest.

        `items` is how many spans, log records or data points it holds, for the observer; 0 for a request of our own.
        """
        if self._stopping:
            return _STOPPING
        if not self._senders[signal]:
            self._observer.unclaimed(signal, items)
            return ACCEPTED
        state = self._cache.take(signal, request_id)
        acknowledged = False
        try:
            required = self._begin(Parts(signal, body, items), Request(signal, body, deadline, items), state)
            result = combined(await _results(required, state, deadline))
            acknowledged = result.verdict is Verdict.ACCEPTED
            if result.verdict is Verdict.PERMANENT:
                state.forget_refusals()
            return result
        finally:
            self._cache.give_back(signal, request_id, state, acknowledged=acknowledged)

    def in_parts(self, signal: Signal, request_id: bytes) -> DeliveryInParts:
        """Return what delivers a request in parts, one after the other."""
        return DeliveryInParts(self, signal, request_id)

    def _begin(
        self, parts: Parts, request: Request, state: DeliveryState, but: Container[str] = frozenset()
    ) -> list[str]:
        """Begin to send to every exporter what it takes; return the names of those that are to be waited for. `but` are
        names of exporters that are left out.
        """
        senders = self._senders[request.signal]
        taken = [(sender, *parts.of(sender.match)) for sender in senders if sender.name not in but]
        if request.items and all(sender.match is not None for sender in senders):
            self._count_unmatched(parts, request)
        for sender, body, items in taken:
            if body or not request.body:
                sender.send(request if body is request.body else replace(request, body=body, items=items), state)
        return [sender.name for sender, body, _ in taken if sender.exporter.required and (body or not request.body)]

    def _count_unmatched(self, parts: Parts, request: Request) -> None:
        """Count items that no exporter matches, and warn of them."""
        unmatched = parts.unmatched([sender.match for sender in self._senders[request.signal] if sender.match])
        if unmatched:
            self._observer.unclaimed(request.signal, unmatched)
            items = ITEMS[request.signal]
            log.warning("no exporter's match takes some %s, which are accepted and go nowhere: %d", items, unmatched)

    async def close(self, grace: float = 10.0) -> None:
        """Take no more requests, let those under way end within `grace` seconds, and close all exporters."""
        self._stopping = True
        if under_way := [task for sender in self._all for task in sender.tasks]:
            _, late = await asyncio.wait(under_way, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await _close(self._all)


class DeliveryInParts:
    """A request that is delivered in parts, so that only one of them is held at a time; each is remembered by itself.

    An exporter that does not take a part now gets none of those behind it, until the request comes again and it is sent
    what it lacks. The others go on. The request has arrived when all of its parts have.
    """

    def __init__(self, delivery: Delivery, signal: Signal, request_id: bytes) -> None:
        self._delivery = delivery
        self._signal: Signal = signal
        self._request_id = request_id
        self._number = 0
        self._stopped = False
        self._results: dict[str, Result] = {}
        """Of the exporters that did not accept all of it: the first refusal, or what makes it retryable."""
        self._busy: set[str] = set()
        """Those that are sent no more of it now."""
        self._refused: list[DeliveryState] = []
        self._unawaited: list[asyncio.Task[Result]] = []
        self._patience = _PATIENCE_SECONDS

    async def deliver(self, body: bytes, deadline: float, items: int) -> bool:
        """Send the next part, and return by `deadline` (loop time) at the latest; the parts of a request come in the
        same order each time. Returns whether more of them are of use now.
        """
        await self._let_others_end(deadline)
        delivery, signal = self._delivery, self._signal
        if delivery._stopping:
            self._stopped = True
            return False
        part_id = self._request_id + (self._number.to_bytes(4, "big") if self._number else b"")
        self._number += 1
        senders = delivery._senders[signal]
        if not senders:
            delivery._observer.unclaimed(signal, items)
            return True
        state = delivery._cache.take(signal, part_id)
        try:
            request = Request(signal, body, deadline, items)
            required = delivery._begin(Parts(signal, body, items), request, state, self._busy)
            self._enter(await _results(required, state, deadline), state)
            self._unawaited = [send for name, send in state.under_way.items() if name not in self._busy]
        finally:
            delivery._cache.give_back(signal, part_id, state, acknowledged=False)
        waited_for = [one.name for one in senders if one.exporter.required]
        return not waited_for or not self._busy.issuperset(waited_for)

    async def _let_others_end(self, deadline: float) -> None:
        """Wait for exporters that are not required: one that keeps up would be sent too much at once."""
        clock = asyncio.get_running_loop().time
        began = clock()
        patience = min(self._patience, deadline - began)
        if self._unawaited and patience > 0.0:
            await asyncio.wait(self._unawaited, timeout=patience)
            self._patience -= clock() - began

    def _enter(self, results: Mapping[str, Result], state: DeliveryState) -> None:
        for name, result in results.items():
            if result.verdict is Verdict.RETRYABLE:
                self._busy.add(name)
                self._results[name] = result
            elif result.verdict is Verdict.PERMANENT:
                self._results.setdefault(name, result)
                self._refused.append(state)

    def end(self) -> Result:
        """Return what became of the request."""
        if self._stopped:
            return _STOPPING
        result = combined(self._results)
        if result.verdict is Verdict.PERMANENT:
            for state in self._refused:
                state.forget_refusals()
        return result


async def _results(names: Sequence[str], state: DeliveryState, deadline: float) -> dict[str, Result]:
    """Return the results of these exporters by the deadline. Sends go on where whoever waits here is cancelled."""
    sends = {name: state.under_way[name] for name in names if name in state.under_way}
    results = {name: state.final.get(name, _LATE) for name in names}
    if sends:
        timeout = max(0.0, deadline - asyncio.get_running_loop().time())
        await _ended(sends.values(), timeout)
    for name, task in sends.items():
        if task.done():
            results[name] = _STOPPING if task.cancelled() else task.result()
    return results


async def _ended(sends: Iterable[asyncio.Task[Result]], seconds: float) -> None:
    """Return when all of them have ended, or after so many seconds: `asyncio.wait` takes twice the steps."""
    loop = asyncio.get_running_loop()
    left, waiting = set(sends), loop.create_future()

    def ended(send: asyncio.Task[Result]) -> None:
        left.discard(send)
        if not left:
            _wake(waiting)

    for send in sends:
        send.add_done_callback(ended)
    timer = loop.call_later(seconds, _wake, waiting)
    try:
        await waiting
    finally:
        timer.cancel()
        for send in left:
            send.remove_done_callback(ended)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def _close(senders: Sequence[Sender]) -> None:
    """Close all of them, also after a failure of one."""
    closing = (asyncio.wait_for(sender.close(), _CLOSING_SECONDS) for sender in senders)
    results = await asyncio.gather(*closing, return_exceptions=True)
    for sender, result in zip(senders, results, strict=True):
        if isinstance(result, BaseException):
            logger_of(sender.name).error("could not be closed", exc_info=result)


_COUNT: Mapping[Signal, Callable[[bytes], int]] = {
    "traces": lambda body: count_traces(body).span_count,
    "logs": count_log_records,
    "metrics": count_data_points,
}
_RESOURCES = _RESOURCE = _ATTRIBUTES = 1
"""Field numbers: resources of a request, of all signals; what a resource is; its attributes."""


class Parts:
    """A request that goes to several exporters, each of which takes some of its resources."""

    def __init__(self, signal: Signal, body: bytes, items: int) -> None:
        self._signal: Signal = signal
        self._body = body
        self._items = items
        self._fields: list[tuple[int, int, Attributes | None]] | None = None

    def of(self, match: Match | None) -> tuple[bytes, int]:
        """Return what matches, as a request, and its items; no bytes where nothing does.

        Raises:
            MalformedError: the request cannot be taken apart.
        """
        if match is None:
            return self._body, self._items
        if self._fields is None:
            self._fields = _taken_apart(self._body)
        kept = [each for each in self._fields if each[2] is None or matches(each[2], match)]
        if len(kept) == len(self._fields):
            return self._body, self._items
        if all(attributes is None for _, _, attributes in kept):
            return b"", 0
        part = b"".join(self._body[start:end] for start, end, _ in kept)
        return part, _COUNT[self._signal](part)

    def unmatched(self, matchers: Sequence[Match]) -> int:
        """Return how many items are of resources that none of these takes."""
        if self._fields is None:
            self._fields = _taken_apart(self._body)
        left = [
            self._body[start:end]
            for start, end, attributes in self._fields
            if attributes is not None and not any(matches(attributes, match) for match in matchers)
        ]
        return _COUNT[self._signal](b"".join(left)) if left else 0


def matches(attributes: Attributes, match: Match) -> bool:
    """Return whether a resource has one of the values under every key."""
    return all(_text(attributes.get(key)) in {_text(value) for value in values} for key, values in match.items())


def _text(value: object) -> str:
    """Return a value as YAML writes it: a number and the text of it are equal, as in an environment variable."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _taken_apart(body: bytes) -> list[tuple[int, int, Attributes | None]]:
    """Return start and end of each field of a request, and the attributes of those that are resources."""
    parts: list[tuple[int, int, Attributes | None]] = []
    start = 0
    for field in fields(body, 0, len(body)):
        is_resource = field.number == _RESOURCES and field.wire_type == LENGTH
        parts.append((start, field.end, _attributes(body, field.start, field.end) if is_resource else None))
        start = field.end
    return parts


def _attributes(body: bytes, start: int, end: int) -> Attributes:
    inside = fields(body, start, end)
    resource = b"".join(body[each.start : each.end] for each in inside if each.number == _RESOURCE)
    try:
        return attributes_of(schema.Resource.FromString(resource), resource, _ATTRIBUTES)
    except DecodeError:
        raise MalformedError("a resource that cannot be read") from None
