"""Bytes in flight: never more than the limit, and nobody waits for ever or loses what it held."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otlp_receivers import METHODS, opened, traces
from spanledger_processor.receivers import grpc as grpc_receiver
from spanledger_processor.receivers.memory_limiter import MemoryLimiter, Reservation

MIB = 1 << 20


def budget(limit: int) -> tuple[MemoryLimiter, list[int]]:
    """A budget and what it told."""
    reported: list[int] = []
    return MemoryLimiter(limit, reported.append), reported


def test_no_more_than_the_limit_is_held() -> None:
    whole, reported = budget(10)
    first, second = Reservation(whole), Reservation(whole)
    assert first.grow(7)
    assert not second.grow(4)
    assert second.grow(3)
    first.release()
    first.release()
    assert second.grow(7)
    assert reported == [7, 10, 3, 10]


def test_a_reservation_ends_at_the_size_found() -> None:
    whole, _ = budget(10)
    claim = Reservation(whole)
    assert claim.grow(8)
    assert claim.resize(2)
    assert whole.held == 2
    assert not claim.resize(11)
    assert claim.resize(10)
    assert whole.held == 10


def test_what_a_request_takes_is_held_as_far_as_others_keep_half() -> None:
    whole, reported = budget(100)
    mine, other = Reservation(whole, "a"), Reservation(whole, "b")
    assert mine.grow(10)
    mine.hold(30)
    assert other.grow(10)
    mine.hold(500)
    assert whole.held == 50
    assert other.grow(50)
    mine.hold(600)
    assert whole.held == 100
    mine.hold(20)
    mine.hold(21)
    assert whole.held == 80
    mine.release()
    assert reported == [10, 30, 40, 50, 100, 80, 60]


@given(
    st.lists(st.tuples(st.sampled_from(["grow", "resize", "release", "hold"]), st.integers(0, 4), st.integers(0, 12)))
)
def test_whatever_claims_do_the_sum_is_right(steps: list[tuple[str, int, int]]) -> None:
    whole, _ = budget(20)
    claims = [Reservation(whole) for _ in range(5)]
    sizes = [0] * 5
    for step, number, size in steps:
        if step == "grow" and claims[number].grow(size):
            sizes[number] += size
        elif step == "resize" and claims[number].resize(size):
            sizes[number] = size
        elif step == "hold":
            before = whole.held
            claims[number].hold(size)
            sizes[number] += whole.held - before
            assert sizes[number] <= size
        elif step == "release":
            claims[number].release()
            sizes[number] = 0
        assert whole.held == sum(sizes) <= 20


def test_one_sender_leaves_a_quarter_to_others_unless_it_holds_nothing() -> None:
    whole, _ = budget(100)
    first, second, other = Reservation(whole, "a"), Reservation(whole, "a"), Reservation(whole, "b")
    assert first.grow(60)
    assert not second.grow(16)
    assert second.grow(15)
    assert other.grow(25)
    for held in (first, second, other):
        held.release()
    assert second.grow(100)


async def test_a_request_is_charged_twice_while_it_is_delivered_and_freed_as_it_came() -> None:
    """By us and by the client that sends it on; it is charged as much as there is at most."""
    async with opened() as receivers:
        receivers.pipeline.gate.clear()
        body = traces(payload=1000)
        first = asyncio.create_task(receivers.export("traces", body))
        await receivers.pipeline.begun.get()
        assert receivers.seen.held == 2 * len(body)
        receivers.pipeline.gate.set()
        await first
        assert receivers.seen.held == 0


async def test_what_the_pipeline_says_that_a_request_takes_is_counted() -> None:
    async with opened() as receivers:
        receivers.pipeline.gate.clear()
        receivers.pipeline.takes = 12345
        first = asyncio.create_task(receivers.export("traces", traces(payload=1000)))
        await receivers.pipeline.begun.get()
        assert receivers.seen.held == 12345
        receivers.pipeline.gate.set()
        await first
        assert receivers.seen.held == 0


FULL = {
    "max_in_flight_mib": 1,
    "protocols": {"grpc": {"max_recv_msg_size_mib": 1}, "http": {"max_request_body_size": MIB}},
}


async def test_beyond_the_budget_both_protocols_are_told_to_come_back() -> None:
    async with opened(FULL) as receivers:
        receivers.pipeline.gate.clear()
        first = asyncio.create_task(receivers.export("traces", traces(payload=MIB - 100)))
        await receivers.pipeline.begun.get()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await receivers.export("traces", traces())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        answer = await receivers.post("/v1/traces", traces(payload=1000))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert receivers.seen.answers == [("traces", "grpc", "retry", "budget"), ("traces", "http", "retry", "budget")]
        receivers.pipeline.gate.set()
        assert await first == b""
        assert receivers.seen.most_held <= MIB
        assert (await receivers.post("/v1/traces", traces(payload=1000))).status_code == 200


async def test_small_messages_are_read_beside_others_where_the_largest_would_not_fit() -> None:
    """As in each of several workers, which share the memory."""
    async with opened(FULL) as receivers:
        receivers.pipeline.gate.clear()
        first = asyncio.create_task(receivers.export("traces", traces(payload=MIB // 4)))
        await receivers.pipeline.begun.get()
        second = asyncio.create_task(receivers.export("traces", traces()))
        await receivers.pipeline.begun.get()
        receivers.pipeline.gate.set()
        assert [await first, await second] == [b"", b""]


@pytest.fixture
def one_turn(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """One message is read at a time; the event is set when one begins to be."""
    began = asyncio.Event()
    read = grpc_receiver.MessageReader._message

    async def reported(reader: grpc_receiver.MessageReader, context: Any) -> Any:
        began.set()
        return await read(reader, context)

    monkeypatch.setattr(grpc_receiver, "_READERS", 1)
    monkeypatch.setattr(grpc_receiver.MessageReader, "_message", reported)
    return began


def stalling(channel: grpc.aio.Channel) -> Any:
    """Begins calls whose message never comes."""
    return channel.stream_unary(METHODS["traces"], request_serializer=bytes, response_deserializer=bytes)


async def test_a_sender_that_never_sends_its_message_makes_room_for_others(
    one_turn: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds one of the few turns to read; once another waits for that, its time is cut."""
    monkeypatch.setattr(grpc_receiver, "_QUICK", 0.01)
    monkeypatch.setattr(grpc_receiver, "_SLOW_READERS", 0)
    async with opened() as receivers, grpc.aio.insecure_channel(receivers.grpc_address) as channel:
        stalled = stalling(channel)()
        await one_turn.wait()
        assert await receivers.export("traces", traces()) == b""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stalled
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert receivers.seen.answers[0] == ("traces", "grpc", "retry", "slow_body")
        assert receivers.seen.held == 0


async def test_a_sender_that_leaves_before_its_message_is_read_leaves_its_turn(one_turn: asyncio.Event) -> None:
    async with opened() as receivers, grpc.aio.insecure_channel(receivers.grpc_address) as channel:
        for number in range(1, 4):
            stalled = stalling(channel)()
            await one_turn.wait()
            stalled.cancel()
            await receivers.seen.reported.wait()
            assert receivers.seen.answers == [("traces", "grpc", "rejected", "unreadable")] * number
            one_turn.clear()
            receivers.seen.reported.clear()
        assert await receivers.export("traces", traces()) == b""
        assert receivers.seen.held == 0
