"""The pipeline of one request: read, account, write, deliver, answer; committed before it is delivered."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

import xxhash

from spanledger_exporters.delivery import Delivery, DeliveryInParts
from spanledger_exporters.interface import ACCEPTED, Result, Signal, Verdict, combined
from spanledger_processor.accounting.decide import unaccounted
from spanledger_processor.accounting.facts import Batch, Ruling
from spanledger_processor.enrichment import (
    EarlierClaim,
    Reading,
    Stage,
    appending,
    applying,
    releasing,
    releasing_request,
)
from spanledger_processor.enrichment.logs import LogStage, encoding
from spanledger_processor.enrichment.marks import OWN, without_marks
from spanledger_processor.enrichment.redaction import Redacted, Redactor
from spanledger_processor.ledger.store import StateError, UnitTooLargeError
from spanledger_processor.model import Decision
from spanledger_processor.otlp.encoding import SynthesizedSpan
from spanledger_processor.otlp.request import TraceRequest, count_log_records, counting_data_points, counting_traces
from spanledger_processor.otlp.splice import RequestPart
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.receivers.driver import COPIES, no_matter
from spanledger_processor.server.ledger_link import AnnouncedTraces, BatchLedger, UnansweredError
from spanledger_processor.server.rate_limits import RateLimitedError, RateLimits
from spanledger_processor.server.slices import (
    ACCOUNTED_AT_ONCE,
    LARGE_BYTES,
    FairLock,
    are_many,
    in_slices,
    is_large,
    is_large_synthesized,
    others_ended,
    parts_of,
    return_memory,
    splitting,
    work,
)

T = TypeVar("T")

_LargeKey: TypeAlias = tuple[Signal, bytes, frozenset[tuple[str, str]]]
"""Signal, id and headers of a large request."""

log = logging.getLogger(__name__)

_LARGE_COPIES = 3
"""Times that a large request is held while it is worked on: as it came, and what is appended, twice as much."""
_FACT_BYTES = 4096
"""What is held of each span that is accounted for, until its request is written."""

_SYNTHESIZED_AT_ONCE = 1024
"""Spans of a log request that are encoded and enriched as one trace request: each is several times as long as its
record, so that those of a large request would be more than may be held.
"""
_DELIVERED_BYTES = 4 * 2**20 - 2**16
"""Bytes that are delivered as one trace request, where no span is longer: what gRPC takes unless told otherwise, less
what stands around.
"""
_TRIMMED = 16
"""Parts after which freed memory is returned to the system: 40 MB."""
_GROWTH = 1536
"""What a call becomes longer by, about: 900 bytes by default, and with every alias and long names this."""
_SYNTHESIZED_BYTES = 1024
"""What is held of each synthesized span that is not encoded yet."""

_LARGE_KNOWN = 64
"""Large requests that are known to have been accepted."""
_LARGE_SECONDS = 20.0
"""Time that exporters have at most for a large request after its sender's deadline."""
_UNANSWERED = Result(Verdict.RETRYABLE, "the ledger has not answered; try again")
_LATE = Result(Verdict.RETRYABLE, "still being worked on")


class StageObserver(Protocol):
    """Counts what becomes of requests. Items are spans, log records or data points."""

    def received(self, signal: Signal, items: int) -> None:
        """Count items that came in."""
        ...

    def enriched(self, reading: Reading) -> None:
        """Count the spans of a request that was read and written."""
        ...

    def ruled(self, batch: Batch, ruling: Ruling) -> None:
        """Count what was decided on a batch."""
        ...

    def unaccounted(self, decisions: Mapping[int, Decision]) -> None:
        """Count spans that went on without the ledger."""
        ...

    def enrichment_failed(self, reason: str) -> None:
        """Count a failure of ours after which data went on as it came."""
        ...

    def redacted(self, redacted: Redacted) -> None:
        """Count the content that was taken out of a request."""
        ...

    def rate_limited(self, limit: str) -> None:
        """Count a request that is beyond a limit."""
        ...

    def accepted(self, signal: Signal, items: int) -> None:
        """Count items that every required exporter has."""
        ...

    def refused(self, signal: Signal, items: int, verdict: str) -> None:
        """Count items that the sender keeps, or drops."""
        ...


@dataclass(slots=True)
class _DeliveryTime:
    """How long exporters have for a request, all of its parts together: until its sender's deadline.

    A large one may have been worked on until then. Its sender asks for the result, so from then on they have what is
    `left` of the time that the sender waits.
    """

    deadline: float
    left: float = 0.0

    async def spent_on(self, deliver: Callable[[float], Awaitable[T]]) -> T:
        """Return the result of what delivers by a deadline (loop time)."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            return await deliver(max(self.deadline, began + self.left) if self.left else self.deadline)
        finally:
            self.left = max(0.0, self.left - (clock() - began))


@dataclass(frozen=True, slots=True)
class _Request:
    """An export request but for its bytes, which are let go of as soon as they are read: the parameters of `handle`.

    `identifier` is a hash of the bytes. `large`: it is worked on in slices, one at a time.
    """

    signal: Signal
    identifier: bytes
    headers: Mapping[str, str]
    time: _DeliveryTime
    sender: str
    trusted: bool
    hold: Callable[[int], None]
    large: bool


@dataclass(slots=True, eq=False)
class _LargeRequest:
    """A large request that is worked on, or was accepted; a sender waits for its result until then (loop time)."""

    task: asyncio.Task[Result]
    until: float


class Handler:
    """Spanledger's one pipeline; implements `receivers.driver.Pipeline`."""

    def __init__(
        self,
        stage: Stage,
        log_stage: LogStage,
        ledger: BatchLedger,
        delivery: Delivery,
        observer: StageObserver,
        now_ns: Callable[[], int] = time.time_ns,
        redactor: Redactor | None = None,
        check: Callable[[Mapping[str, str]], None] = lambda _: None,
        limits: RateLimits | None = None,
    ) -> None:
        self._check = check
        self._limits = limits
        self._stage = stage
        self._redactor = redactor
        self._log_stage = log_stage
        self._ledger = ledger
        self._delivery = delivery
        self._observer = observer
        self._now_ns = now_ns
        self._lock = FairLock()
        self._large: OrderedDict[_LargeKey, _LargeRequest] = OrderedDict()
        """Large requests of traces and logs that are worked on, and those that were accepted lately."""
        self._knowing: set[asyncio.Task[None]] = set()
        self._unaccounted: set[asyncio.Task[Result]] = set()
        """Those of them that went on without being accounted for: they are, when they come again."""

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
        """Take one export request through; raises MalformedError for bytes or headers of no such request.

        `sender` tells senders apart: large requests of several are worked on in turn. A large request may take longer
        than its sender waits: when that sends it again, it waits for the result of the first. Of logs, equal requests
        may be two: only one whose sender got no result is taken for the first. From a `trusted` hop, spans
        that another instance has marked pass as they are.
        """
        now = asyncio.get_running_loop().time
        waits = min(max(0.0, deadline - now()), _LARGE_SECONDS)
        self._check(headers)
        identifier = _request_id(body)
        try:
            if self._limits is not None:
                await self._limits.admit(sender, headers, len(body))
        except RateLimitedError as limited:
            return self._limited(limited)
        large = signal != "metrics" and is_large(body)  # metrics are counted only
        delivery_time = _DeliveryTime(deadline, waits if large else 0.0)
        request = _Request(signal, identifier, headers, delivery_time, sender, trusted, hold, large)
        if not large:
            return await self._through(request, body)
        key = signal, identifier, frozenset(headers.items())  # the tenant may stand in a header
        known = self._large.get(key)
        if known is not None and (signal == "traces" or known.until < now()):
            known.until = deadline
            del body  # the first one is worked on
            hold(0)
            await asyncio.wait((known.task,), timeout=max(0.0, deadline - now()))
            if not known.task.done() or known.task.cancelled():
                return _LATE
        else:
            task = asyncio.create_task(self._through(request, body))
            del body  # the task frees it
            beside, known = known, _LargeRequest(task, deadline)
            if beside is None:
                self._large[key] = known
                task.add_done_callback(partial(self._large_ended, key))
            await task
        result = known.task.result()
        if signal == "logs" and result.verdict is Verdict.ACCEPTED:
            if deadline < now():
                return _LATE  # nobody gets it: what comes again is this request
            if self._large.get(key) is known:
                del self._large[key]
        return result

    def _limited(self, limited: RateLimitedError) -> Result:
        self._observer.rate_limited(limited.limit)
        return Result(Verdict.RETRYABLE, str(limited), limited.seconds)

    def _large_ended(self, key: _LargeKey, task: asyncio.Task[Result]) -> None:
        ended = not task.cancelled() and task.exception() is None and task.result().verdict is Verdict.ACCEPTED
        if not ended or task in self._unaccounted:
            self._unaccounted.discard(task)
            self._large.pop(key, None)
            return
        accepted = [known for known, other in self._large.items() if other.task.done()]
        for known in accepted[:-_LARGE_KNOWN]:
            del self._large[known]

    async def _through(self, request: _Request, body: bytes) -> Result:
        """Enrich and deliver."""
        signal, of_spans = request.signal, ACCEPTED
        try:
            if signal == "traces":
                enriched = self._enrich(request, body)
                del body  # freed once it is read
                traces = await enriched
                items = traces.span_count
                self._observer.received(signal, items)
                delivering = self._delivery.in_parts(signal, request.identifier)
                await self._deliver_parts(request, traces, delivering)
                return self._counted(signal, items, delivering.end())
            synthesized: list[SynthesizedSpan] = []
            if signal == "logs":
                items, synthesized = await self._synthesize(request, body)
            else:
                items = await work(counting_data_points(body), large=is_large(body))
            self._observer.received(signal, items)
            if synthesized:
                of_spans = await self._deliver_synthesized(request, synthesized, len(body))
        except UnansweredError:
            return _UNANSWERED
        except RateLimitedError as limited:
            return self._limited(limited)
        if of_spans.verdict is Verdict.RETRYABLE:  # log records have no ids: a log that comes again is not sent before
            return self._counted(signal, items, of_spans)
        body = await self._redacted(signal, body, large=request.large)
        request.hold(COPIES * len(body))
        deliver = partial(self._delivery.deliver, signal, request.identifier, body, items=items)
        result = await request.time.spent_on(deliver)
        if of_spans.verdict is not Verdict.ACCEPTED:
            result = combined({"as it came": result, "spans made from it": of_spans})
        return self._counted(signal, items, result)

    async def _deliver_synthesized(self, request: _Request, synthesized: list[SynthesizedSpan], kept: int) -> Result:
        """Deliver the spans made from a log request, of which `kept` bytes are held meanwhile; empties the list."""
        large = is_large_synthesized(synthesized)
        chunks: list[list[SynthesizedSpan]] = []
        for places in await work(splitting(synthesized, _SYNTHESIZED_AT_ONCE, lambda _: 1), large=large):
            chunks.append([synthesized[place] for place in places])
            if large:
                await asyncio.sleep(0)
        chunks.reverse()
        synthesized.clear()
        delivering, goes_on = self._delivery.in_parts("traces", request.identifier), True
        while chunks and goes_on:
            chunk = chunks.pop()
            held = kept + sum(map(len, chunks)) * _SYNTHESIZED_BYTES
            of_spans = replace(request, large=large, trusted=False, hold=_with(request.hold, held))
            traces = await self._enrich(of_spans, await work(encoding(chunk), large=large))
            goes_on = await self._deliver_parts(of_spans, traces, delivering)
        return delivering.end()

    async def _deliver_parts(self, request: _Request, traces: TraceRequest, delivering: DeliveryInParts) -> bool:
        """Write and deliver a trace request, in parts where it is long, and let go of each; returns whether it is of
        use to go on.
        """
        parts = await self._parts(traces)
        total, appended, goes_on = len(parts), traces.appended_size() if len(parts) > 1 else 0, True
        parts.reverse()
        while parts and goes_on:
            part = parts.pop()
            body = await self._redacted("traces", await self._serialized(request, traces, part), large=request.large)
            if not parts:
                await work(releasing_request(traces), large=request.large)
            request.hold(len(traces.body) + appended * len(parts) // total + COPIES * len(body))
            goes_on = await request.time.spent_on(partial(delivering.deliver, body, items=part.items))
            if parts and len(parts) % _TRIMMED == 0:
                await return_memory()
        if parts:
            await work(releasing_request(traces), large=request.large)
        if total > 1:
            await return_memory()
        return goes_on

    async def _parts(self, traces: TraceRequest) -> list[RequestPart]:
        """Return the parts of a trace request that are delivered one by one. They depend on its bytes alone, so that a
        repeat has the same parts, of which each exporter is sent what it lacks.
        """
        if len(traces.body) + traces.span_count * _GROWTH <= _DELIVERED_BYTES:
            return [traces.whole]
        growth = _GROWTH if await in_slices(self._stage.may_change(traces.body)) else 0
        return await in_slices(traces.planning(_DELIVERED_BYTES, growth))

    async def _serialized(self, request: _Request, traces: TraceRequest, part: RequestPart) -> bytes:
        """Return a part of a request with what was appended; after a failure of ours without it."""
        try:
            return await work(traces.serializing(part), large=request.large)
        except Exception as error:
            log.exception("what was decided could not be written; the spans go on without it")
            self._observer.enrichment_failed(type(error).__name__)
            return without_marks(part.encoded(traces.body))

    def _counted(self, signal: Signal, items: int, result: Result) -> Result:
        """Count the result of a request, and return it."""
        if result.verdict is Verdict.ACCEPTED:
            self._observer.accepted(signal, items)
        else:
            self._observer.refused(signal, items, result.verdict.value)
        return result

    async def _redacted(self, signal: Signal, body: bytes, *, large: bool) -> bytes:
        """Return a request without the content that is to be taken out; an error refuses it, for now."""
        if self._redactor is None:
            return body
        if large or len(body) > LARGE_BYTES:
            redacted = await asyncio.to_thread(self._redactor.redact, signal, body)
        else:
            redacted = self._redactor.redact(signal, body)
        self._observer.redacted(redacted)
        return redacted.body

    async def _synthesize(self, request: _Request, body: bytes) -> tuple[int, list[SynthesizedSpan]]:
        """Return the number of records of a log request, and the spans made from it."""
        try:
            async with self._lock.held(request.sender, large=request.large):
                reading = await work(self._log_stage.reading(body, request.headers), large=request.large)
        except MalformedError:
            raise
        except Exception as error:
            log.exception("reading log events failed; the request goes on as it came")
            self._observer.enrichment_failed(type(error).__name__)
            return count_log_records(body), []
        for reason, records in reading.failures.items():
            for _ in range(records):
                self._observer.enrichment_failed(reason)
        return reading.records, reading.spans

    async def _enrich(self, request: _Request, spans: bytes | TraceRequest) -> TraceRequest:
        """Return a request with what is to be appended to its spans; after a failure of ours as it came.

        `spans` are as they came, or were synthesized here.
        """
        body = spans if isinstance(spans, bytes) else spans.body
        headers, large = request.headers, request.large
        try:
            with self._stage.claim() as claim:
                async with self._lock.held(request.sender, large=large):
                    if isinstance(spans, bytes):
                        trusted = request.trusted
                        steps = self._stage.reading(body, headers, self._now_ns(), trusted=trusted, claim=claim)
                    else:
                        steps = self._stage.reading_synthesized(spans, headers, self._now_ns(), claim=claim)
                    reading = await work(steps, large=large)
                    at_once = not claim.awaited and (large or not are_many(reading.fact_count()))
                    if at_once:
                        await self._decide(request, reading, large=large)
                if not at_once:  # for plain spans that came before
                    await self._add_earlier(reading, claim)
                    large = large or are_many(reading.fact_count())
                    async with self._lock.held(request.sender, large=large):
                        await self._decide(request, reading, large=large)
        except (MalformedError, UnansweredError, RateLimitedError):
            raise
        except Exception as error:
            log.exception("enrichment failed; the request goes on as it came")
            self._observer.enrichment_failed(type(error).__name__)
            return await self._unenriched(body, trusted=request.trusted)
        return reading.request

    async def _add_earlier(self, reading: Reading, claim: EarlierClaim) -> None:
        """Wait for others that have plain spans in hand which came before, and add those that are still left."""
        if claim.awaited:
            await others_ended(claim)
            await in_slices(self._stage.adding_earlier(reading, self._now_ns()))

    async def _decide(self, request: _Request, reading: Reading, *, large: bool) -> None:
        """Account for a reading and append what was decided to its spans, in parts where it is large."""
        if large:
            request.hold(_LARGE_COPIES * len(reading.request.body) + reading.fact_count() * _FACT_BYTES)
        if self._limits is not None:
            await self._limits.admit_names(request.sender, reading.batches)
        if reading.claim is not None and not large and len(reading.batches) == 1:
            reading.claim.submitted()
        if large:
            decisions = [await self._account_large(reading, number) for number in range(len(reading.batches))]
        else:
            decisions = [await self.account(batch) for batch in reading.batches]
        self.entered(reading)
        await work(applying(reading, decisions), large=large)
        self._observer.enriched(reading)
        if large:
            await in_slices(releasing(reading, decisions))
            await return_memory()

    async def _unenriched(self, body: bytes, *, trusted: bool) -> TraceRequest:
        """Return a request as it came, but for the attributes that only Spanledger writes: these are moved aside."""
        if OWN not in body:
            return await in_slices(counting_traces(body))
        try:
            reading = await asyncio.to_thread(self._stage.unenriched, body, trusted=trusted)
            await in_slices(applying(reading, ()))
            self._observer.enriched(reading)
        except Exception:
            log.exception("forged attributes could not be moved aside; they lose their names")
            return await in_slices(counting_traces(without_marks(body)))
        return reading.request

    async def know(self, traces: Collection[bytes]) -> None:
        """Account for the plain spans of traces whose GenAI spans were read by another process, or before: of each the
        id, and behind it the hash of the tenant where that is known.
        """
        with self._stage.claim() as claim:
            reading = await in_slices(self._stage.knowing(traces, self._now_ns(), claim=claim))
            await self._add_earlier(reading, claim)
            for number in range(len(reading.batches)):
                await self._account_large(reading, number)
            self.entered(reading)

    def entered(self, reading: Reading) -> None:
        """Let go of earlier spans that are part of a reading, once all of its batches are accounted for, and add those
        that came for its traces meanwhile.
        """
        if self._ledger.problem is None:
            self._stage.entered(reading)
        if reading.claim is not None:
            reading.claim.end()
            if reading.claim.missed:
                knowing = asyncio.create_task(self._know(reading.claim.missed))
                self._knowing.add(knowing)
                knowing.add_done_callback(self._knowing.discard)

    async def keep_knowing(self, announced: AnnouncedTraces) -> None:
        """Do as `know` for all traces that are announced."""
        while True:
            await self._know(await announced.take())

    async def _know(self, traces: Collection[bytes]) -> None:
        """Do as `know`, whatever happens."""
        try:
            await self.know(traces)
        except Exception:
            log.exception("plain spans that came before the GenAI spans of their trace could not be accounted for")

    async def account(self, batch: Batch, most: int = ACCOUNTED_AT_ONCE) -> dict[int, Decision]:
        """Return the decisions on a batch once they are committed; without a ledger, those that need none.

        A batch of more than `most` spans is accounted for in several units of work; what does not fit into a small
        ledger at once is, too.
        """
        decisions: dict[int, Decision] = {}
        many = len(batch.facts) > most
        for places in await in_slices(parts_of(batch, most)) if many else (range(len(batch.facts)),):
            decisions.update(await self._account_places(batch, places))
        return decisions

    async def _account_large(self, reading: Reading, number: int) -> dict[int, Decision]:
        """Account for a batch of a large request in parts, each of which is written before the next is begun; returns
        the decisions that are not written yet.
        """
        batch, left = reading.batches[number], dict[int, Decision]()
        for places in await in_slices(parts_of(batch)):
            decided = await self._account_places(batch, places)
            left.update(await work(appending(reading, number, places, decided), large=True))
        return left

    async def _account_places(self, batch: Batch, places: Sequence[int]) -> Mapping[int, Decision]:
        if len(places) == len(batch.facts):
            return await self._account_part(batch)
        decided = await self._account_part(replace(batch, facts=[batch.facts[i] for i in places], is_part=True))
        return {places[i]: decision for i, decision in decided.items()}

    async def _account_part(self, batch: Batch) -> Mapping[int, Decision]:
        try:
            ruling = await self._ledger.account(batch)
        except StateError as error:
            if isinstance(error, UnitTooLargeError) and len(batch.facts) > 1:
                return await self.account(batch, (len(batch.facts) + 1) // 2)
            if self._ledger.problem is None:  # else the ledger has logged it already
                log.warning("spans go on as not_accounted: %s", error)
            decisions = unaccounted(batch)
            self._observer.unaccounted(decisions)
            known = (large.task for large in self._large.values())
            self._unaccounted.update(task for task in known if task is asyncio.current_task())
            return decisions
        self._observer.ruled(batch, ruling)
        return ruling.decisions


def _with(hold: Callable[[int], None], kept: int) -> Callable[[int], None]:
    """Return what holds so much more than it is given."""
    return lambda size: hold(size + kept)


_SEED = secrets.randbits(64)


def _request_id(body: bytes) -> bytes:
    """Return the id by which a request is known when it comes again: a hash of 128 bits, seeded for each process.

    A request whose id is known is not delivered again, so of two different ones with the same id the second would be
    lost. By chance no two have it, and to make two on purpose takes the seed. A sender that could do so loses
    requests of its own, or those of another sender whose trace and span ids it knows in advance: with these it can do
    as much harm without a hash, by sending spans of its own under them.

    Takes 16 ms for 64 MiB, in which other threads run.
    """
    return xxhash.xxh3_128_digest(body, _SEED)
