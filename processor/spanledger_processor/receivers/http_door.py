"""OTLP/HTTP: POST /v1/traces, /v1/logs and /v1/metrics, protobuf and JSON.

Memory stays bounded because a body is charged to the budget as its pieces arrive, and uvicorn stops reading from a
connection that has 64 KiB waiting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from google.rpc.code_pb2 import NOT_FOUND, UNIMPLEMENTED
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from spanledger_exporters.interface import Signal
from spanledger_processor.config.receivers import Http
from spanledger_processor.config.section import host_and_port
from spanledger_processor.listener import HttpListener
from spanledger_processor.receivers import desk, http_body
from spanledger_processor.receivers.budget import Claim
from spanledger_processor.receivers.credentials import Guard, readable, without_credentials
from spanledger_processor.receivers.http_reply import JSON, MEDIA_TYPES, error_response, media_type, response
from spanledger_processor.receivers.json_body import JsonReader
from spanledger_processor.receivers.reply import GONE, STOPPING, UNAUTHENTICATED, RefusedError, Reply, rejected
from spanledger_processor.receivers.tls import ssl_context

PATHS: dict[str, Signal] = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}

WHERE = "receivers.otlp.protocols.http"

_ENCODINGS = ("gzip", "identity")


class HttpDoor:
    """One listener. `port` is where it listens once started.

    Raises:
        OSError: a certificate cannot be used.
    """

    def __init__(self, settings: Http, at: desk.Desk) -> None:
        self._settings = settings
        self._desk = at
        self._guard = Guard(settings.auth)
        self._json = JsonReader()
        tls = None if settings.tls is None else ssl_context(settings.tls, f"{WHERE}.tls")
        self._listener = HttpListener(self._app(), host_and_port(settings.endpoint), WHERE, tls)

    @property
    def port(self) -> int:
        """Where it listens once started."""
        return self._listener.port

    @property
    def listening(self) -> bool:
        """Whether requests are taken."""
        return self._listener.listening and not self._desk.stopping

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
        routes = [Route(path, self._export(signal), methods=["POST"]) for path, signal in PATHS.items()]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _not_ours})
        app.router.redirect_slashes = False
        return app

    def _export(self, signal: Signal) -> Callable[[Request], Awaitable[Response]]:
        async def export(request: Request) -> Response:
            reply = await self._desk.attend(signal, "http", self._serve(signal, request))
            return response(reply, media_type(request))

        return export

    async def _serve(self, signal: Signal, request: Request) -> Reply:
        headers = readable(request.headers.items())
        if self._desk.stopping:
            return STOPPING
        if not self._guard.lets_in(headers):
            return UNAUTHENTICATED
        claim = Claim(self._desk.budget)
        try:
            signal, body = await self._read(signal, request, claim)
        except ClientDisconnect:
            claim.release()
            return GONE
        except BaseException:
            claim.release()
            raise
        accepted = desk.Request(signal, "http", body, without_credentials(headers))
        return await self._desk.hand_over(accepted, claim, None)

    async def _read(self, signal: Signal, request: Request, claim: Claim) -> tuple[Signal, bytes]:
        encoding = self._checked(request)
        body = await http_body.read(request.stream(), encoding, self._settings.max_request_bytes, claim)
        if media_type(request) == JSON:
            return await self._json.read(signal, body, claim)
        return signal, body

    def _checked(self, request: Request) -> str:
        """The body's encoding, once all that the headers say is fine."""
        if media_type(request) is None:
            raise RefusedError(rejected("media_type", f"content-type is one of {', '.join(MEDIA_TYPES)}"))
        encoding = request.headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding not in _ENCODINGS:
            raise RefusedError(rejected("encoding", f"content-encoding is one of {', '.join(_ENCODINGS)}"))
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.max_request_bytes:
            raise RefusedError(http_body.too_large(self._settings.max_request_bytes))
        return encoding


async def _not_ours(request: Request, error: Exception) -> Response:
    """404 and 405."""
    assert isinstance(error, HTTPException)
    code = NOT_FOUND if error.status_code == 404 else UNIMPLEMENTED
    message = f"{error.detail}: OTLP takes POST on {', '.join(PATHS)}"
    return error_response(error.status_code, code, message, media_type(request), error.headers)
