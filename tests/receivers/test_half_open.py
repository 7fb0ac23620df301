"""Connections on which nothing comes: they end by themselves, and those that are used stay."""

from __future__ import annotations

import asyncio

import pytest

from otlp_receivers import PROTOBUF, opened, traces
from tools.programs import http_client

SHORT = {"protocols": {"http": {"read_header_timeout": "50ms"}, "grpc": {"handshake_timeout": "50ms"}}}


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the connection ends."""
    async with asyncio.timeout(30):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("sent", [b"", b"POST /v1/traces HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half a head"])
async def test_http_ends_a_connection_whose_first_head_does_not_come(sent: bytes) -> None:
    async with opened(SHORT) as receivers:
        reader, writer = await asyncio.open_connection("127.0.0.1", receivers.otlp.ports["http"])
        writer.write(sent)
        assert await rest(reader) == b""
        writer.close()


async def test_http_ends_a_connection_whose_next_head_does_not_come_to_its_end() -> None:
    head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 0\r\n"
    async with opened(SHORT) as receivers:
        reader, writer = await asyncio.open_connection("127.0.0.1", receivers.otlp.ports["http"])
        writer.write(f"{head}\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode())
        assert await rest(reader) == b""
        writer.close()


async def test_http_keeps_a_connection_that_is_idle_or_waits_for_its_answer() -> None:
    """The head has its time, what follows has another."""
    async with opened(SHORT) as receivers, http_client(base_url=receivers.http_url) as client:
        receivers.pipeline.gate.clear()
        post = asyncio.create_task(client.post("/v1/traces", content=traces(), headers={"content-type": PROTOBUF}))
        await receivers.pipeline.begun.get()
        passed = asyncio.Event()  # set by a timer of the same loop that is due after those of the connection
        asyncio.get_running_loop().call_later(0.1, passed.set)
        await passed.wait()
        receivers.pipeline.gate.set()
        assert (await post).status_code == 200


async def test_grpc_ends_a_connection_that_says_nothing() -> None:
    async with opened(SHORT) as receivers:
        reader, writer = await asyncio.open_connection("127.0.0.1", receivers.otlp.ports["grpc"])
        await rest(reader)
        writer.close()
