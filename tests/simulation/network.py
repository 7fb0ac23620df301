"""Destinations and the network before them: late, lost, doubled, refused, answered in every way that OTLP knows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanledger_exporters.interface import ACCEPTED, Result, Signal, Verdict

Log = Callable[[str], None]

HANGS_S = 60.0
"""Longer than any sender waits."""


@dataclass(frozen=True)
class Odds:
    """How often what happens to one request between two ends, each from 0 to 1; `delay` is the longest, in seconds."""

    lost: float = 0.0
    """It never arrives, and nobody says so."""
    unanswered: float = 0.0
    """It arrives, its answer does not."""
    doubled: float = 0.0
    """It arrives twice."""
    hangs: float = 0.0
    delay: float = 0.0


@dataclass(frozen=True)
class Answers:
    """How often a destination answers what, each from 0 to 1."""

    busy: float = 0.0
    """Not now, with the time to wait or without."""
    refused: float = 0.0
    """Never."""
    partial: float = 0.0
    """Taken but for its last span, which is lost there."""
    raises: float = 0.0
    """The exporter fails in a way that nobody thought of."""


class Destination:
    """A backend behind an exporter: implements `interface.Exporter` under virtual time.

    `received` holds what arrived, in order; `left_out` the requests of which it left the last span out.
    """

    def __init__(
        self, name: str, *, required: bool, signals: frozenset[Signal], odds: Odds, answers: Answers, rng: random.Random
    ) -> None:
        self.name = name
        self.required = required
        self.signals = signals
        self.received: list[tuple[Signal, bytes]] = []
        self.refused: list[tuple[Signal, bytes]] = []
        self.left_out: list[tuple[bytes, bytes]] = []
        self._odds, self._answers = odds, answers
        self._rng = rng

    def mend(self) -> None:
        """No more faults."""
        self._odds, self._answers = Odds(), Answers()

    def address(self, signal: Signal) -> str:
        return "backend:4317"

    async def start(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to close."""

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        """Send one request over the faulty network."""
        odds, answers, chance = self._odds, self._answers, self._rng.random
        await asyncio.sleep(chance() * odds.delay)
        if chance() < odds.lost:
            return await self._silence(deadline)
        if chance() < odds.hangs:
            await asyncio.sleep(HANGS_S)
            return Result(Verdict.RETRYABLE, "gave up")
        if chance() < answers.raises:
            raise RuntimeError("a bug of an exporter")
        if chance() < answers.busy:
            return Result(Verdict.RETRYABLE, "busy", self._rng.choice((None, 0.5, 3.0)))
        if chance() < answers.refused:
            self.refused.append((signal, body))
            return Result(Verdict.PERMANENT, "never")
        result = self._take(signal, body, partial=chance() < answers.partial)
        if chance() < odds.doubled:
            self.received.append((signal, body))
        await asyncio.sleep(chance() * odds.delay)
        return await self._silence(deadline) if chance() < odds.unanswered else result

    def _take(self, signal: Signal, body: bytes, *, partial: bool) -> Result:
        if not partial or signal != "traces":
            self.received.append((signal, body))
            return ACCEPTED
        message = ExportTraceServiceRequest.FromString(body)
        spans = message.resource_spans[-1].scope_spans[-1].spans
        last = spans.pop()
        self.left_out.append((last.trace_id, last.span_id))
        self.received.append((signal, message.SerializeToString()))
        return Result(Verdict.ACCEPTED, "one span is too large", rejected=1)

    async def _silence(self, deadline: float) -> Result:
        await asyncio.sleep(max(0.0, deadline - asyncio.get_running_loop().time()))
        return Result(Verdict.RETRYABLE, "no answer in time")
