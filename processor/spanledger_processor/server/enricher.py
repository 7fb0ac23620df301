"""Enrichment for the Collector component, which delivers by itself: the answer comes once all is committed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from typing import TypeAlias

from spanledger_processor.accounting.facts import Batch
from spanledger_processor.dialects import MARKERS
from spanledger_processor.dialects.content import ReadValue, UnreadValue, read_values, unread_values
from spanledger_processor.dialects.log_events import LOG_MARKERS
from spanledger_processor.enrichment import Reading, Stage, additions, writing
from spanledger_processor.enrichment.logs import LogStage, encoding
from spanledger_processor.model import Decision
from spanledger_processor.otlp.request import TraceRequest, count_log_records
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.server.handler import StageObserver
from spanledger_processor.server.ledger_link import UnansweredError
from spanledger_processor.server.slices import (
    are_many,
    in_slices,
    is_large,
    is_large_synthesized,
    others_ended,
    work,
)

log = logging.getLogger(__name__)

Account: TypeAlias = Callable[[Batch], Awaitable[Mapping[int, Decision]]]


@dataclass(frozen=True)
class Description:
    """What a client selects by, and what it may leave out."""

    span_markers: tuple[str, ...]
    log_markers: tuple[str, ...]
    link_keys: tuple[str, ...]
    unread_values: tuple[UnreadValue, ...]
    read_values: tuple[ReadValue, ...]
    trusted: bool
    """Whether spans that are marked pass as they are."""

    @property
    def revision(self) -> str:
        """Return a digest of all this."""
        lists = (self.span_markers, self.log_markers, self.link_keys, self.unread_values, self.read_values)
        return _digest((*lists, self.trusted))


@cache
def _digest(lists: tuple[object, ...]) -> str:
    return blake2b(repr(lists).encode(), digest_size=8).hexdigest()


@dataclass(slots=True)
class SpanAnswers:
    """What becomes of the spans of a request, by their place in it counted over all groups.

    `attributes` are encoded ones to be appended, of each span that gains or loses any, `forged` the places of those
    that are moved aside, `failures` the reasons why a span gains nothing.
    """

    seen: int
    attributes: dict[int, bytes] = field(default_factory=dict)
    forged: dict[int, list[int]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class SynthesizedSpans:
    """Spans made from log records, enriched, as an export request; how many records there were and failed."""

    records: int
    failed: int
    traces: bytes = b""


class Enricher:
    """Implements `receivers.enricher.Enricher` over the same stages and the same ledger as the pipeline."""

    def __init__(
        self,
        stage: Stage,
        log_stage: LogStage,
        account: Account,
        entered: Callable[[Reading], None],
        observer: StageObserver,
        link_keys: tuple[str, ...],
        now_ns: Callable[[], int] = time.time_ns,
        *,
        trusted: bool = False,
    ) -> None:
        self.description = Description(
            tuple(marker.decode() for marker in MARKERS),
            tuple(marker.decode() for marker in LOG_MARKERS),
            link_keys,
            unread_values(link_keys),
            read_values(stage.loop.fewest_calls),
            trusted,
        )
        self._stage = stage
        self._log_stage = log_stage
        self._account = account
        self._entered = entered
        self._observer = observer
        self._now_ns = now_ns
        self._trusted = trusted

    async def enrich(self, body: bytes, headers: Mapping[str, str]) -> SpanAnswers:
        """Commit the GenAI spans of a trace request and return what each gains.

        A failure of ours fails every span of the request: none is distinguished from one that gains nothing.

        Raises:
            MalformedError: `body` is not a trace request.
            UnansweredError: whether its spans are committed is not known; the client is to ask again.
        """
        try:
            large = is_large(body)
            with self._stage.claim() as claim:
                now_ns, trusted = self._now_ns(), self._trusted
                steps = self._stage.reading(body, headers, now_ns, trusted=trusted, claim=claim)
                reading = await work(steps, large=large)
                self._observer.received("traces", reading.request.span_count)
                decisions = await self._accounted(reading)
            answers = SpanAnswers(reading.request.span_count, *additions(reading, decisions), reading.failed_spans())
            self._observer.enriched(reading)
        except (MalformedError, UnansweredError):
            raise
        except Exception as error:
            log.exception("enrichment failed; the spans go on as they came")
            self._observer.enrichment_failed(type(error).__name__)
            reading = self._stage.unenriched(body, trusted=self._trusted)
            seen = reading.request.span_count
            failures = dict.fromkeys(range(seen), type(error).__name__)
            answers = SpanAnswers(seen, *additions(reading, ()), failures)
            self._observer.enriched(reading)
        return answers

    async def _accounted(self, reading: Reading) -> Sequence[Mapping[int, Decision]]:
        """Return the decisions on each batch, of which there is one a tenant; several share a commit."""
        if reading.claim is not None and reading.claim.awaited:
            await others_ended(reading.claim)
            await in_slices(self._stage.adding_earlier(reading, self._now_ns()))
        if reading.claim is not None and not are_many(reading.fact_count()):
            reading.claim.submitted()
        if len(reading.batches) == 1:
            decisions = [await self._account(reading.batches[0])]
        else:
            decisions = await asyncio.gather(*map(self._account, reading.batches))
        self._entered(reading)
        return decisions

    async def synthesize(self, body: bytes, headers: Mapping[str, str]) -> SynthesizedSpans:
        """Commit the calls that a log request reports and return the spans made from it, enriched.

        Raises:
            MalformedError: `body` is not a log request.
        """
        try:
            reading = await work(self._log_stage.reading(body, headers), large=is_large(body))
        except MalformedError:
            raise
        except Exception as error:
            log.exception("reading log events failed; no spans are made from them")
            self._observer.enrichment_failed(type(error).__name__)
            records = count_log_records(body)
            return SynthesizedSpans(records, records)
        self._observer.received("logs", reading.records)
        for reason, records in reading.failures.items():
            for _ in range(records):
                self._observer.enrichment_failed(reason)
        result = SynthesizedSpans(reading.records, reading.failures.total())
        if reading.spans:
            large = is_large_synthesized(reading.spans)
            request = await work(encoding(reading.spans), large=large)
            result.traces = await self._written(request, headers, large=large)
        return result

    async def _written(self, request: TraceRequest, headers: Mapping[str, str], *, large: bool) -> bytes:
        """Return a request of synthesized spans with what they gain appended."""
        with self._stage.claim() as claim:
            steps = self._stage.reading_synthesized(request, headers, self._now_ns(), claim=claim)
            reading = await work(steps, large=large)
            decisions = await self._accounted(reading)
        self._observer.enriched(reading)
        return await work(writing(reading, decisions), large=large)
