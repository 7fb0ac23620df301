"""Relayed connections without TLS: every byte passes in order, no faster than it is taken, and both sides end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otlp_receivers import opened, traces
from spanledger_processor.receivers import plain_relay
from spanledger_processor.receivers.header_rewriter import PREFACE, HeaderRewriter
from spanledger_processor.receivers.zstd_relay import ZstdRelay

MIB = 2**20
ENCODING = b"\x40\x0dgrpc-encoding"
PATIENCE = 30


def frame(kind: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, 0, 0, 0, 0, 1)) + payload


def request(size: int, encoding: bytes = b"\x04zstd") -> bytes:
    """A header frame that names an encoding, and a message in frames of 16 KiB, as clients send them."""
    message = bytes(index * 37 % 251 for index in range(size % 65_521)) * (size // (size % 65_521) + 1)
    parts = (message[at : at + 16_384] for at in range(0, size, 16_384))
    return frame(1, ENCODING + encoding) + b"".join(frame(0, part) for part in parts)


frames = st.lists(
    st.one_of(
        st.sampled_from((b"\x04zstd", b"\x04gzip", b"\x06snappy")).map(lambda name: frame(1, ENCODING + name)),
        st.binary(max_size=40).map(lambda payload: frame(0, payload)),
        st.just(frame(9, b"x" * 70_000)),
        st.just(frame(4, b"")),
    ),
    max_size=12,
)


@given(frames, st.lists(st.integers(1, 200), min_size=1), st.lists(st.integers(0, 120), min_size=1))
def test_moved_in_any_pieces_a_stream_is_the_same_as_fed(
    parts: list[bytes], comes: list[int], moves: list[int]
) -> None:
    """Some of what may pass is moved, the rest is fed or looked at again with what came meanwhile."""
    stream = PREFACE + b"".join(parts)
    whole, rewriter = HeaderRewriter().feed(stream), HeaderRewriter()
    out, there, left = bytearray(), b"", stream
    for size, most in zip(itertools.cycle(comes), itertools.cycle(moves), strict=False):
        there, left = there + left[:size], left[size:]
        moved = min(rewriter.look(memoryview(there)), most)
        rewriter.moved(moved)
        out += there[:moved]
        there = there[moved:]
        if most % 2 or not left:
            out += rewriter.feed(there)
            there = b""
        if not left:
            break
    held = stream[len(stream) - len(rewriter._begun) :]
    assert bytes(out) == whole
    assert rewriter._begun == held


@dataclass
class Relayed:
    """A relay, with sockets in place of gRPC and of its client."""

    relay: ZstdRelay
    client: socket.socket
    inner: socket.socket
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.loop.sock_sendall(self.client, data)

    async def received(self, size: int) -> bytes:
        came = bytearray()
        async with asyncio.timeout(PATIENCE):
            while len(came) < size and (data := await self.loop.sock_recv(self.inner, MIB)):
                came += data
        return bytes(came)

    def kept(self) -> int:
        """Bytes that the relay holds."""
        return sum(len(side.unsent) for side in self.relay._halves if isinstance(side, plain_relay.PlainSide))

    async def until_kept(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self.kept():  # noqa: ASYNC110 - turns of the event loop, in which it fills the sockets
                await asyncio.sleep(0)

    async def rest(self, end: socket.socket) -> bytes:
        """What still comes at an end until it is closed."""
        came = b""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError):
                while data := await self.loop.sock_recv(end, MIB):
                    came += data
        return came


@asynccontextmanager
async def relayed() -> AsyncIterator[Relayed]:
    relay, loop = ZstdRelay(16), asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as listening, socket.socket() as client:
        listening.bind(relay.socket_path)
        listening.listen()
        listening.setblocking(False)
        client.setblocking(False)
        port = await relay.start(("127.0.0.1", 0), "relay", None, 5, share_port=False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        inner, _ = await loop.sock_accept(listening)
        with inner:
            try:
                yield Relayed(relay, client, inner)
            finally:
                await relay.stop()


@contextmanager
def no_splice(monkeypatch: pytest.MonkeyPatch, works: int) -> Iterator[None]:
    """A system that cannot do it, after so many times that it could."""
    splice, times = os.splice, itertools.count()

    def fails(source: int, target: int, size: int, *, flags: int) -> int:
        if next(times) >= works:
            raise OSError(errno.EINVAL, "no")
        return splice(source, target, size, flags=flags)

    with monkeypatch.context() as patched:
        patched.setattr(os, "splice", fails)
        yield
    assert next(times) > works


async def test_large_requests_pass_in_order_and_with_their_encoding_renamed() -> None:
    sizes = (470_000, 100, 3 * MIB, 40_000, 1, 700_000)
    theirs = PREFACE + b"".join(map(request, sizes))
    ours = PREFACE + b"".join(request(size, b"\x04gzip") for size in sizes)
    async with relayed() as both:
        _, came = await asyncio.gather(both.send(theirs), both.received(len(ours)))
        assert came == ours
        await both.loop.sock_sendall(both.inner, b"answer")
        assert await both.loop.sock_recv(both.client, 100) == b"answer"


@pytest.mark.parametrize("works", [0, 1, 2, 3])
async def test_where_the_system_cannot_move_bytes_they_are_read(works: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the pipe or out of it: nothing is lost there."""
    data = PREFACE + request(3 * MIB, b"\x04gzip")
    with no_splice(monkeypatch, works):
        async with relayed() as both:
            _, came = await asyncio.gather(both.send(data), both.received(len(data)))
    assert came == data


async def test_while_grpc_does_not_read_its_sender_waits_and_nothing_is_lost() -> None:
    data = PREFACE + request(16 * MIB, b"\x04gzip")
    async with relayed() as both:
        sending = asyncio.create_task(both.send(data))
        await both.until_kept()
        assert not sending.done()
        assert both.kept() <= plain_relay._MOVED
        assert await both.received(len(data)) == data
        await sending


async def test_answers_wait_for_a_client_that_does_not_read() -> None:
    async with relayed() as both:
        sending = asyncio.create_task(both.loop.sock_sendall(both.inner, bytes(32 * MIB)))
        await both.until_kept()
        assert not sending.done()
        assert both.kept() <= plain_relay._READ
        came = 0
        while came < 32 * MIB:
            came += len(await both.loop.sock_recv(both.client, MIB))
        await sending
        both.inner.close()
        assert await both.rest(both.client) == b""


async def test_what_came_before_the_client_left_arrives() -> None:
    data = PREFACE + request(2 * MIB, b"\x04gzip")
    async with relayed() as both:
        _, came = await asyncio.gather(both.send(data), both.received(1))
        both.client.close()
        assert came + await both.rest(both.inner) == data


async def test_what_grpc_said_before_it_left_arrives() -> None:
    async with relayed() as both:
        await both.loop.sock_sendall(both.inner, b"x" * MIB)
        both.inner.close()
        assert await both.rest(both.client) == b"x" * MIB


@pytest.mark.parametrize("more", [100, 100_000])
@pytest.mark.parametrize("answer", [100, 100_000])
async def test_what_grpc_said_before_it_left_arrives_at_a_client_that_still_sends(more: int, answer: int) -> None:
    """What the client sends meanwhile finds nobody, and is noticed first."""
    begun = PREFACE + request(40_000, b"\x04gzip")
    async with relayed() as both:
        _, came = await asyncio.gather(both.send(begun), both.received(len(begun)))
        assert came == begun
        both.client.send(bytes(more))
        both.inner.send(bytes(answer))
        both.inner.close()
        assert await both.rest(both.client) == bytes(answer)


async def test_bytes_that_no_memory_was_left_for_reach_no_other_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the pipe, which all connections share."""

    def no_memory(*_: object) -> bytes:
        raise MemoryError

    reported: list[object] = []
    data = PREFACE + request(2 * MIB, b"\x04gzip")
    async with relayed() as both, relayed() as other:
        client = next(side for side in other.relay._halves if isinstance(side, plain_relay.PlainClient))
        assert both.relay._pipe is not None
        client._pipe = both.relay._pipe
        both.loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))
        with monkeypatch.context() as patched:
            patched.setattr(plain_relay.Pipe, "_read", no_memory)
            with contextlib.suppress(ConnectionError):
                await both.send(PREFACE + request(16 * MIB, b"\x04gzip"))
        _, came = await asyncio.gather(other.send(data), other.received(len(data)))
        assert came == data
    assert [type(error) for error in reported] == [MemoryError]


async def test_grpc_leaves_in_the_middle_of_a_large_request() -> None:
    """The pipe, which all connections share, keeps nothing of it."""
    data = PREFACE + request(8 * MIB, b"\x04gzip")
    async with relayed() as both:
        sending = asyncio.create_task(both.send(data))
        await both.received(MIB)
        both.inner.close()
        with contextlib.suppress(ConnectionError):
            await sending
        assert await both.rest(both.client) == b""
        assert both.relay._pipe is not None
        with pytest.raises(BlockingIOError):
            os.read(both.relay._pipe._out, 1)


async def test_after_no_file_was_left_connections_are_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    accept, times = socket.socket.accept, itertools.count()

    def fails_once(listening: socket.socket) -> tuple[socket.socket, object]:
        if next(times) == 0:
            raise OSError(errno.EMFILE, "too many open files")
        return accept(listening)

    monkeypatch.setattr("spanledger_processor.receivers.zstd_relay._PAUSE", 0)
    async with opened({"protocols": {"grpc": {}}}) as receivers:
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "accept", fails_once)
            assert await receivers.export("traces", traces()) == b""


async def test_one_connection_more_than_there_may_be_is_ended() -> None:
    async with relayed() as both:
        both.relay._most = 1
        with socket.socket() as second:
            second.setblocking(False)
            await both.loop.sock_connect(second, both.client.getpeername())
            assert await both.rest(second) == b""
        await both.send(PREFACE)
        assert await both.received(len(PREFACE)) == PREFACE
