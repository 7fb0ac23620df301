"""OTLP/gRPC: `Export` of the three services, health and reflection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from spanledger_exporters.interface import Signal
from spanledger_processor.config.receivers import Grpc
from spanledger_processor.receivers.budget import Claim
from spanledger_processor.receivers.credentials import Guard, readable, without_credentials
from spanledger_processor.receivers.desk import Desk, Request
from spanledger_processor.receivers.grpc_options import options
from spanledger_processor.receivers.grpc_reading import MessageReader
from spanledger_processor.receivers.reply import STOPPING, UNAUTHENTICATED, Reply
from spanledger_processor.receivers.status import to_status
from spanledger_processor.receivers.tls import grpc_credentials

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
    Handler: TypeAlias = Callable[[Any, Context], Awaitable[bytes]]

SERVICES: Mapping[str, Signal] = {
    trace_service_pb2.DESCRIPTOR.services_by_name["TraceService"].full_name: "traces",
    logs_service_pb2.DESCRIPTOR.services_by_name["LogsService"].full_name: "logs",
    metrics_service_pb2.DESCRIPTOR.services_by_name["MetricsService"].full_name: "metrics",
}

WHERE = "receivers.otlp.protocols.grpc"

_SUCCESS = b""
"""An empty Export*ServiceResponse: partial_success is unset, as full success demands."""
_STOP_GRACE = 1.0
"""Seconds for the last answers to leave."""


class GrpcDoor:
    """One listener. `port` is where it listens once started. The methods are served as streams: see `grpc_reading`."""

    def __init__(self, settings: Grpc, desk: Desk) -> None:
        self.port = 0
        self.listening = False
        self._settings = settings
        self._desk = desk
        self._guard = Guard(settings.auth)
        self._reader = MessageReader(desk.budget, settings.max_request_bytes)
        self._server = grpc.aio.server(options=options(settings))
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours, or a certificate cannot be used.
        """
        handlers = [_service(name, self._export(signal)) for name, signal in SERVICES.items()]
        self._server.add_generic_rpc_handlers(tuple(handlers))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self.port = self._bind()
        await self._server.start()
        for name in SERVICES:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.listening = True

    async def turn_away(self) -> None:
        """Health says NOT_SERVING from now on; requests are still answered."""
        self.listening = False
        await self._health.enter_graceful_shutdown()

    async def stop(self) -> None:
        """Stop listening; answers are still sent, and what is not answered by then is UNAVAILABLE."""
        await self._server.stop(_STOP_GRACE)

    def _bind(self) -> int:
        endpoint, tls = self._settings.endpoint, self._settings.tls
        try:
            if tls is None:
                return self._server.add_insecure_port(endpoint)
            return self._server.add_secure_port(endpoint, grpc_credentials(tls, f"{WHERE}.tls"))
        except RuntimeError as error:
            raise OSError(f"{WHERE}.endpoint: cannot listen on {endpoint}; is the port taken?") from error

    def _export(self, signal: Signal) -> Handler:
        async def export(_: Any, context: Context) -> bytes:
            reply = await self._desk.attend(signal, "grpc", self._serve(signal, context))
            if reply.outcome != "ok":
                status = rpc_status.to_status(to_status(reply))
                await context.abort(status.code, status.details, status.trailing_metadata)
            return _SUCCESS

        return export

    async def _serve(self, signal: Signal, context: Context) -> Reply:
        headers = readable(context.invocation_metadata() or ())
        if self._desk.stopping:
            return STOPPING
        if not self._guard.lets_in(headers):
            return UNAUTHENTICATED
        claim = Claim(self._desk.budget)
        try:
            body = await self._reader.read(context, claim)
        except BaseException:
            claim.release()
            raise
        request = Request(signal, "grpc", body, without_credentials(headers))
        return await self._desk.hand_over(request, claim, context.time_remaining())


def _service(name: str, export: Handler) -> grpc.GenericRpcHandler[Any, Any]:
    method = grpc.stream_unary_rpc_method_handler(export)
    return grpc.method_handlers_generic_handler(name, {"Export": method})
