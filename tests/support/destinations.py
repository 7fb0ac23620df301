"""Real servers that stand for a backend: they do what a test tells them to, and keep what they were sent."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio
import uvicorn
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certificates import Certificates
from requests_out import happened
from tools.programs import free_port


@dataclass(frozen=True, slots=True)
class GrpcAnswer:
    """`retry_delay` (seconds) is sent as RetryInfo; a `hold` is waited for first."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    retry_delay: float | None = None
    message: bytes = b""
    hold: asyncio.Event | None = None


@dataclass(slots=True)
class GrpcRequest:
    method: str
    body: bytes
    metadata: dict[str, str | bytes]
    peer: str = ""
    """The address that its connection comes from."""


@dataclass(slots=True)
class GrpcBackend:
    """Answers as `answers` say, one after the other, the last one for ever."""

    answers: Sequence[GrpcAnswer] = (GrpcAnswer(),)
    received: list[GrpcRequest] = field(default_factory=list)
    port: int = 0

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def export(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            answer = self.answers[min(len(self.received), len(self.answers) - 1)]
            headers = dict(context.invocation_metadata() or ())
            self.received.append(GrpcRequest(str(call.method), body, headers, context.peer()))
            happened()
            return await _given(answer, context)

        return grpc.unary_unary_rpc_method_handler(export)

    @contextlib.asynccontextmanager
    async def serving(
        self, certificates: Certificates | None = None, *, mutual: bool = False
    ) -> AsyncIterator[GrpcBackend]:
        """Listen on a free port, or on that of the last time; `mutual` demands a client certificate."""
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((_Handlers(self.service),))
        self.port = self.port or free_port()  # one of the system's could be a connection's when it is listened on again
        address = f"127.0.0.1:{self.port}"
        if certificates is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, _grpc_credentials(certificates, mutual=mutual))
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)


def _grpc_credentials(certificates: Certificates, *, mutual: bool) -> grpc.ServerCredentials:
    pair = (certificates.key("server").read_bytes(), certificates.cert("server").read_bytes())
    return grpc.ssl_server_credentials([pair], certificates.authority.read_bytes(), require_client_auth=mutual)


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # it has no parameter when it runs
    def __init__(self, service: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[bytes, bytes]]) -> None:
        self._service = service

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return self._service(handler_call_details)


async def _given(answer: GrpcAnswer, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    if answer.hold is not None:
        await answer.hold.wait()
    if answer.code is grpc.StatusCode.OK:
        return answer.message
    if answer.retry_delay is not None:
        context.set_trailing_metadata((("grpc-status-details-bin", status_with(answer.retry_delay)),))
    await context.abort(answer.code, answer.details)
    raise AssertionError("abort returns never")


def status_with(retry_delay: float) -> bytes:
    """An encoded google.rpc.Status with RetryInfo."""
    info = RetryInfo(retry_delay=Duration(nanos=round(retry_delay % 1 * 1e9), seconds=int(retry_delay)))
    detail = Packed()
    detail.Pack(info)
    return Status(code=grpc.StatusCode.UNAVAILABLE.value[0], details=[detail]).SerializeToString()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A `hold` is waited for first."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hold: asyncio.Event | None = None


@dataclass(slots=True)
class HttpRequest:
    """`body` is decompressed."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class HttpBackend:
    """Answers as `answers` say, one after the other, the last one for ever."""

    answers: Sequence[HttpAnswer] = (HttpAnswer(),)
    received: list[HttpRequest] = field(default_factory=list)
    port: int = 0

    async def _export(self, request: Request) -> Response:
        answer = self.answers[min(len(self.received), len(self.answers) - 1)]
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.received.append(HttpRequest(request.url.path, dict(request.headers), body))
        happened()
        if answer.hold is not None:
            await answer.hold.wait()
        return Response(answer.body, answer.status, answer.headers)

    @contextlib.asynccontextmanager
    async def serving(
        self, certificates: Certificates | None = None, *, mutual: bool = False
    ) -> AsyncIterator[HttpBackend]:
        """Listen on a free port, or on that of the last time; `mutual` demands a client certificate."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = self.port or free_port()
        listener.bind(("127.0.0.1", self.port))
        app = Starlette(routes=[Route("/{path:path}", self._export, methods=["POST"])])
        config = uvicorn.Config(
            app,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,  # from Python 3.12 on it waits for TLS connections that nobody ends
            ssl_certfile=certificates.cert("server") if certificates else None,
            ssl_keyfile=certificates.key("server") if certificates else None,
            ssl_ca_certs=str(certificates.authority) if certificates else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:  # noqa: ASYNC110 - uvicorn tells no other way
                await asyncio.sleep(0)
            yield self
        finally:
            server.should_exit = server.force_exit = True
            await serving


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """A port that refuses connections: bound, so that nobody else gets it, but not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
