"""Large requests are worked on in slices and in parts, one at a time, so that no request waits long for another."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from operator import attrgetter
from typing import Protocol, TypeVar

from spanledger_processor.accounting.account import weights_of
from spanledger_processor.accounting.facts import Batch
from spanledger_processor.enrichment import EarlierClaim
from spanledger_processor.otlp.counting import may_have_more_fields
from spanledger_processor.otlp.encoding import SynthesizedSpan
from spanledger_processor.otlp.wire import Steps, pause

T = TypeVar("T")

LARGE_BYTES = 4 * 2**20
_LARGE_SPANS = 1024
"""A request of more than either is large; resources and scopes count as spans, for they take as long. Large ones are
worked on in slices, one at a time, and their senders take turns. What is smaller takes a tenth of a second at most, and
is worked on at once: sliced, all that are under way would end late.
"""

_LEAST_PART = 2
"""Bytes of an empty resource, scope or span."""
_SYNTHESIZED_SLICED = 256
"""Spans made from a log request are worked on in slices from here on: each takes as long as several others."""

_YOUNG_OF_LARGE = 5_000
"""New objects that start a collection while a large request is worked on: with those that three such have left 20,000,
or a few milliseconds.
"""


ACCOUNTED_AT_ONCE = 1024
"""Spans of one unit of work: the ledger serves others between two. Of a large request half as many usual calls, so that
others, who wait for one under way and then for their own, are served soon.
"""
_IN_CUT_TRACE = 2
"""How many times as much a span counts there of a trace that is cut: it is decided on beside those that are known."""


_LONGEST_AT_ONCE = 0.03
"""Seconds that a request which is not large is worked on before others have their turn."""
_GROUPED = 1024
"""Facts or spans put into parts between two pauses: a millisecond."""


def is_large(body: bytes) -> bool:
    """Return whether a request is large, by its bytes, or by its parts where it has bytes for as many."""
    if _LARGE_SPANS * _LEAST_PART < len(body) <= LARGE_BYTES:
        return may_have_more_fields(_LARGE_SPANS, body)
    return len(body) > LARGE_BYTES


def is_large_synthesized(spans: Sequence[SynthesizedSpan]) -> bool:
    """Return whether spans made from a log request are worked on in slices: each takes as long as several others."""
    return len(spans) > _SYNTHESIZED_SLICED


def are_many(facts: int) -> bool:
    """Return whether so many spans that are accounted for make a request large that was not when it came."""
    return facts > _LARGE_SPANS


_NO_LOCK = nullcontext()


class FairLock:
    """A lock for large requests: one holds it at a time, and senders that wait get it in rotation."""

    def __init__(self) -> None:
        self._is_held = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def held(self, sender: str, *, large: bool) -> AbstractAsyncContextManager[None]:
        """Wait for the lock where the request is large, and hold it inside the block."""
        return self._held(sender) if large else _NO_LOCK

    @asynccontextmanager
    async def _held(self, sender: str) -> AsyncIterator[None]:
        await self._acquire(sender)
        try:
            with _short_collections():
                yield
        finally:
            self._release()

    async def _acquire(self, sender: str) -> None:
        if not self._is_held:
            self._is_held = True
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(sender, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        """Give the lock to the next sender's oldest request that still waits; that sender is last from now on."""
        while self._waiting:
            sender, places = self._waiting.popitem(last=False)
            place = places.popleft()
            if places:
                self._waiting[sender] = places
            if not place.done():
                place.set_result(None)
                return
        self._is_held = False


@contextmanager
def _short_collections() -> Iterator[None]:
    """Collect garbage more often inside the block, and less at a time: a collection stops everybody.

    What a large request is read into stays, so each object of it is looked at as often as otherwise: twice.
    """
    young, *others = gc.get_threshold()
    gc.set_threshold(min(young, _YOUNG_OF_LARGE), *others)
    try:
        yield
    finally:
        gc.set_threshold(young, *others)


async def work(steps: Steps[T], *, large: bool) -> T:
    """Run `steps` to its result: those of a large request in slices, others at once, which takes less.

    What is to be done on a thread is, of any request: a span of a million attributes, say. So is what `pause` is
    yielded after done in slices: plain spans that came in many requests before, say. Where the steps of a small request
    take longer than those of others by far, as of spans full of fields that OTLP does not know, they are slices, too.
    """
    sent, now = None, asyncio.get_running_loop().time
    began = now()
    while True:
        try:
            step = steps.send(sent)
        except StopIteration as end:
            result: T = end.value
            return result
        if step is not None and step is not pause:
            sent = await asyncio.to_thread(step)
            continue
        sent = None
        if large or step is pause or now() - began > _LONGEST_AT_ONCE:
            await asyncio.sleep(0)  # whatever else is ready to run has its turn
            began = now()


async def in_slices(steps: Steps[T]) -> T:
    """Run `steps` to its result, with a turn for everything else that is ready after each of them."""
    return await work(steps, large=True)


async def others_ended(claim: EarlierClaim) -> None:
    """Wait until the readings have ended that have the earlier spans of some traces of a claim's reading in hand."""
    for other in dict.fromkeys(claim.awaited.values()):
        ended = asyncio.Event()
        other.when_ended(ended.set)
        await ended.wait()


async def return_memory() -> None:
    """Return what a large request took to the system: before it is delivered, on the way, and once it is.

    glibc keeps freed memory below whatever else was allocated meanwhile. To return it takes 10 to 20 ms, on a thread.
    """
    if _trim is not None:
        await asyncio.to_thread(_trim, 0)


def keep_freed_memory() -> None:
    """Have glibc keep some MiB that were freed. By itself it returns them to the system as soon as a request of half a
    MiB is let go of, and the next one takes them again page by page: 180 faults, a tenth of the CPU time.

    What is larger than a request usually is comes from the system, and goes back to it at once.
    """
    if _set is not None:
        _set(_TRIM_THRESHOLD, _KEPT_BYTES)
        _set(_MMAP_THRESHOLD, LARGE_BYTES)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt` (malloc.h)."""
_KEPT_BYTES = 16 * 2**20
_glibc = ctypes.CDLL(None) if sys.platform == "linux" else None
_trim, _set = getattr(_glibc, "malloc_trim", None), getattr(_glibc, "mallopt", None)
"""None where another C library allocates."""


class _OfTrace(Protocol):
    @property
    def trace_id(self) -> bytes: ...

    @property
    def end_ns(self) -> int: ...


F = TypeVar("F", bound=_OfTrace)


def parts_of(batch: Batch, most: int | None = None) -> Steps[list[Sequence[int]]]:
    """Return the places of the facts of a large request's batch in its units of work; see `splitting`. With `most`,
    each counts for about so many usual calls.
    """
    most = ACCOUNTED_AT_ONCE // 2 if most is None else most
    return splitting(batch.facts, most, weights_of(batch), _IN_CUT_TRACE, attrgetter("is_genai"))


def splitting(
    facts: Sequence[F],
    most: int,
    weight: Callable[[F], int],
    least_if_cut: int = 1,
    begins: Callable[[F], bool] = lambda _: True,
) -> Steps[list[Sequence[int]]]:
    """Return the places of facts, or spans, in parts that weigh about `most`, each trace in one part unless it weighs
    more; yields after each `_GROUPED`. What fits into one part stays in its order.

    A trace that weighs more is cut by the ends of its spans, so that children, which end first, are known before the
    spans above them; each of its spans weighs `least_if_cut` at least. First stands one that `begins` a trace: of one
    that has none yet nothing is stored. What comes out is what several smaller requests would give.
    """

    def order(places: list[int]) -> None:
        places.sort(key=lambda place: facts[place].end_ns)
        first = next((number for number, place in enumerate(places) if begins(facts[place])), 0)
        places.insert(0, places.pop(first))

    traces: dict[bytes, list[int]] = {}
    weights: dict[bytes, int] = {}
    for place, fact in enumerate(facts, 1):
        traces.setdefault(fact.trace_id, []).append(place - 1)
        weights[fact.trace_id] = weights.get(fact.trace_id, 0) + weight(fact)
        if place % _GROUPED == 0:
            yield None
    if sum(weights.values()) <= most:
        return [range(len(facts))] if facts else []
    parts: list[Sequence[int]] = []
    part: list[int] = []
    filled = 0
    for number, (trace_id, places) in enumerate(traces.items(), 1):
        if number % _GROUPED == 0:
            yield None
        if filled + weights[trace_id] > most and part:
            parts.append(part)
            part, filled = [], 0
        if weights[trace_id] > most:
            yield partial(order, places)
            parts += yield from _cut(facts, places, most, lambda fact: max(weight(fact), least_if_cut))
        else:
            part += places
            filled += weights[trace_id]
    return [*parts, part] if part else parts


def _cut(facts: Sequence[F], places: list[int], most: int, weight: Callable[[F], int]) -> Steps[list[list[int]]]:
    """Return places of one trace in parts of consecutive ones that weigh about `most`."""
    parts: list[list[int]] = [[]]
    filled = 0
    for number, place in enumerate(places, 1):
        added = weight(facts[place])
        if filled + added > most and parts[-1]:
            parts.append([])
            filled = 0
        parts[-1].append(place)
        filled += added
        if number % _GROUPED == 0:
            yield None
    return parts
