"""The pipeline of one request: read, account, write, deliver, answer; committed before it is delivered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from spanledger_exporters.delivery import Delivery
from spanledger_exporters.interface import ACCEPTED, Result, Signal, Verdict, combined
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Ruling
from spanledger_processor.accounting.unaccounted import unaccounted
from spanledger_processor.enrichment import Reading, Stage, write
from spanledger_processor.enrichment.logs import LogStage
from spanledger_processor.ledger.store import StateError
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.model import Decision
from spanledger_processor.otlp.request import count_data_points, count_log_records
from spanledger_processor.otlp.wire import MalformedError

log = logging.getLogger(__name__)


class StageObserver(Protocol):
    """Counts what becomes of requests. Items are spans, log records or data points."""

    def received(self, signal: Signal, items: int) -> None: ...

    def enriched(self, reading: Reading) -> None: ...

    def ruled(self, batch: Batch, ruling: Ruling) -> None: ...

    def unaccounted(self, spans: int) -> None: ...

    def enrichment_failed(self, reason: str) -> None: ...

    def accepted(self, signal: Signal, items: int) -> None: ...

    def refused(self, signal: Signal, items: int, verdict: str) -> None: ...


class Handler:
    """Spanledger's one pipeline; implements `receivers.driver.Pipeline`."""

    def __init__(
        self,
        stage: Stage,
        log_stage: LogStage,
        ledger: LedgerWriter,
        delivery: Delivery,
        observer: StageObserver,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._stage = stage
        self._log_stage = log_stage
        self._ledger = ledger
        self._delivery = delivery
        self._observer = observer
        self._now_ns = now_ns

    async def handle(self, signal: Signal, body: bytes, headers: Mapping[str, str], deadline: float) -> Result:
        """Take one export request through; raises MalformedError for bytes that are no such request."""
        out, made = body, None
        if signal == "traces":
            out, items = await self._enrich(body, headers)
        elif signal == "logs":
            items, made = self._make(body, headers)
        else:
            items = count_data_points(body)
        self._observer.received(signal, items)
        request_id = _request_id(body)
        made_spans = None if made is None else await self._enrich(made, headers)
        sends = [self._delivery.deliver(signal, request_id, out, deadline, items)]
        if made_spans is not None:
            spans, count = made_spans
            sends.append(self._delivery.deliver("traces", request_id, spans, deadline, count))
        result = _both(*await asyncio.gather(*sends))
        if result.verdict is Verdict.ACCEPTED:
            self._observer.accepted(signal, items)
        else:
            self._observer.refused(signal, items, result.verdict.value)
        return result

    def _make(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes | None]:
        """How many records a log request holds, and the spans made from it as a trace request, if there are any."""
        try:
            reading = self._log_stage.read(body, headers)
        except MalformedError:
            raise
        except Exception as error:
            log.exception("reading log events failed; the request goes on as it came")
            self._observer.enrichment_failed(type(error).__name__)
            return count_log_records(body), None
        for reason, records in reading.failures.items():
            for _ in range(records):
                self._observer.enrichment_failed(reason)
        return reading.records, reading.traces

    async def _enrich(self, body: bytes, headers: Mapping[str, str]) -> tuple[bytes, int]:
        """The enriched bytes and how many spans they hold. A failure of ours lets the bytes through as they came."""
        items = 0
        try:
            reading = self._stage.read(body, headers, self._now_ns())
            items = reading.request.span_count
            decisions = [await self.account(batch) for batch in reading.batches]
            out = write(reading, decisions) if decisions else body
            self._observer.enriched(reading)
        except MalformedError:
            raise
        except Exception as error:
            log.exception("enrichment failed; the request goes on as it came")
            self._observer.enrichment_failed(type(error).__name__)
            out = body
        return out, items

    async def account(self, batch: Batch) -> Mapping[int, Decision]:
        """Return the decisions on a batch once they are committed; without a ledger, those that need none."""
        try:
            ruling = await self._ledger.submit(partial(enter, batch))
        except StateError as error:
            if self._ledger.problem is None:  # else the ledger has told already
                log.warning("spans go on as not_accounted: %s", error)
            decisions = unaccounted(batch)
            self._observer.unaccounted(len(decisions))
            return decisions
        self._observer.ruled(batch, ruling)
        return ruling.decisions


def _request_id(body: bytes) -> bytes:
    """Tells one request from another within this process: Python's keyed 64-bit hash, and the length."""
    return hash(body).to_bytes(8, "big", signed=True) + len(body).to_bytes(4, "big")


def _both(result: Result, made: Result = ACCEPTED) -> Result:
    """The result of a request and of the spans made from it: it has arrived when both have."""
    if made.verdict is Verdict.ACCEPTED:
        return result
    return combined({"as it came": result, "spans made from it": made})
