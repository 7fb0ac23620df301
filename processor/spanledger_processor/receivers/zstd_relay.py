"""A relay before gRPC that makes it take zstd and snappy: it names the encoding "gzip", and gRPC hands the bytes on.

gRPC's C core ends a call whose `grpc-encoding` it does not know while it parses the head, before anything else can see
it. So connections come in here, each with one of its own to gRPC. Those without TLS pass by `plain_relay`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

from spanledger_processor.listener import SPEAKS_TLS, TLS_HANDSHAKE, bind
from spanledger_processor.receivers.header_rewriter import PREFACE, HeaderRewriter
from spanledger_processor.receivers.plain_relay import Pipe, PlainClient, PlainSide

log = logging.getLogger(__name__)

_BUFFERED = 2**20
"""Bytes on their way to gRPC that the system may hold for a connection: what it does not take is copied twice more."""
_PAUSE = 1.0
"""Seconds until connections are taken again, after there were no files or no memory for one."""


class _Half(asyncio.Protocol):
    """One side of a connection with TLS; reads no faster than the other side writes."""

    def __init__(self, relay: ZstdRelay, pass_on: Callable[[bytes], bytes]) -> None:
        self.name = ""
        self.transport: asyncio.Transport | None = None
        self.other: _Half | None = None
        self._relay = relay
        self._pass_on = pass_on

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._relay.opened(self)

    def abort(self) -> None:
        """Close without waiting for what is still to be sent."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(self._pass_on(data))

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._relay.closed(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Accepted(_Half):
    """The client's side, which connects the other one."""

    def __init__(self, relay: ZstdRelay) -> None:
        super().__init__(relay, HeaderRewriter().feed)
        self._silent = True
        """Nothing has come yet."""
        self._early: list[bytes] = []
        """Bytes that came before gRPC was connected."""

    def data_received(self, data: bytes) -> None:
        if self._silent:
            self._silent = False
            self._relay.warn_of_other_protocols(data, self._host())
        if self.other is None:
            self._keep(data)
        else:
            super().data_received(data)

    def _keep(self, data: bytes) -> None:
        """Keep bytes until gRPC is connected: asyncio of Python 3.11.2 (Debian 12) reads from a connection that was
        paused while it was made. From one that is paused again no more comes.
        """
        assert self.transport is not None
        self._early.append(data)
        self.transport.resume_reading()
        self.transport.pause_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._relay.connect(self)

    async def connect(self) -> None:
        """Connect to gRPC."""
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        try:
            inner, self.name = await self._relay.connected(self._host())
            _, other = await loop.create_unix_connection(lambda: _Half(self._relay, lambda data: data), sock=inner)
        except (OSError, asyncio.CancelledError):
            self.abort()
            return
        other.other, self.other = self, other
        if self.transport.is_closing():
            other.abort()
            return
        early, self._early = self._early, []
        for data in early:
            super().data_received(data)
        self.transport.resume_reading()

    def _host(self) -> str:
        assert self.transport is not None
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""


class ZstdRelay:
    """Listens on an address, and passes connections on to gRPC at `socket_path`, in a folder of its own: at most so
    many, one more is ended.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._folder = Path(tempfile.mkdtemp(prefix="spanledger-"))
        self.socket_path = str(self._folder / "grpc")
        self.hosts: dict[str, str] = {}
        """The hosts of clients, by the name of their connection to gRPC."""
        self._server: asyncio.Server | None = None
        """What takes connections with TLS."""
        self._listening: socket.socket | None = None
        """What takes connections without."""
        self._pipe: Pipe | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._halves: set[_Half | PlainSide] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._numbers = count(1)
        self._setting = ""

    async def start(
        self, address: tuple[str, int], setting: str, tls: ssl.SSLContext | None, handshake: float, *, share_port: bool
    ) -> int:
        """Listen, and return the port. `handshake`: seconds for that of TLS.

        Raises:
            OSError: the address is taken or not ours.
        """
        self._setting = setting
        listening = bind(address, setting, share_port=share_port)
        port: int = listening.getsockname()[1]
        if tls is None:
            listening.setblocking(False)
            self._listening, self._pipe = listening, Pipe()
            self._listen()
        else:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Accepted(self), sock=listening, ssl=tls, ssl_handshake_timeout=handshake
            )
        return port

    def _listen(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        try:
            accepted, peer = listening.accept()
        except (BlockingIOError, ConnectionError):  # it has left
            return
        except OSError as error:
            log.error("%s: no connection can be taken now: %s", self._setting, error.strerror)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listening)
            loop.call_later(_PAUSE, self._listen)
            return
        accepted.setblocking(False)
        assert self._pipe is not None
        host = str(peer[0])
        client = PlainClient(accepted, self.closed, self._pipe, partial(self.warn_of_other_protocols, host=host))
        self.opened(client)
        self._begin(client, self._connect_plain(client, host))

    async def _connect_plain(self, client: PlainClient, host: str) -> None:
        try:
            inner, client.name = await self.connected(host)
        except (OSError, asyncio.CancelledError):
            client.abort()
            return
        other = PlainSide(inner, self.closed)
        self.opened(other)
        client.other, other.other = other, client
        client.read()
        other.read()

    def connect(self, accepted: _Accepted) -> None:
        """Connect a client's connection with gRPC."""
        self._begin(accepted, accepted.connect())

    def _begin(self, client: _Accepted | PlainClient, connecting: Coroutine[Any, Any, None]) -> None:
        if len(self._halves) > 2 * self._most:
            connecting.close()
            client.abort()
            return
        task = asyncio.get_running_loop().create_task(connecting)
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def connected(self, host: str) -> tuple[socket.socket, str]:
        """Return a connection to gRPC for the client at `host`, and the name by which gRPC knows it.

        Raises:
            OSError: gRPC takes none.
        """
        inner, name = socket.socket(socket.AF_UNIX), ""
        try:
            inner.setblocking(False)
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFERED)
            name = self._named(inner, host)
            await asyncio.get_running_loop().sock_connect(inner, self.socket_path)
        except (OSError, asyncio.CancelledError):
            self.hosts.pop(name, None)
            inner.close()
            raise
        return inner, name

    def warn_of_other_protocols(self, data: bytes, host: str) -> None:
        """Warn if the first bytes of a connection are not those of HTTP/2: neither gRPC nor its client will say why."""
        if PREFACE.startswith(data[: len(PREFACE)]):
            return
        host = host or "this machine"
        if data.startswith(TLS_HANDSHAKE):
            log.warning(SPEAKS_TLS, self._setting, host)
            return
        log.warning(
            "%s: a client from %s does not speak gRPC to this port; OTLP/HTTP has a port of its own "
            "(receivers.otlp.protocols.http.endpoint)",
            self._setting,
            host,
        )

    def _named(self, inner: socket.socket, host: str) -> str:
        """Give a connection to gRPC a name, where the system can (Linux); its client's host is known by it."""
        if sys.platform != "linux" or not host:
            return ""
        name = f"spanledger-relay-{os.getpid()}-{id(self):x}-{next(self._numbers)}"
        inner.bind(f"\0{name}")
        self.hosts[name] = host
        return name

    def host_of(self, peer: str) -> str:
        """Return the host of a client by what gRPC knows of its connection."""
        return self.hosts.get(peer.removeprefix("unix-abstract:"), peer)

    def opened(self, half: _Half | PlainSide) -> None:
        """Know a connection that `stop` closes."""
        self._halves.add(half)
        self._all_closed.clear()

    def closed(self, half: _Half | PlainSide) -> None:
        """Forget a connection that is closed."""
        self.hosts.pop(half.name, None)
        self._halves.discard(half)
        if not self._halves:
            self._all_closed.set()

    def stop_listening(self) -> None:
        """Take no more connections; those that are open go on."""
        if self._server is not None:
            self._server.close()
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    async def stop(self) -> None:
        """Close what gRPC, which has stopped, left open."""
        self.stop_listening()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for half in tuple(self._halves):
            half.abort()
        await self._all_closed.wait()
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        shutil.rmtree(self._folder, ignore_errors=True)
