"""OTLP/HTTP: POST /v1/traces, /v1/logs and /v1/metrics, protobuf and JSON.

Memory stays bounded because a body is charged to the memory limiter as its pieces arrive, and uvicorn stops reading
from a connection that has 64 KiB waiting.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from google.protobuf.json_format import MessageToJson
from google.rpc.code_pb2 import NOT_FOUND, UNIMPLEMENTED
from google.rpc.status_pb2 import Status
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from spanledger_exporters.interface import Result, Signal
from spanledger_processor.config.receivers import Http
from spanledger_processor.config.section import host_and_port
from spanledger_processor.listener import HttpListener
from spanledger_processor.otlp.json_form import to_protobuf
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.receivers.auth import Authenticator, ServerCertificates, readable, without_credentials
from spanledger_processor.receivers.driver import Request, RequestDriver
from spanledger_processor.receivers.encodings import ENCODINGS, bounded, decoded
from spanledger_processor.receivers.memory_limiter import Reservation
from spanledger_processor.receivers.refusals import (
    GONE,
    NO_ROOM,
    RETRY_AFTER,
    STOPPING,
    UNAUTHENTICATED_SENDER,
    Outcome,
    RefusedError,
    make_status,
    outcome,
    rejected,
    retry,
    to_status,
    too_large,
)

PATHS: dict[str, Signal] = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}

WHERE = "receivers.otlp.protocols.http"

READ_WAIT = 30.0
"""Seconds that a body may take to come in."""

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MEDIA_TYPES = (PROTOBUF, JSON)

_SHORT_JSON = 64 << 10
"""Bytes of JSON that are read in place; longer ones would keep other requests waiting."""

_STATUS_CODES: Mapping[Outcome, int] = {"ok": 200, "retry": 503, "rejected": 400, "unauthenticated": 401, "gone": 503}
_STATUS_CODES_BY_CAUSE: Mapping[str, int] = {"too_large": 413, "media_type": 415, "encoding": 415}


class HttpReceiver:
    """One listener. `port` is where it listens once started.

    Raises:
        OSError: a certificate cannot be used.
    """

    def __init__(self, settings: Http, driver: RequestDriver, *, share_port: bool = False) -> None:
        self._settings = settings
        self._driver = driver
        self._authenticator = Authenticator(settings.auth)
        self._json = JsonReader()
        self._certificates = None if settings.tls is None else ServerCertificates(settings.tls, f"{WHERE}.tls")
        self._listener = HttpListener(
            self._app(),
            host_and_port(settings.endpoint),
            WHERE,
            None if self._certificates is None else self._certificates.ssl_context(),
            header_timeout=settings.read_header_timeout,
            idle_timeout=settings.idle_timeout,
            share_port=share_port,
        )

    @property
    def port(self) -> int:
        """Return where it listens once started."""
        return self._listener.port

    @property
    def listening(self) -> bool:
        """Return whether requests are taken."""
        return self._listener.listening and not self._driver.draining

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours.
        """
        await self._listener.start()

    def reload(self, settings: Http) -> None:
        """Use the token and the certificates of other settings from now on; raises OSError."""
        self._authenticator.replace(settings.auth)
        if self._certificates is not None and settings.tls is not None:
            self._certificates.replace(settings.tls)

    async def stop(self) -> None:
        """Stop listening."""
        await self._listener.stop()

    def _app(self) -> Starlette:
        routes = [Route(path, self._export(signal), methods=["POST"]) for path, signal in PATHS.items()]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _other_path})
        app.router.redirect_slashes = False
        return app

    def _export(self, signal: Signal) -> Callable[[HttpRequest], Awaitable[Response]]:
        async def export(request: HttpRequest) -> Response:
            result = await self._driver.run(signal, "http", self._receive(signal, request), _host(request))
            return _response(result, media_type(request))

        return export

    async def _receive(self, signal: Signal, request: HttpRequest) -> Result:
        headers = readable(request.headers.items())
        if self._driver.draining:
            return STOPPING
        if not self._authenticator.accepts(headers):
            return UNAUTHENTICATED_SENDER
        sender = _host(request)
        reservation = Reservation(self._driver.limiter, sender)
        accepted = Request(signal, "http", b"", without_credentials(headers), sender, self._settings.trusted_hop)
        try:
            accepted.signal, accepted.body = await self._read(signal, request, headers, reservation)
        except ClientDisconnect:
            reservation.release()
            return GONE
        except BaseException:
            reservation.release()
            raise
        return await self._driver.submit(accepted, reservation, None)

    async def _read(
        self, signal: Signal, request: HttpRequest, headers: Mapping[str, str], reservation: Reservation
    ) -> tuple[Signal, bytes]:
        encoding = self._checked(request, headers)
        body = await read_body(request.stream(), encoding, self._settings.max_request_bytes, reservation)
        if media_type(request) == JSON:
            return await self._json.read(signal, body, reservation)
        return signal, body

    def _checked(self, request: HttpRequest, headers: Mapping[str, str]) -> str:
        """Return the body's encoding after all headers were checked."""
        if media_type(request) is None:
            raise RefusedError(rejected("media_type", f"content-type must be one of {', '.join(MEDIA_TYPES)}"))
        encoding = headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding not in ENCODINGS:
            raise RefusedError(rejected("encoding", f"content-encoding must be one of {', '.join(ENCODINGS)}"))
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.max_request_bytes:
            raise RefusedError(too_large(self._settings.max_request_bytes))
        return encoding


def _host(request: HttpRequest) -> str:
    return request.client.host if request.client else ""


class JsonReader:
    """Converts OTLP/JSON to protobuf, off the event loop where it is long.

    One long body at a time, since it takes about three times the room of its text.
    """

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def read(self, signal: Signal, text: bytes, reservation: Reservation) -> tuple[Signal, bytes]:
        """Return the request as protobuf, and the signal it holds; `reservation` then holds its size.

        Raises:
            RefusedError: it is no export request of `signal`, or there is no room for it.
        """
        if not text.strip():
            return signal, b""
        if signal == "logs" and b'"resourceSpans"' in text and b'"resourceLogs"' not in text:
            signal = "traces"  # as `driver.detect_signal`: traces on the logs path
        try:
            body = await self._convert(signal, text)
        except MalformedError as error:
            raise RefusedError(rejected("malformed", str(error))) from None
        if not reservation.resize(len(body)):
            raise RefusedError(NO_ROOM)
        return signal, body

    async def _convert(self, signal: Signal, text: bytes) -> bytes:
        if len(text) <= _SHORT_JSON:
            return to_protobuf(signal, text)
        async with self._one:
            return await asyncio.to_thread(to_protobuf, signal, text)


async def read_body(pieces: AsyncIterator[bytes], encoding: str, limit: int, reservation: Reservation) -> bytes:
    """Return the whole body, decompressed from one of `ENCODINGS`. `reservation` grows with it.

    Raises:
        RefusedError: too large, broken, too slow, or more than there is room for.
    """
    plain = decoded(pieces, encoding, limit)
    try:
        async with asyncio.timeout(READ_WAIT):
            return b"".join([piece async for piece in bounded(plain, limit, reservation)])
    except TimeoutError:
        raise RefusedError(retry("slow_body", f"the body did not arrive within {READ_WAIT:g} s")) from None


def media_type(request: HttpRequest) -> str | None:
    """Return the request's media type if it is one of ours, without parameters."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return given if given in MEDIA_TYPES else None


def _response(result: Result, media: str | None) -> Response:
    """Return the answer; an error to a request of unknown media type is JSON."""
    label = outcome(result)
    if label == "ok":
        # An empty Export*ServiceResponse: partial_success is unset, as full success demands.
        return Response(b"{}" if media == JSON else b"", media_type=media)
    code = _STATUS_CODES_BY_CAUSE.get(result.cause) or _STATUS_CODES[label]
    return _status_response(code, to_status(result), media, _headers(result, label))


async def _other_path(request: HttpRequest, error: Exception) -> Response:
    """Answer 404 and 405 with a status, as OTLP/HTTP has it."""
    assert isinstance(error, HTTPException)
    code = NOT_FOUND if error.status_code == 404 else UNIMPLEMENTED
    message = f"{error.detail}: OTLP takes POST on {', '.join(PATHS)}"
    status = make_status(code, message)
    return _status_response(error.status_code, status, media_type(request), dict(error.headers or {}))


def _headers(result: Result, label: Outcome) -> dict[str, str]:
    if label == "retry":
        return {"retry-after": str(max(1, math.ceil(result.retry_after or RETRY_AFTER)))}
    if label == "unauthenticated":
        return {"www-authenticate": "Bearer"}
    if result.cause == "encoding":
        return {"accept-encoding": ", ".join(ENCODINGS)}
    return {}


def _status_response(code: int, status: Status, media: str | None, headers: Mapping[str, str]) -> Response:
    if media == PROTOBUF:
        return Response(status.SerializeToString(), code, headers, PROTOBUF)
    return Response(MessageToJson(status, indent=None), code, headers, JSON)
