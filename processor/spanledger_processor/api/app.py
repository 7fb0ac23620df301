"""The application on `api.endpoint`. There is no CORS, so that no other site's script reads along.

All it changes is whether a session counts as ended, and that takes a JSON request, which no other site can make either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from spanledger_processor.api.health import Health
from spanledger_processor.config.section import host_and_port
from spanledger_processor.listener import HttpListener
from spanledger_processor.reports.rows import Row
from spanledger_processor.state.store import StateError

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Reports(Protocol):
    """The ledger's answers. Called on a thread of their own, each over a short snapshot.

    Raises:
        StateError: the ledger cannot be read now.
    """

    def sessions(self) -> Sequence[Row]: ...

    def session(self, session_id: str) -> Row | None: ...

    def runs(self) -> Sequence[Row]: ...

    def run(self, run_id: str) -> Row | None: ...

    def summary(self) -> Row: ...


class Closing(Protocol):
    """Ends sessions.

    Raises:
        StateError: the ledger cannot be written now.
    """

    async def close(self, tenant: str, session_id: str) -> bool: ...


class Api:
    """Health, metrics and reports over HTTP. `port` is where it listens once started."""

    def __init__(
        self, endpoint: str, health: Health, scrape: Callable[[], bytes], reports: Reports, closing: Closing
    ) -> None:
        self._health = health
        self._scrape = scrape
        self._reports = reports
        self._closing = closing
        self._listener = HttpListener(self._app(), host_and_port(endpoint), "api")

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

    def _app(self) -> Starlette:
        routes = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/api/v1/summary": _report(lambda _: self._reports.summary()),
            "/api/v1/sessions": _report(lambda _: {"sessions": self._reports.sessions()}),
            "/api/v1/sessions/{id:path}": _report(self._reports.session),
            "/api/v1/runs": _report(lambda _: {"runs": self._reports.runs()}),
            "/api/v1/runs/{id:path}": _report(self._reports.run),
        }
        app = Starlette(
            routes=[
                Route("/api/v1/sessions/{id:path}/close", self._close, methods=["POST"]),
                *(Route(path, endpoint, methods=["GET"]) for path, endpoint in routes.items()),
            ],
            exception_handlers={HTTPException: _refused, Exception: _failed},
        )
        app.router.redirect_slashes = False
        return app

    async def _livez(self, _: Request) -> Response:
        return _json({"alive": True})

    async def _readyz(self, _: Request) -> Response:
        ready, body = self._health.ready()
        return _json(body, 200 if ready else 503)

    async def _close(self, request: Request) -> Response:
        tenant = await _tenant(request)
        if tenant is None:
            return _json({"error": 'send JSON: {"tenant": ""}'}, 415)
        try:
            closed = await self._closing.close(tenant, request.path_params["id"])
        except StateError as error:
            return _json({"error": f"the ledger cannot be written now: {error}"}, 503)
        return _json({"closed": True}) if closed else _json({"error": "not in the ledger"}, 404)

    async def _metrics(self, _: Request) -> Response:
        return Response(await asyncio.to_thread(self._scrape), media_type=CONTENT_TYPE_LATEST)


def _report(ask: Callable[[str], Any]) -> Endpoint:
    """An endpoint for one question; it is given the id in the path, percent-decoded, or an empty string."""

    async def answer(request: Request) -> Response:
        try:
            found = await asyncio.to_thread(ask, request.path_params.get("id", ""))
        except StateError as error:
            return _json({"error": f"the ledger cannot be read now: {error}"}, 503)
        return _json({"error": "not in the ledger"}, 404) if found is None else _json(found)

    return answer


async def _tenant(request: Request) -> str | None:
    """The tenant that a JSON body names, None if the request has no such body."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return None
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        return None
    tenant = body.get("tenant", "") if isinstance(body, dict) else None
    return tenant if isinstance(tenant, str) else None


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": error.detail}, error.status_code)


async def _failed(_: Request, error: Exception) -> Response:
    return _json({"error": f"internal failure ({type(error).__name__})"}, 500)


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
