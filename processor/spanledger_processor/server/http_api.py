"""The HTTP API on `api.endpoint`: health, metrics, the ledger's answers as JSON, the page over them, and the end of a
session.

There is no CORS, and `Access` decides who may ask.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from spanledger_processor.config.model import ApiSettings
from spanledger_processor.config.receivers import Auth
from spanledger_processor.config.section import host_and_port
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.facts import USUAL, Lifecycle
from spanledger_processor.ledger.keys import session_key
from spanledger_processor.ledger.pages import MOST_ROWS, CursorError
from spanledger_processor.ledger.runs import INSTANCE, linked
from spanledger_processor.ledger.store import Changes, Reader, StateError, Unit, tenant_hash
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.listener import HttpListener
from spanledger_processor.pricing import Pricer
from spanledger_processor.receivers.auth import Authenticator, ServerCertificates
from spanledger_processor.server.api_access import Access
from spanledger_processor.server.api_document import openapi
from spanledger_processor.server.forms import first_line, from_path, header, lines, to_json
from spanledger_processor.server.routes import (
    ROUTES,
    ParameterError,
    TenantError,
    answer_of,
    csv_of,
    picked,
    read_parameters,
    whole_table,
)
from spanledger_processor.server.routes import Route as LedgerRoute
from spanledger_processor.server.web_page import Followers, page_routes

T = TypeVar("T")

Phase: TypeAlias = Literal["starting", "serving", "stopping"]
RouteHandler: TypeAlias = Callable[[Request], Awaitable[Response]]

_LONGEST_CLOSE = 4096
"""Bytes of a request to end a session; there is only a tenant's name in it."""

_AT_ONCE = 2
"""Questions that are worked on at once; the others wait, so that readers take little of the memory and time of data."""
_MEDIA = {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


class Ledger(Protocol):
    """The ledger as the API uses it."""

    def snapshot(self) -> AbstractContextManager[Reader]:
        """Return a consistent view; raises StateError while the ledger cannot be read."""
        ...

    async def submit(self, work: Callable[[Unit], T]) -> T:
        """Run `work` in a unit of work; raises StateError while the ledger cannot be written."""
        ...


@dataclass(slots=True)
class Health:
    """State of the process for probes. `serve` sets `phase`; the rest is asked at every probe.

    The ledger does not decide unless `requires_ledger`: while it is not available data still flows, as `not_accounted`.
    """

    listeners: Callable[[], Mapping[str, bool]]
    state_available: Callable[[], bool]
    phase: Phase = "starting"
    requires_ledger: bool = False

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Return whether data may be sent here, and the reasons."""
        listeners = dict(self.listeners())
        available = self.state_available()
        up = self.phase == "serving" and all(listeners.values()) and (available or not self.requires_ledger)
        body = {
            "ready": up,
            "phase": self.phase,
            "listeners": {name: "up" if listening else "down" for name, listening in listeners.items()},
            "state": "available" if available else "unavailable",
        }
        return up, body


class Api:
    """Serves the API. `ports` says where it listens once started; `scrape` (in the
    OpenMetrics format if its argument is true) returns None while it has no whole answer.

    Raises:
        OSError: a certificate or key cannot be used.
    """

    def __init__(
        self,
        settings: ApiSettings,
        health: Health,
        scrape: Callable[[bool], bytes | None],
        ledger: Ledger,
        pricer: Pricer,
        lifecycle: Lifecycle = USUAL,
        budgets: tuple[BudgetRule, ...] = (),
        dimensions: tuple[str, ...] = (),
    ) -> None:
        self._health = health
        self._lifecycle = lifecycle
        self._budgets = budgets
        self._dimensions = dimensions
        self._scrape = scrape
        self._ledger = ledger
        self._pricer = pricer
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._openapi = orjson.dumps(openapi())
        self._followers = Followers(self._over_snapshot)
        answers = [
            Route("/api/v1/sessions/{id:id}/close", self._close, methods=["POST"]),
            Route("/api/v1/instances/{id:id}/close", self._close_instance, methods=["POST"]),
            Route("/api/v1/openapi.json", self._document, methods=["GET"]),
            Route("/api/v1/events", self._followers.answer, methods=["GET"]),
            *page_routes(),
            *(Route(_pattern(route), self._endpoint(route), methods=["GET"]) for route in ROUTES),
        ]
        probes = [
            Route("/livez", self._livez, methods=["GET"]),
            Route("/readyz", self._readyz, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]
        own = settings.health_check
        self._authenticator = Authenticator(settings.auth)
        self._certificates = None if settings.tls is None else ServerCertificates(settings.tls, "api.tls")
        app = Access(_app(answers if own else [*probes, *answers]), self._authenticator, settings.allowed_hosts)
        tls = None if self._certificates is None else self._certificates.ssl_context()
        self._listeners = {"api": HttpListener(app, host_and_port(settings.endpoint), "api", tls, files_share=8)}
        if own is not None:
            open_to_all = Access(_app(probes), Authenticator(Auth()), settings.allowed_hosts)
            listener = HttpListener(open_to_all, host_and_port(own.endpoint), "api.health_check", files_share=16)
            self._listeners["health_check"] = listener

    @property
    def ports(self) -> Mapping[str, int]:
        """Return the ports of `api` and, if it runs, `health_check`."""
        return {name: listener.port for name, listener in self._listeners.items()}

    def reload(self, settings: ApiSettings) -> None:
        """Use the token and the certificates of other settings from now on; raises OSError."""
        self._authenticator.replace(settings.auth)
        if self._certificates is not None and settings.tls is not None:
            self._certificates.replace(settings.tls)

    def adopt(self, budgets: tuple[BudgetRule, ...]) -> None:
        """Answer by other budgets from now on."""
        self._budgets = budgets

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: an address is taken or not ours; nothing listens then.
        """
        try:
            for listener in self._listeners.values():
                await listener.start()
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening."""
        self._followers.stop()
        for listener in self._listeners.values():
            await listener.stop()

    async def _livez(self, _: Request) -> Response:
        return _json({"alive": True})

    async def _readyz(self, _: Request) -> Response:
        ready, body = self._health.ready()
        return _json(body, 200 if ready else 503)

    async def _metrics(self, request: Request) -> Response:
        """Return metrics, in the OpenMetrics format (which has exemplars) where the client accepts it."""
        as_openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        metrics = await asyncio.to_thread(self._scrape, as_openmetrics)
        if metrics is None:
            return _error(503, "not all workers have reported yet")
        return Response(metrics, media_type=OPENMETRICS if as_openmetrics else CONTENT_TYPE_LATEST)

    async def _document(self, _: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    def _endpoint(self, route: LedgerRoute) -> RouteHandler:
        """Return an endpoint that answers on a thread, over a snapshot of its own."""

        async def answer(request: Request) -> Response:
            try:
                values = read_parameters(route, request.query_params.multi_items())
                ids = {name: request.path_params[name] for name in route.ids}
                body = await self._ask(route, values, ids)
            except (ParameterError, CursorError) as problem:
                return _error(400, str(problem))
            except TenantError as problem:
                return _error(404, str(problem))
            except StateError as problem:
                return _error(503, f"the ledger cannot be read now: {problem}")
            if body is None:
                return _error(404, "not in the ledger")
            if route.table or values.get("format", "json") == "json":
                media = _MEDIA.get(values.get("format", ""), "application/json")
                return Response(body, media_type=media)
            return StreamingResponse(self._stream(route, values, ids), media_type=_MEDIA[values["format"]])

        return answer

    async def _ask(self, route: LedgerRoute, values: Mapping[str, Any], ids: Mapping[str, str]) -> bytes | None:
        if route.table and values["format"] == "csv":
            whole = await self._answer(route, whole_table(route, values), ids)
            return None if whole is None else csv_of(route, whole, values["fields"]).encode("utf-8", "replace")
        answer = await self._answer(route, values, ids)
        return None if answer is None else to_json(picked(route, answer, values["fields"]))

    async def _over_snapshot(self, work: Callable[[Reader], T]) -> T:
        def over() -> T:
            with self._ledger.snapshot() as reader:
                return work(reader)

        async with self._turns:
            return await asyncio.to_thread(over)

    async def _answer(self, route: LedgerRoute, values: Mapping[str, Any], ids: Mapping[str, str]) -> Any:
        def work(reader: Reader) -> Any:
            rules = self._lifecycle, self._budgets, self._dimensions
            return answer_of(route, reader, self._pricer, values, ids, *rules)

        return await self._over_snapshot(work)

    async def _stream(self, route: LedgerRoute, values: dict[str, Any], ids: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Yield all rows, a page at a time; each page is as the ledger is by then."""
        cursor, columns = values["cursor"], header(route.shape, values["fields"])
        if values["format"] == "csv":
            yield first_line(columns).encode()
        while True:
            answer = await self._answer(route, {**values, "limit": MOST_ROWS, "cursor": cursor}, ids)
            if values["format"] == "csv":
                yield lines(columns, answer[route.rows]).encode("utf-8", "replace")
            else:
                rows = picked(route, answer, values["fields"])[route.rows]
                yield b"".join(to_json(row) + b"\n" for row in rows)
            if (cursor := answer["next_cursor"]) is None:
                return

    async def _close(self, request: Request) -> Response:
        return await self._end(request, close_session)

    async def _close_instance(self, request: Request) -> Response:
        return await self._end(request, close_instance)

    async def _end(self, request: Request, end: Callable[[bytes, str, int, Unit], int]) -> Response:
        if request.query_params:
            return _error(400, 'a query is not read here; send JSON: {"tenant": ""}')
        try:
            tenant = await _tenant(request)
        except _BodyError as problem:
            return _error(problem.status, f'{problem}; send JSON: {{"tenant": ""}}')
        work = partial(end, tenant_hash(tenant), request.path_params["id"], time.time_ns())
        try:
            closed = await self._ledger.submit(work)
        except StateError as problem:
            return _error(503, f"the ledger cannot be written now: {problem}")
        return _json({"closed": closed}) if closed else _error(404, "not in the ledger")


class _AnyId(Convertor[str]):
    """Whatever an id may hold, ends of lines among it, which Starlette's `path` leaves out."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return from_path(value)

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _AnyId())


def _pattern(route: LedgerRoute) -> str:
    """Return a route's path for Starlette: what an id at its end holds may have slashes and ends of lines."""
    return re.sub(r"\{(\w+)\}$", r"{\1:id}", route.path)


def _app(routes: Sequence[Route]) -> Starlette:
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _failed})
    app.router.redirect_slashes = False
    return app


def close_session(tenant: bytes, session_id: str, now_ns: int, unit: Unit) -> bool:
    """Mark a session as ended; False if the ledger has none of that id. What is done later counts, and re-opens it.

    What it did by a clock that is ahead of this one was done before.
    """
    key = session_key(tenant, session_id)
    if not session_id or unit.get(key) is None:
        return False
    session = unit.sums(key)
    if not session.closed:
        unit.apply(Changes(add={key: Sums(closed_ns=max(now_ns, session.last_ns))}), now_ns)
    return True


def close_instance(tenant: bytes, instance: str, now_ns: int, unit: Unit) -> int:
    """Mark all sessions of a process (`service.instance.id`) as ended, and return how many it has."""
    if not instance:
        return 0
    return sum(close_session(tenant, session, now_ns, unit) for session in linked(unit, tenant, INSTANCE, instance))


class _BodyError(Exception):
    """A body that cannot be used, and the status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def _tenant(request: Request) -> str:
    """Return the tenant that a JSON body names.

    Raises:
        _BodyError: the request has no such body.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _BodyError(415, "the content type is not application/json")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LONGEST_CLOSE:
            raise _BodyError(413, f"the body has more than {_LONGEST_CLOSE} bytes")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _BodyError(400, f"the body is no JSON ({error})") from None
    tenant = value.get("tenant", "") if isinstance(value, dict) else None
    if not isinstance(tenant, str):
        raise _BodyError(400, "the body is no object, or its tenant no text")
    if others := sorted(value.keys() - {"tenant"}):
        raise _BodyError(400, f"the body has {others[0]!r:.80}, which nothing reads")
    return tenant


def _json(body: Any, status: int = 200) -> Response:
    return Response(to_json(body), status, media_type="application/json")


def _error(status: int, message: str) -> Response:
    return _json({"error": message}, status)


async def _refused(_: Request, problem: Exception) -> Response:
    """Answer 404 and 405 as the API answers: with JSON, and where what it takes is to be found."""
    assert isinstance(problem, HTTPException)
    takes = f"this path takes {allowed}" if (allowed := (problem.headers or {}).get("Allow")) else _LISTED
    body = orjson.dumps({"error": f"{problem.detail}: {takes}"})
    return Response(body, problem.status_code, problem.headers, media_type="application/json")


_LISTED = "GET /api/v1/openapi.json lists what there is"


async def _failed(_: Request, problem: Exception) -> Response:
    """Return a bug of ours; the listener logs where it is."""
    return _error(500, f"internal failure ({type(problem).__name__})")
