"""The application on `api.endpoint`. There is no CORS, so that no other site's script reads along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from spanledger_processor.api import closing as ends
from spanledger_processor.api import reports as questions
from spanledger_processor.api.answering import failed, refused, to_json
from spanledger_processor.api.health import Health
from spanledger_processor.config.section import host_and_port
from spanledger_processor.listener import HttpListener


class Api:
    """Health, metrics and reports over HTTP. `port` is where it listens once started."""

    def __init__(
        self,
        endpoint: str,
        health: Health,
        scrape: Callable[[], bytes],
        reports: questions.Reports,
        closing: ends.Closing,
    ) -> None:
        self._health = health
        self._scrape = scrape
        app = Starlette(
            routes=[
                Route("/livez", self._livez, methods=["GET"]),
                Route("/readyz", self._readyz, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
                ends.route(closing),
                *questions.routes(reports),
            ],
            exception_handlers={HTTPException: refused, Exception: failed},
        )
        app.router.redirect_slashes = False
        self._listener = HttpListener(app, host_and_port(endpoint), "api")

    @property
    def port(self) -> int:
        """Where it listens once started."""
        return self._listener.port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours.
        """
        await self._listener.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._listener.stop()

    async def _livez(self, _: Request) -> Response:
        return to_json({"alive": True})

    async def _readyz(self, _: Request) -> Response:
        ready, body = self._health.ready()
        return to_json(body, 200 if ready else 503)

    async def _metrics(self, _: Request) -> Response:
        return Response(await asyncio.to_thread(self._scrape), media_type=CONTENT_TYPE_LATEST)
