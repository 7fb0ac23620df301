"""The request driver: takes requests through the pipeline to their end, also where the sender leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ParamSpec, Protocol, TypeAlias

from spanledger_exporters.interface import Result, Signal, Verdict
from spanledger_processor.otlp.request import parse_traces
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.receivers.memory_limiter import MemoryLimiter, Reservation
from spanledger_processor.receivers.refusals import (
    ENRICHER_NO_ROOM,
    GONE,
    LATE,
    NO_ROOM,
    STOPPING,
    OtlpProtocol,
    Outcome,
    RefusedError,
    outcome,
    rejected,
    retry,
)

log = logging.getLogger(__name__)

P = ParamSpec("P")

Handle: TypeAlias = Callable[[Signal, bytes, Mapping[str, str], float], Awaitable[Result]]
"""As `Pipeline.handle`."""

_LOGGED_ELSEWHERE = frozenset({"", "pipeline", "internal"})
"""Causes that need no line here: it was accepted, or whoever refused it has logged why."""

_LOST = "lost unless the sender keeps it"
_CONSEQUENCES: Mapping[OtlpProtocol, str] = {"enricher": "not enriched by the Collector component, which says so"}

LONGEST = 30.0
"""Seconds that a request may take where its sender names no time."""

_MARGIN = 0.1
"""Part of the sender's time that is kept for the answer, so that it comes before the sender gives up ..."""
_MOST_MARGIN = 0.5
"""... and no more than so many seconds."""

_SHORT = 64 * 2**10
"""Bytes of a request that are looked through in place; longer ones would keep others waiting."""

_TRACE_ID = b"\x0a\x10"
"""Tag of a span's field 1, length-delimited, and the length of a trace id."""


def no_matter(_: int) -> None:
    """Do nothing: the memory of the request is not counted."""


class Pipeline(Protocol):
    """Everything behind the receivers: one request in, one result back."""

    async def handle(
        self,
        signal: Signal,
        body: bytes,
        headers: Mapping[str, str],
        deadline: float,
        sender: str = "",
        *,
        trusted: bool = False,
        hold: Callable[[int], None] = no_matter,
    ) -> Result:
        """Take one encoded export request (protobuf) through to the exporters by `deadline` (event-loop time).

        `headers` are the request's, with lower-case names and no credentials; `sender` is the host it came from;
        `trusted` says that marks of another instance are believed; `hold` gets the number of bytes the request takes
        from then on, copies and what was read of it included.
        Once begun, a call runs to its end: the sender going away does not cancel it.

        Raises:
            MalformedError: `body` is not an export request of `signal`; the sender gets the reason.
        """
        ...


class RequestObserver(Protocol):
    """Counts requests; must not raise and must not wait."""

    def began(self) -> None:
        """Note that a request came in, which this task and those that it starts work on."""

    def answered(self, signal: Signal, protocol: OtlpProtocol, outcome: Outcome, cause: str, seconds: float) -> None:
        """Count an answered request, `seconds` after it began; `cause` says why the outcome is not "ok"."""

    def received(self, signal: Signal, protocol: OtlpProtocol, size: int) -> None:
        """Count a request that was read: `size` bytes, decompressed, as protobuf."""

    def in_flight(self, size: int) -> None:
        """Set the bytes held for requests, both protocols together, to `size`."""

    def internal_error(self, where: str) -> None:
        """Count a failure of ours; the sender keeps the data."""


COPIES = 2
"""Times that a request is held while it is delivered: by us, and by the client that sends it on."""


@dataclass(slots=True)
class Request:
    """One export request that was read. `body` is protobuf; `headers` have lower-case names and no credentials.

    `sender` is the host it came from; `trusted` says that marks of another instance are believed.
    """

    signal: Signal
    protocol: OtlpProtocol
    body: bytes
    headers: Mapping[str, str]
    sender: str
    trusted: bool = False

    def take_body(self) -> bytes:
        """Hand the bytes over, so that they are freed when the pipeline needs them no more."""
        body, self.body = self.body, b""
        return body


class RequestDriver:
    """Drives the pipeline for both protocols; None where each request brings what handles it."""

    def __init__(self, pipeline: Pipeline | None, limiter: MemoryLimiter, observer: RequestObserver) -> None:
        self.limiter = limiter
        self.draining = False
        self._pipeline = pipeline
        self._observer = observer
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, signal: Signal, protocol: OtlpProtocol, receive: Awaitable[Result], sender: str) -> Result:
        """Await `receive`, a receiver's work from first byte to result. Where it fails, the sender keeps the data.

        `sender` is the host that the request comes from, for the log.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        result = GONE
        self._count(self._observer.began)
        try:
            result = await receive
            result = _of_protocol(result, protocol)
        except RefusedError as refused:
            result = _of_protocol(refused.result, protocol)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not cost the sender its data
            result = self._failed(f"{protocol}_receiver", error)
        finally:
            self._count(self._observer.answered, signal, protocol, outcome(result), result.cause, clock() - began)
        if result.cause not in _LOGGED_ELSEWHERE:
            reported = (signal, protocol, sender, result.cause, result.reason)
            kind = {"kind": result.cause}  # one cause does not hide another from the log
            if result.verdict is Verdict.PERMANENT:
                refusal = "%s by %s from %s refused, and " + _CONSEQUENCES.get(protocol, _LOST) + " (%s): %.300s"
                log.error(refusal, *reported, extra=kind)
            else:
                log.warning("%s by %s from %s not taken now (%s): %.300s", *reported, extra=kind)
        return result

    async def submit(
        self, request: Request, reservation: Reservation, left: float | None, handle: Handle | None = None
    ) -> Result:
        """Take a request through `handle`, by default the pipeline's; `left`: seconds that the sender will wait.

        The work goes on when the sender leaves or its time is up, and keeps `reservation` until it has ended.
        """
        if self.draining:
            reservation.release()
            return STOPPING
        if not reservation.resize(min(len(request.body) * COPIES, self.limiter.limit)):
            reservation.release()
            return NO_ROOM
        seconds = LONGEST if left is None else max(0.0, min(left, LONGEST))
        margin = min(seconds * _MARGIN, _MOST_MARGIN)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds - margin
        if handle is None:
            assert self._pipeline is not None
            sender, trusted = request.sender, request.trusted
            handle = partial(self._pipeline.handle, sender=sender, trusted=trusted, hold=reservation.hold)
        answer: asyncio.Future[Result] = loop.create_future()
        work = loop.create_task(self._handle(request, reservation, deadline, handle, answer))
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        timer = loop.call_later(seconds - margin / 2, _give, answer, LATE)
        try:
            return await answer  # one turn of the event loop earlier than the end of the task
        finally:
            timer.cancel()

    async def drain(self, seconds: float) -> None:
        """Refuse new requests, and give those under way so long to end; then they are given up, unanswered."""
        self.draining = True
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=seconds)
        for work in late:
            work.cancel()
        if late:
            log.warning("stopped with requests under way: %d; their senders keep the data", len(late))
            await asyncio.wait(late)

    async def _handle(
        self,
        request: Request,
        reservation: Reservation,
        deadline: float,
        handle: Handle,
        answer: asyncio.Future[Result],
    ) -> None:
        _give(answer, await self._result(request, reservation, deadline, handle))

    async def _result(self, request: Request, reservation: Reservation, deadline: float, handle: Handle) -> Result:
        self._count(self._observer.received, request.signal, request.protocol, len(request.body))
        try:
            signal = request.signal
            if signal == "logs" and len(request.body) > _SHORT:
                signal = await asyncio.to_thread(detect_signal, signal, request.body)
            else:
                signal = detect_signal(signal, request.body)
            result = await handle(signal, request.take_body(), request.headers, deadline)
            return result if result.verdict is Verdict.ACCEPTED else replace(result, cause="pipeline")
        except MalformedError as error:
            return rejected("malformed", str(error))
        except asyncio.CancelledError:
            return STOPPING
        except Exception as error:  # noqa: BLE001 - as in `run`
            return self._failed("pipeline", error)
        finally:
            reservation.release()

    def _count(self, what: Callable[P, None], *args: P.args, **named: P.kwargs) -> None:
        """Count a result; an error in that decides nothing about data."""
        try:
            what(*args, **named)
        except Exception as error:
            log.error("a request was not counted", exc_info=error)

    def _failed(self, where: str, error: Exception) -> Result:
        log.error("unexpected failure in %s; the sender is told to keep the data", where, exc_info=error)
        self._observer.internal_error(where)
        return retry("internal", f"internal failure ({type(error).__name__}); try again")


def _of_protocol(result: Result, protocol: OtlpProtocol) -> Result:
    """Return the result that names the setting of this receiver."""
    return ENRICHER_NO_ROOM if result is NO_ROOM and protocol == "enricher" else result


def _give(answer: asyncio.Future[Result], result: Result) -> None:
    if not answer.done():
        answer.set_result(result)


def detect_signal(signal: Signal, body: bytes) -> Signal:
    """Return the signal that `body` holds, where it came in as `signal`.

    One version of a client seen in recordings posts trace requests to the logs path. The export requests have the same
    shape down to the lists of spans and log records, so protobuf reads the one as the other. A span begins with a trace
    id of 16 bytes in field 1, and field 1 of a log record is a fixed64: that tells them apart.
    """
    if signal == "logs" and _TRACE_ID in body and _all_spans(body):
        return "traces"
    return signal


def _all_spans(body: bytes) -> bool:
    try:
        request = parse_traces(body)
    except Exception:  # noqa: BLE001 - a guess that fails must not hold logs up
        return False
    return request.span_count > 0 and all(
        span.startswith(_TRACE_ID) for group in request.groups for span in group.items
    )
