"""What can go wrong between two ends: a port that counts what passes, and can fall silent."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType


class Relay:
    """Passes every connection on to `port`, until it is frozen: then connections stay open and nothing moves.

    `sent` counts the bytes that clients sent. Without a `port` it takes connections and never says a word.
    """

    def __init__(self, port: int | None = None) -> None:
        self._destination = port
        self._frozen = False
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.sent = 0
        self.port = 0

    def freeze(self) -> None:
        """Let nothing pass any more."""
        self._frozen = True

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        for writer in self._connections.values():
            await _closed(writer)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections[asyncio.create_task(self._connected(reader, writer))] = writer

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._destination is None:
            await asyncio.Event().wait()
        there, back = await asyncio.open_connection("127.0.0.1", self._destination)
        try:
            await asyncio.gather(self._pump(reader, back, counted=True), self._pump(there, writer, counted=False))
        finally:
            await _closed(back)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if self._frozen:
                    await asyncio.Event().wait()
                self.sent += len(data) if counted else 0
                writer.write(data)
                await writer.drain()
            writer.write_eof()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
