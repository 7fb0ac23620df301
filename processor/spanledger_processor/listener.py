"""One HTTP listener: an ASGI application served by uvicorn inside our event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT = 60.0
"""Seconds that the head of a request may take to come in, also the first one of a connection."""
IDLE_TIMEOUT = 120.0
"""Seconds that a connection is kept between requests: longer than senders pause, so that none writes into its end."""
_MANY = 1 << 20

log = logging.getLogger(__name__)

_HTTP2 = b"PRI * HTTP/2.0"
"""What a client of HTTP/2 begins with (RFC 9113, section 3.4)."""
TLS_HANDSHAKE = b"\x16\x03"
"""What a client of TLS begins with (RFC 8446, section 5.1)."""
SPEAKS_TLS = (
    "%s: a client from %s speaks TLS to this port, which has none: configure tls here, or none at the client "
    "(http://, or tls.insecure over gRPC)"
)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers, which says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.up.set()


def share_of_files(parts: int) -> int:
    """Return how many connections are one of so many parts of the files that this process may have open."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, (_MANY if most == resource.RLIM_INFINITY else min(most, _MANY)) // parts)


@dataclass(slots=True)
class _Connections:
    """The connections of one listener, at most `most`: one more ends the one that was idle, or half a head, longest.

    Where all of them are in the middle of a request, it ends itself. So nobody who opens connections keeps others out
    of this listener, or takes the files that the other listeners need.
    """

    most: int
    open: set[_Protocol] = field(default_factory=set)
    waiting: OrderedDict[_Protocol, None] = field(default_factory=OrderedDict)

    def made(self, connection: _Protocol) -> None:
        if len(self.open) >= self.most:
            other = next(iter(self.waiting), connection)
            self.waiting.pop(other, None)
            other.transport.abort()
        self.open.add(connection)

    def waits(self, connection: _Protocol) -> None:
        if connection in self.open:
            self.waiting[connection] = None
            self.waiting.move_to_end(connection)

    def works(self, connection: _Protocol) -> None:
        self.waiting.pop(connection, None)

    def lost(self, connection: _Protocol) -> None:
        self.open.discard(connection)
        self.works(connection)


class _Protocol(H11Protocol):
    """Closes a connection on which the head of a request takes too long; uvicorn itself would wait for ever."""

    header_timeout = HEADER_TIMEOUT
    setting = ""
    all_of_listener: _Connections
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.all_of_listener.made(self)
        self.all_of_listener.waits(self)
        self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE:
            self.all_of_listener.waits(self)

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE:
            self._warn_of_other_protocols(data)
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self.all_of_listener.works(self)
            self._cancel()
        elif self.timeout_keep_alive_task is None:  # a head has begun
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        self.all_of_listener.lost(self)
        super().connection_lost(exc)

    def _warn_of_other_protocols(self, data: bytes) -> None:
        if data.startswith(_HTTP2):
            log.warning(
                "%s: a gRPC client sends to this port, which speaks HTTP/1.1; OTLP/gRPC has a port of its own "
                "(receivers.otlp.protocols.grpc.endpoint)",
                self.setting,
            )
        elif data.startswith(TLS_HANDSHAKE):
            log.warning(SPEAKS_TLS, self.setting, self.client[0] if self.client else "this machine")

    def _expect_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self.header_timeout, self.transport.abort)

    def _cancel(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class HttpListener:
    """Serves `app` on host and port. `setting` is the configuration path that errors name; timeouts in seconds.

    With `share_port` other processes may listen on the port too, and connections spread over them. There are no more of
    them than one of `files_share` parts of the files that the process may have open.
    """

    def __init__(
        self,
        app: ASGIApp,
        address: tuple[str, int],
        setting: str,
        tls: ssl.SSLContext | None = None,
        *,
        header_timeout: float = HEADER_TIMEOUT,
        idle_timeout: float = IDLE_TIMEOUT,
        share_port: bool = False,
        files_share: int = 4,
    ) -> None:
        self.port = 0
        self._address = address
        self._share_port = share_port
        self._setting = setting
        protocol = {
            "header_timeout": header_timeout,
            "setting": setting,
            "all_of_listener": _Connections(share_of_files(files_share)),
        }
        self._server = _Server(_config(app, tls, type("Protocol", (_Protocol,), protocol), idle_timeout))
        self._serving: asyncio.Task[None] | None = None

    @property
    def listening(self) -> bool:
        """Return whether connections are taken."""
        return self._serving is not None and not self._serving.done() and not self._server.should_exit

    async def start(self) -> None:
        """Listen; `port` then says where.

        Raises:
            OSError: the address is taken or not ours.
        """
        listening = bind(self._address, self._setting, share_port=self._share_port)
        self.port = listening.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve([listening]))
        await self._server.up.wait()

    async def stop(self) -> None:
        """Take no more connections, let responses end, and close."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


def bind(address: tuple[str, int], setting: str, *, share_port: bool = False) -> socket.socket:
    """Return a socket that listens; with `share_port` beside other processes that do.

    `setting` is the configuration path that errors name.

    Raises:
        OSError: the address is taken or not ours.
    """
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024, reuse_port=share_port)
    except OSError as error:
        raise OSError(f"{setting}.endpoint: cannot listen on {host}:{port}: {error.strerror or error}") from error
    # asyncio does so only for sockets that were made with a protocol number; what is accepted inherits it.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _config(app: ASGIApp, tls: ssl.SSLContext | None, protocol: type[_Protocol], idle_timeout: float) -> uvicorn.Config:
    encrypted: dict[str, Any] = {} if tls is None else {"ssl_context_factory": lambda *_: tls}
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=idle_timeout,  # type: ignore[arg-type]  # seconds for a timer, whole or not
        timeout_graceful_shutdown=5,
        **encrypted,
    )
