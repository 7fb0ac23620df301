"""What can go wrong between two ends: listeners that speak bytes, and one that passes them on until it falls silent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[int]:
    """The port of a listener that has `talk` with every connection. In the end all are broken off and closed."""
    connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await talk(reader, writer)
        await closed(writer)

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.create_task(connected(reader, writer))] = writer

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        # A server that is closed while it takes a connection leaves that one open.
        while taking := [task for task in asyncio.all_tasks() if "_accept_connection2" in repr(task)]:
            await asyncio.wait(taking)
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        for writer in connections.values():
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in connections.values()), return_exceptions=True)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever the other end did."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the connection and never say a word."""
    await asyncio.Event().wait()


class Relay:
    """Passes every connection on to a port, until it is frozen: then connections stay open and nothing moves.

    `sent` counts the bytes that clients sent.
    """

    def __init__(self, destination: int) -> None:
        self._destination = destination
        self._frozen = False
        self.sent = 0

    def freeze(self) -> None:
        """Let nothing pass any more."""
        self._frozen = True

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What `listening` does with a connection."""
        if self._frozen:
            await silence(reader, writer)
        there, back = await asyncio.open_connection("127.0.0.1", self._destination)
        try:
            await asyncio.gather(self._pump(reader, back, counted=True), self._pump(there, writer, counted=False))
        finally:
            back.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        while data := await reader.read(65536):
            if self._frozen:
                await asyncio.Event().wait()
            self.sent += len(data) if counted else 0
            writer.write(data)
            await writer.drain()
        writer.write_eof()
