"""Reading gRPC messages without filling memory.

`Export` is served as if the sender streamed its one message, which looks the same on the wire, but lets the door run
before the message is read. Messages are read only while the budget has room for the largest there may be, and few at a
time, because the size of a message is not known before. So there is never more than `max_in_flight_mib` +
`_READERS` * `max_recv_msg_size_mib`. What is not being read waits at the sender: a stream buffers 64 KiB here, and a
connection has a bounded number of them (`grpc_options`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc.aio

from spanledger_processor.receivers.budget import Budget, Claim
from spanledger_processor.receivers.reply import NO_ROOM, RefusedError, rejected, retry

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

_READERS = 4
"""Messages being read at a time. One whose beginning is here already, as most are, takes a moment."""
_TURN_WAIT = 1.0
"""Seconds that a request waits for its turn before its sender is told to come back."""
_READ_WAIT = 20.0
"""Seconds that a message may take to come in ..."""
_READ_WAIT_CONTENDED = 3.0
"""... and while others wait for their turn."""


class MessageReader:
    """Reads the messages of all connections; `largest` in bytes."""

    def __init__(self, budget: Budget, largest: int) -> None:
        self._budget = budget
        self._largest = largest
        self._turns = asyncio.Semaphore(_READERS)
        self._reading: dict[asyncio.Timeout, float] = {}

    async def read(self, context: Context, claim: Claim) -> bytes:
        """The one message of a call; `claim` grows by its size.

        Raises:
            RefusedError: there is no room for it, it takes too long, or it cannot be read.
        """
        if not self._budget.has_room_for(self._largest):
            raise RefusedError(NO_ROOM)
        await self._turn()
        try:
            message = await self._message(context)
        finally:
            self._turns.release()
        if not isinstance(message, bytes):
            # Over the limit, not decompressible, or its sender left: gRPC does not tell which. It has answered
            # already, and what we say reaches nobody. (A call that ends without a message does read it.)
            raise RefusedError(rejected("unreadable", "no message came that could be read"))
        if not claim.grow(len(message)):
            raise RefusedError(NO_ROOM)
        return message

    async def _turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        self._hurry()
        try:
            async with asyncio.timeout(_TURN_WAIT):
                await self._turns.acquire()
        except TimeoutError:
            raise RefusedError(NO_ROOM) from None

    def _hurry(self) -> None:
        """While others wait for their turn, senders that are slow lose it."""
        for patience, began in self._reading.items():
            if not patience.expired():
                patience.reschedule(began + _READ_WAIT_CONTENDED)

    async def _message(self, context: Context) -> Any:
        patience = asyncio.timeout(_READ_WAIT)
        try:
            async with patience:
                self._reading[patience] = asyncio.get_running_loop().time()
                return await context.read()
        except TimeoutError:
            raise RefusedError(retry("slow_body", "the message took too long to arrive; try again")) from None
        finally:
            self._reading.pop(patience, None)
