"""Messages that take long to come in: they hold up nobody else's, and they come in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from spanledger_processor.receivers import grpc as grpc_receiver
from spanledger_processor.receivers.grpc import MessageReader
from spanledger_processor.receivers.memory_limiter import MemoryLimiter, Reservation
from spanledger_processor.receivers.refusals import RefusedError


@dataclass
class Call:
    """A call whose message comes when a test says so."""

    reader: MessageReader
    sender: str = "a"
    came: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> bytes:
        self.begun.set()
        await self.came.wait()
        return b"message"

    def start(self) -> asyncio.Task[bytes]:
        reservation = Reservation(MemoryLimiter(100, lambda _: None))
        return asyncio.create_task(self.reader.read(cast(Any, self), reservation, self.sender))


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> MessageReader:
    """Two turns, two slow reads beside them; whoever waits finds that the others have had their time."""
    monkeypatch.setattr(grpc_receiver, "_READERS", 2)
    monkeypatch.setattr(grpc_receiver, "_SLOW_READERS", 2)
    monkeypatch.setattr(grpc_receiver, "_QUICK", 0.0)
    return MessageReader(MemoryLimiter(100, lambda _: None), 1)


async def stalled(reader: MessageReader, *senders: str) -> list[tuple[Call, asyncio.Task[bytes]]]:
    """Calls whose messages do not come, one begun after the other."""
    calls = []
    for sender in senders:
        call = Call(reader, sender)
        calls.append((call, call.start()))
        await call.begun.wait()
    return calls


async def quick(reader: MessageReader, sender: str = "quick") -> bytes:
    call = Call(reader, sender)
    call.came.set()
    return await call.start()


async def test_fast_messages_pass_slow_ones_and_the_slow_ones_come_in(reader: MessageReader) -> None:
    slow = await stalled(reader, "a", "b")
    for _ in range(5):
        assert await quick(reader) == b"message"
    assert not any(task.done() for _, task in slow)
    for call, task in slow:
        call.came.set()
        assert await task == b"message"


async def test_no_more_are_read_at_once_than_there_are_places_and_the_newest_gives_way(reader: MessageReader) -> None:
    slow = await stalled(reader, "a", "b", "c", "d")
    assert await quick(reader) == b"message"
    ended = [task for _, task in slow if task.done()]
    assert ended == [slow[3][1]]
    with pytest.raises(RefusedError) as refused:
        await ended[0]
    assert refused.value.result.cause == "slow_body"
    for call, task in slow[:3]:
        call.came.set()
        assert await task == b"message"


async def test_a_sender_that_holds_all_places_gives_way_to_another_sender(reader: MessageReader) -> None:
    slow = await stalled(reader, "a", "a", "b", "a")
    assert await quick(reader) == b"message"
    assert await quick(reader) == b"message"
    (b_call, b_task), ended = slow[2], [call for call, task in slow if task.done()]
    assert all(call.sender == "a" for call in ended)
    b_call.came.set()
    assert await b_task == b"message"
    for call, _ in slow:
        call.came.set()
    await asyncio.gather(*(task for _, task in slow), return_exceptions=True)


async def test_who_leaves_while_it_waits_takes_no_turn(reader: MessageReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_receiver, "_QUICK", 100.0)
    slow = await stalled(reader, "a", "b")
    waiting = Call(reader, "c").start()
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    for call, task in slow:
        call.came.set()
        assert await task == b"message"
    assert [await quick(reader) for _ in range(3)] == [b"message"] * 3
    assert (reader._granted, len(reader._waiting)) == (0, 0)


async def test_who_finds_no_turn_in_time_is_told_to_come_back(
    reader: MessageReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_receiver, "_QUICK", 100.0)
    monkeypatch.setattr(grpc_receiver, "_SLOT_WAIT", 0.01)
    slow = await stalled(reader, "a", "b")
    with pytest.raises(RefusedError) as refused:
        await quick(reader)
    assert refused.value.result.cause == "budget"
    for call, task in slow:
        call.came.set()
        assert await task == b"message"


@pytest.mark.parametrize(("held", "slow", "read"), [(0, 0, 4), (45, 0, 2), (80, 0, 1), (0, 2, 3), (0, 4, 1)])
async def test_messages_of_unknown_size_are_read_as_far_as_there_is_room_for_the_largest(
    held: int, slow: int, read: int
) -> None:
    """Their bytes are with gRPC before their size is known: eight of 50 MiB were, beside all that was counted."""
    limiter = MemoryLimiter(100, lambda _: None)
    reader = MessageReader(limiter, 20)
    limiter.change(held, "other")
    for _ in range(slow):
        await stalled(reader, "slow")
        reader._move(reader._quick)
    calls = [Call(reader) for _ in range(6)]
    tasks = [call.start() for call in calls]
    await asyncio.sleep(0)
    assert [call.begun.is_set() for call in calls] == [place < read for place in range(6)]
    for task in tasks:
        task.cancel()


async def test_each_message_that_takes_too_long_is_refused(
    reader: MessageReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait together, those that began while others waited, and those that come when none does."""
    monkeypatch.setattr(grpc_receiver, "_READ_WAIT", 0.01)
    for _ in range(2):
        first = await stalled(reader, "a")
        await asyncio.sleep(0.001)
        for _, task in (*first, *await stalled(reader, "b")):
            with pytest.raises(RefusedError) as refused:
                await task
            assert refused.value.result.cause == "slow_body"
        assert await quick(reader) == b"message"
    assert not reader._quick


async def test_who_leaves_while_it_is_refused_has_left(reader: MessageReader) -> None:
    """gRPC cancels its call, which has to end so."""
    ((_, task),) = await stalled(reader, "a")
    reader._quick[0].end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
