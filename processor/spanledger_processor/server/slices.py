"""Large requests are worked on in slices and in parts, one at a time, so that no request waits long for another."""

from __future__ import annotations

import asyncio
import gc
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol, TypeVar

from spanledger_processor.otlp.encoding import SynthesizedSpan
from spanledger_processor.otlp.envelope import has_more_than
from spanledger_processor.otlp.wire import Steps

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


def is_large(body: bytes) -> bool:
    """Return whether a request is large: by its bytes, or by its parts where it has bytes for as many."""
    return len(body) > LARGE_BYTES or (len(body) > _LARGE_SPANS * _LEAST_PART and has_more_than(_LARGE_SPANS, body))


def is_large_synthesized(spans: Sequence[SynthesizedSpan]) -> bool:
    """Return whether spans made from a log request are worked on in slices: each takes as long as several others."""
    return len(spans) > _SYNTHESIZED_SLICED


class FairLock:
    """A lock for large requests: one holds it at a time, and senders that wait get it in rotation."""

    def __init__(self) -> None:
        self._is_held = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def held(self, sender: str, *, large: bool) -> AsyncIterator[None]:
        """Wait for the lock where the request is large, and hold it inside the block."""
        if not large:
            yield
            return
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

    What is to be done on a thread is, of any request: a span of a million attributes, say.
    """
    sent = None
    while True:
        try:
            step = steps.send(sent)
        except StopIteration as end:
            result: T = end.value
            return result
        if step is not None:
            sent = await asyncio.to_thread(step)
            continue
        sent = None
        if large:
            await asyncio.sleep(0)  # whatever else is ready to run has its turn


async def in_slices(steps: Steps[T]) -> T:
    """Run `steps` to its result, with a turn for everything else that is ready after each of them."""
    return await work(steps, large=True)


class _OfTrace(Protocol):
    @property
    def trace_id(self) -> bytes: ...

    @property
    def end_ns(self) -> int: ...


def split(facts: Sequence[_OfTrace], most: int) -> list[Sequence[int]]:
    """Return the places of facts, or spans, in parts of about `most`, each trace in one part unless it has more.

    A trace that is too long is cut by the ends of its spans, so that children, which end first, are known before the
    spans above them. What comes out is what several smaller requests would give.
    """
    if len(facts) <= most:
        return [range(len(facts))]
    traces: dict[bytes, list[int]] = {}
    for place, fact in enumerate(facts):
        traces.setdefault(fact.trace_id, []).append(place)
    parts: list[Sequence[int]] = []
    part: list[int] = []
    for places in traces.values():
        if len(part) + len(places) > most and part:
            parts.append(part)
            part = []
        if len(places) > most:
            places.sort(key=lambda place: facts[place].end_ns)
            parts += [places[start : start + most] for start in range(0, len(places), most)]
        else:
            part += places
    return [*parts, part] if part else parts
