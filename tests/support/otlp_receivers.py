"""The OTLP receiver with a pipeline behind it that does as a test says, and senders of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import httpx2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanledger_exporters.interface import ACCEPTED, Result, Signal
from spanledger_processor.config.receivers import OtlpReceiver
from spanledger_processor.receivers import Otlp
from spanledger_processor.receivers.driver import no_matter
from tools.programs import http_client

METHODS: Mapping[Signal, str] = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
SERVICES = tuple(method.split("/")[1] for method in METHODS.values())
PROTOBUF = "application/x-protobuf"
JSON = "application/json"


@dataclass
class Handled:
    """What the pipeline was given."""

    signal: Signal
    body: bytes
    headers: Mapping[str, str]
    left: float
    trusted: bool
    sender: str = ""


@dataclass
class FakePipeline:
    """Records what comes; answers those of `first`, then `answer`, or raises `error`, once `gate` is open."""

    answer: Result = field(default=ACCEPTED)
    error: Exception | None = None
    first: list[Result] = field(default_factory=list)
    handled: list[Handled] = field(default_factory=list)
    begun: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    takes: int = 0
    """Bytes that it says each request takes."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.gate.set()

    async def handle(
        self,
        signal: Signal,
        body: bytes,
        headers: Mapping[str, str],
        deadline: float,
        sender: str = "",
        *,
        trusted: bool = False,
        hold: Callable[[int], None] = no_matter,
    ) -> Result:
        """Implements `receivers.driver.Pipeline`."""
        if self.takes:
            hold(self.takes)
        left = deadline - asyncio.get_running_loop().time()
        self.handled.append(Handled(signal, body, headers, left, trusted, sender))
        self.begun.put_nowait(None)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.ended.put_nowait("cancelled")
            raise
        self.ended.put_nowait("done")
        if self.error is not None:
            raise self.error
        return self.first.pop(0) if self.first else self.answer


@dataclass
class Recorder:
    """Implements `receivers.driver.RequestObserver`; the first answer sets `told`, the first bytes `holds`."""

    reported: asyncio.Event = field(default_factory=asyncio.Event)
    holds: asyncio.Event = field(default_factory=asyncio.Event)
    answers: list[tuple[str, str, str, str]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    held: int = 0
    most_held: int = 0
    errors: list[str] = field(default_factory=list)

    def began(self) -> None:
        """Nothing to keep."""

    def answered(self, signal: Signal, protocol: str, outcome: str, cause: str, seconds: float) -> None:
        """Keep it."""
        assert seconds >= 0
        self.answers.append((signal, protocol, outcome, cause))
        self.reported.set()

    def received(self, signal: Signal, protocol: str, size: int) -> None:
        """Keep it."""
        self.sizes.append(size)

    def in_flight(self, size: int) -> None:
        """Keep it."""
        self.held = size
        if size:
            self.holds.set()
        self.most_held = max(self.most_held, size)

    def internal_error(self, where: str) -> None:
        """Keep it."""
        self.errors.append(where)


@dataclass
class Receivers:
    """The receiver on free ports of this machine."""

    otlp: Otlp
    pipeline: FakePipeline
    seen: Recorder

    @property
    def grpc_address(self) -> str:
        """host:port."""
        return f"localhost:{self.otlp.ports['grpc']}"

    @property
    def http_url(self) -> str:
        """Without a path."""
        return f"http://localhost:{self.otlp.ports['http']}"

    async def export(self, signal: Signal, body: bytes, **call: Any) -> Any:
        """Send by gRPC and return the response's bytes; raises `grpc.aio.AioRpcError`."""
        async with grpc.aio.insecure_channel(self.grpc_address) as channel:
            return await exporter(channel, signal)(body, **call)

    async def post(
        self, path: str, body: Any, media: str | None = PROTOBUF, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """Send by HTTP."""
        content_type = {} if media is None else {"content-type": media}
        async with http_client(base_url=self.http_url) as client:
            return await client.post(path, content=body, headers={**content_type, **(headers or {})})


def exporter(channel: grpc.aio.Channel, signal: Signal = "traces") -> Any:
    """`Export` of a signal's service: encoded request in, encoded response back."""
    return channel.unary_unary(METHODS[signal], request_serializer=bytes, response_deserializer=bytes)


@asynccontextmanager
async def opened(
    settings: Mapping[str, Any] | None = None, pipeline: FakePipeline | None = None
) -> AsyncIterator[Receivers]:
    """The receiver with `settings` (of `receivers.otlp`) beyond the free ports."""
    given = dict(settings or {})
    protocols = given.pop("protocols", {"grpc": {}, "http": {}})
    protocols = {name: {"endpoint": "127.0.0.1:0", **each} for name, each in protocols.items()}
    receiver = OtlpReceiver.model_validate({"protocols": protocols, **given})
    pipeline, seen = pipeline or FakePipeline(), Recorder()
    otlp = Otlp(receiver, pipeline, seen)
    await otlp.start()
    try:
        yield Receivers(otlp, pipeline, seen)
    finally:
        await otlp.stop(0)


def traces(name: str = "chat", payload: int = 0) -> bytes:
    """An ExportTraceServiceRequest with one span, and so many bytes in an attribute of it."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = b"t" * 16, b"s" * 8, name
    if payload:
        attribute = span.attributes.add()
        attribute.key, attribute.value.string_value = "payload", "x" * payload
    return request.SerializeToString()


def logs() -> bytes:
    """An ExportLogsServiceRequest with one record."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano, record.trace_id, record.body.string_value = 1, b"t" * 16, "hello"
    return request.SerializeToString()


def metrics() -> bytes:
    """An ExportMetricsServiceRequest with one data point."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "tokens"
    metric.sum.data_points.add().as_int = 3
    return request.SerializeToString()


REQUESTS: Mapping[Signal, bytes] = {"traces": traces(), "logs": logs(), "metrics": metrics()}
