"""Where both doors hand their requests over: counted, shielded from senders that leave, and never unanswered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec

from spanledger_exporters.interface import Signal
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.pipeline import Pipeline
from spanledger_processor.receivers.budget import Budget, Claim
from spanledger_processor.receivers.mistaken import meant
from spanledger_processor.receivers.observer import Observer
from spanledger_processor.receivers.reply import (
    GONE,
    STOPPING,
    OtlpProtocol,
    RefusedError,
    Reply,
    of_answer,
    rejected,
    retry,
)

log = logging.getLogger(__name__)

P = ParamSpec("P")

_TOLD_ELSEWHERE = frozenset({"", "pipeline", "internal"})
"""Causes that need no line here: it was taken, or whoever refused it has told why."""

LONGEST = 30.0
"""Seconds that a request may take where its sender names no time."""

_MARGIN = 0.1
"""Part of the sender's time that is kept for the answer, so that it comes before the sender gives up ..."""
_MOST_MARGIN = 0.5
"""... and no more than so many seconds."""


@dataclass(frozen=True, slots=True)
class Request:
    """One export request that was read. `body` is protobuf; `headers` have lower-case names and no credentials."""

    signal: Signal
    protocol: OtlpProtocol
    body: bytes
    headers: Mapping[str, str]


class Desk:
    """Drives the pipeline for both doors."""

    def __init__(self, pipeline: Pipeline, budget: Budget, observer: Observer) -> None:
        self.budget = budget
        self.stopping = False
        self._pipeline = pipeline
        self._observer = observer
        self._under_way: set[asyncio.Task[Reply]] = set()

    async def attend(self, signal: Signal, protocol: OtlpProtocol, serve: Awaitable[Reply]) -> Reply:
        """Await `serve`, a door's way from first byte to reply. Whatever fails there, the sender keeps the data."""
        clock = asyncio.get_running_loop().time
        began = clock()
        reply = GONE
        try:
            reply = await serve
        except RefusedError as refused:
            reply = refused.reply
        except Exception as error:  # noqa: BLE001 - a bug of ours must not cost the sender its data
            reply = self._failed(f"{protocol}_door", error)
        finally:
            self._tell(self._observer.answered, signal, protocol, reply.outcome, reply.cause, clock() - began)
        if reply.cause not in _TOLD_ELSEWHERE:
            log.warning("%s by %s not taken (%s): %.300s", signal, protocol, reply.cause, reply.message)
        return reply

    async def hand_over(self, request: Request, claim: Claim, left: float | None) -> Reply:
        """Take a request through the pipeline; `left` is how many seconds the sender will wait, None if unknown.

        The work goes on when the sender leaves or its time is up, and holds `claim` until it has ended.
        """
        if self.stopping:
            claim.release()
            return STOPPING
        seconds = LONGEST if left is None else max(0.0, min(left, LONGEST))
        margin = min(seconds * _MARGIN, _MOST_MARGIN)
        deadline = asyncio.get_running_loop().time() + seconds - margin
        work = asyncio.create_task(self._work(request, claim, deadline))
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        await asyncio.wait((work,), timeout=seconds - margin / 2)
        return work.result() if work.done() else retry("deadline", "not delivered in the time there was; try again")

    async def drain(self, seconds: float) -> None:
        """Turn new requests away, and give those under way so long to end; then they are given up, unanswered."""
        self.stopping = True
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=seconds)
        for work in late:
            work.cancel()
        if late:
            log.warning("stopped with requests under way: %d; their senders keep the data", len(late))
            await asyncio.wait(late)

    async def _work(self, request: Request, claim: Claim, deadline: float) -> Reply:
        self._tell(self._observer.received, request.signal, request.protocol, len(request.body))
        try:
            signal = meant(request.signal, request.body)
            return of_answer(await self._pipeline.handle(signal, request.body, request.headers, deadline))
        except MalformedError as error:
            return rejected("malformed", str(error))
        except asyncio.CancelledError:
            return STOPPING
        except Exception as error:  # noqa: BLE001 - as in `attend`
            return self._failed("pipeline", error)
        finally:
            claim.release()

    def _tell(self, what: Callable[P, None], *args: P.args, **named: P.kwargs) -> None:
        """Counting never decides about data."""
        try:
            what(*args, **named)
        except Exception as error:
            log.error("a request was not counted", exc_info=error)

    def _failed(self, where: str, error: Exception) -> Reply:
        log.error("unexpected failure in %s; the sender is told to keep the data", where, exc_info=error)
        self._observer.internal_error(where)
        return retry("internal", f"internal failure ({type(error).__name__}); try again")
