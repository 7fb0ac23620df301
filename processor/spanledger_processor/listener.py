"""One HTTP listener: an ASGI application served by uvicorn inside our event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp


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


class HttpListener:
    """Serves `app` on host and port. `where` is the configuration path that errors name."""

    def __init__(self, app: ASGIApp, address: tuple[str, int], where: str, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._address = address
        self._where = where
        self._server = _Server(_config(app, tls))
        self._serving: asyncio.Task[None] | None = None

    @property
    def listening(self) -> bool:
        """Whether connections are taken."""
        return self._serving is not None and not self._serving.done() and not self._server.should_exit

    async def start(self) -> None:
        """Listen; `port` then says where.

        Raises:
            OSError: the address is taken or not ours.
        """
        listening = _bind(self._address, self._where)
        self.port = listening.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve([listening]))
        await self._server.up.wait()

    async def stop(self) -> None:
        """Take no more connections, let responses end, and close."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


def _bind(address: tuple[str, int], where: str) -> socket.socket:
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise OSError(f"{where}.endpoint: cannot listen on {host}:{port}: {error.strerror or error}") from error


def _config(app: ASGIApp, tls: ssl.SSLContext | None) -> uvicorn.Config:
    encrypted: dict[str, Any] = {} if tls is None else {"ssl_context_factory": lambda *_: tls}
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=120,  # longer than senders pause, so that none writes into a connection being closed
        timeout_graceful_shutdown=5,
        **encrypted,
    )
