"""OTLP/gRPC: `Export` of the three services, health and reflection, without filling memory.

`Export` is served as if the sender streamed its one message, which looks the same on the wire, but lets us run before
the message is read. Messages are read only while the memory limiter has room for the largest there may be (or a quarter
of its memory), and few at a time, because the size of a message is not known before. So there is never more than
`max_in_flight_mib` + (`_READERS` + `_SLOW_READERS`) * `max_recv_msg_size_mib`. What is not being read waits at the
sender: a stream buffers 64 KiB here, and a connection has a bounded number of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from spanledger_exporters.interface import ACCEPTED, Result, Signal, Verdict
from spanledger_processor.config.receivers import Grpc, OtlpGrpc
from spanledger_processor.config.section import host_and_port
from spanledger_processor.listener import share_of_files
from spanledger_processor.receivers.auth import (
    Authenticator,
    ServerCertificates,
    carried_headers,
    readable,
    without_credentials,
)
from spanledger_processor.receivers.driver import Handle, Request, RequestDriver
from spanledger_processor.receivers.encodings import encoding_of, message_of
from spanledger_processor.receivers.memory_limiter import MemoryLimiter, Reservation
from spanledger_processor.receivers.refusals import (
    NO_ROOM,
    STOPPING,
    UNAUTHENTICATED_SENDER,
    OtlpProtocol,
    RefusedError,
    rejected,
    retry,
    to_status,
)
from spanledger_processor.receivers.zstd_relay import ZstdRelay

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
    Method: TypeAlias = Callable[[Any, Context], Awaitable[bytes]]

SERVICES: Mapping[str, Signal] = {
    trace_service_pb2.DESCRIPTOR.services_by_name["TraceService"].full_name: "traces",
    logs_service_pb2.DESCRIPTOR.services_by_name["LogsService"].full_name: "logs",
    metrics_service_pb2.DESCRIPTOR.services_by_name["MetricsService"].full_name: "metrics",
}

Respond: TypeAlias = Callable[[bytes, Mapping[str, str]], Awaitable[bytes]]
"""Returns the response to a message that came with these headers."""

WHERE = "receivers.otlp.protocols.grpc"

_NOT_READ = (
    "either the sender has left, or gRPC itself refused what is compressed otherwise than with gzip or deflate (with "
    "zstd and snappy where receivers.otlp.protocols.grpc.zstd is false here), and the sender then drops it: set "
    "compression: gzip there"
)
"""gRPC in Python ends such a call while it parses the head, and tells nothing of why."""
_COMPONENT_LEFT = "the Collector component has left, after its timeout as a rule; its log says why"
"""It compresses with nothing that gRPC refuses."""
_SUCCESS = b""
"""An empty Export*ServiceResponse: partial_success is unset, as full success demands."""
_STOP_GRACE = 1.0
"""Seconds for the last answers to leave."""
_STREAMS = 128
"""Requests at once on one connection; further ones wait at the sender."""
_FILES_SHARE = 6
"""A sixth of the files that the process may open is how many connections there may be: one takes up to three."""
_READERS = 4
"""Messages being read at a time, at most. One whose beginning is here already, as most are, takes a moment."""
_LEAST_ROOM = 4
"""Messages are read while a part of the memory for requests is free: a quarter, or the size of the largest message."""
_SLOW_READERS = 4
"""Messages being read beside them that took longer than ..."""
_QUICK = 0.15
"""... so many seconds while others waited for a slot."""
_SLOT_WAIT = 1.0
"""Seconds that a request waits for its slot before its sender is asked to come back."""
_READ_WAIT = 20.0
"""Seconds that a message may take to come in."""


def host_of(peer: str) -> str:
    """Return the address of "ipv4:127.0.0.1:5000" or "ipv6:%5B::1%5D:5000" alone, as OTLP/HTTP knows it."""
    host = peer.rpartition(":")[0] or peer
    return unquote(host.removeprefix("ipv4:").removeprefix("ipv6:")).strip("[]")


class GrpcListener:
    """One gRPC listener with health and reflection, whose methods read their message within the limits.

    `setting` is the configuration path that errors name. `port` is where it listens once started, 0 for a socket file.
    """

    def __init__(
        self,
        settings: Grpc,
        setting: str,
        driver: RequestDriver,
        protocol: OtlpProtocol,
        *,
        share_port: bool = False,
    ) -> None:
        self.port = 0
        self.listening = False
        self._settings = settings
        self._setting = setting
        self._driver = driver
        self._protocol: OtlpProtocol = protocol
        self._authenticator = Authenticator(settings.auth)
        self._certificates: ServerCertificates | None = None
        self._share_port = share_port
        takes_zstd = isinstance(settings, OtlpGrpc) and settings.zstd
        self._relay = ZstdRelay(share_of_files(_FILES_SHARE)) if takes_zstd else None
        self._reader = MessageReader(driver.limiter, settings.max_request_bytes, decompress=takes_zstd)
        options = [*_options(settings, share_port=share_port), ("grpc.per_message_decompression", int(not takes_zstd))]
        self._server = grpc.aio.server(options=options)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._services: list[str] = []

    def add_service(self, name: str, methods: Mapping[str, Method]) -> None:
        """Serve the methods of a service. Each is served as a stream of one message, which looks the same."""
        handlers = {method: grpc.stream_unary_rpc_method_handler(call) for method, call in methods.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        self._services.append(name)

    def method(self, signal: Signal, respond: Respond | None = None) -> Method:
        """Return a method that takes its message through the pipeline, or answers with what `respond` makes of it."""

        async def call(_: Any, context: Context) -> bytes:
            response = _SUCCESS

            async def handle(_signal: Signal, body: bytes, headers: Mapping[str, str], _deadline: float) -> Result:
                nonlocal response
                assert respond is not None
                response = await respond(body, headers)
                return ACCEPTED

            sender = self._host(context.peer())
            receive = self._receive(signal, context, sender, None if respond is None else handle)
            result = await self._driver.run(signal, self._protocol, receive, sender)
            if result.verdict is not Verdict.ACCEPTED:
                status = rpc_status.to_status(to_status(result, self._protocol))
                await context.abort(status.code, status.details, status.trailing_metadata)
            return response

        return call

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours, or a certificate cannot be used.
        """
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.port = self._bind()
        await self._server.start()
        if self._relay is not None:
            await self._start_relay(self._relay)
        for name in self._services:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.listening = True

    def reload(self, settings: Grpc) -> None:
        """Use the token and the certificates of other settings from now on; raises OSError."""
        self._authenticator.replace(settings.auth)
        if self._certificates is not None and settings.tls is not None:
            self._certificates.replace(settings.tls)

    async def begin_drain(self) -> None:
        """Report NOT_SERVING by gRPC health from now on; requests are still answered."""
        self.listening = False
        await self._health.enter_graceful_shutdown()

    async def stop(self) -> None:
        """Stop listening; answers are still sent, and what is not answered by then is UNAVAILABLE."""
        if self._relay is not None:
            self._relay.stop_listening()
        await self._server.stop(_STOP_GRACE)
        if self._relay is not None:
            await self._relay.stop()

    def _bind(self) -> int:
        endpoint, tls = self._settings.endpoint, self._settings.tls
        if self._relay is not None:
            endpoint, tls = f"unix:{self._relay.socket_path}", None
        is_file = endpoint.startswith("unix:")
        try:
            if tls is None:
                port = self._server.add_insecure_port(endpoint)
            else:
                self._certificates = ServerCertificates(tls, f"{self._setting}.tls")
                port = self._server.add_secure_port(endpoint, self._certificates.grpc_credentials())
        except RuntimeError as error:
            problem = "can the folder be written?" if is_file else "is the port taken?"
            raise OSError(f"{self._setting}.endpoint: cannot listen on {endpoint}; {problem}") from error
        return 0 if is_file else port

    async def _start_relay(self, relay: ZstdRelay) -> None:
        tls, context = self._settings.tls, None
        if tls is not None:
            self._certificates = ServerCertificates(tls, f"{self._setting}.tls", alpn="h2")
            context = self._certificates.ssl_context()
        address, timeout = host_and_port(self._settings.endpoint), self._settings.handshake_timeout
        self.port = await relay.start(address, self._setting, context, timeout, share_port=self._share_port)

    def _host(self, peer: str) -> str:
        return host_of(peer) if self._relay is None else self._relay.host_of(peer)

    async def _receive(self, signal: Signal, context: Context, sender: str, handle: Handle | None) -> Result:
        metadata = context.invocation_metadata() or ()
        headers = readable(metadata)
        if self._driver.draining:
            return STOPPING
        if not self._authenticator.accepts(headers):
            return UNAUTHENTICATED_SENDER
        reservation = Reservation(self._driver.limiter, sender)
        if self._protocol == "enricher":
            headers |= carried_headers(metadata)
        request = Request(signal, self._protocol, b"", without_credentials(headers), sender, self._settings.trusted_hop)
        try:
            request.body = await self._reader.read(context, reservation, sender)
        except asyncio.CancelledError:
            reservation.release()
            if (left := context.time_remaining()) is None or left > 0:
                self._report_unread(signal, sender)
            raise
        except BaseException:
            reservation.release()
            raise
        return await self._driver.submit(request, reservation, context.time_remaining(), handle)

    def _report_unread(self, signal: Signal, sender: str) -> None:
        level, why = (logging.WARNING, _COMPONENT_LEFT) if self._protocol == "enricher" else (logging.ERROR, _NOT_READ)
        name = "enricher" if self._protocol == "enricher" else "gRPC"
        log.log(level, "%s by %s from %s ended before its message was read: %s", signal, name, sender, why)


def grpc_receiver(settings: Grpc, driver: RequestDriver, *, share_port: bool = False) -> GrpcListener:
    """Return a listener for OTLP/gRPC."""
    listener = GrpcListener(settings, WHERE, driver, "grpc", share_port=share_port)
    for name, signal in SERVICES.items():
        listener.add_service(name, {"Export": listener.method(signal)})
    return listener


@dataclass(eq=False, slots=True)
class _Read:
    """A message that is being read by a task."""

    sender: str
    began: float
    task: asyncio.Task[Any]
    is_ended: bool = False

    def end(self) -> None:
        """Have it refused; its task is cancelled, and says so."""
        if not self.is_ended:
            self.is_ended = True
            self.task.cancel()


class MessageReader:
    """Reads the messages of all connections; `largest` in bytes.

    A read begins with one of a few slots. Once it has had its time and others wait for a slot, it goes on among the
    slow reads, or is ended if those are as many as there may be; a host that holds most of them gives way to others.
    """

    def __init__(self, limiter: MemoryLimiter, largest: int, *, decompress: bool = False) -> None:
        self._limiter = limiter
        self._largest = largest
        self._decompress = decompress
        self._least_room = min(largest, limiter.limit // _LEAST_ROOM)
        self._quick: list[_Read] = []
        self._slow: list[_Read] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._granted = 0
        """Slots that were given and are not taken yet."""
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        """Ends what takes too long: one timer for all, since each takes as many steps as a read."""

    async def read(self, context: Context, reservation: Reservation, sender: str) -> bytes:
        """Return the one message of a call; `reservation` grows by its size.

        Raises:
            RefusedError: there is no room for it, it takes too long, or it cannot be read.
        """
        if not self._limiter.has_room_for(self._least_room):
            raise RefusedError(NO_ROOM)
        await self._slot()
        task = asyncio.current_task()
        assert task is not None
        read = _Read(sender, asyncio.get_running_loop().time(), task)
        self._quick.append(read)
        if self._watch is None:
            self._end_late()
        try:
            message = await self._message(context)
        except asyncio.CancelledError:
            if not read.is_ended or task.uncancel():  # its sender has left
                raise
            raise RefusedError(retry("slow_body", "the message took too long to arrive; try again")) from None
        finally:
            self._ended(read)
        if not isinstance(message, bytes):
            # Over the limit, not decompressible, or its sender left: gRPC does not say which. It has answered
            # already, and what we say reaches nobody. (A call that ends without a message does read it.)
            raise RefusedError(rejected("unreadable", "no message came that could be read"))
        if self._decompress and (encoding := encoding_of(message)) is not None:
            return await message_of(message, encoding, self._largest, reservation)
        if not reservation.grow(len(message)):
            raise RefusedError(NO_ROOM)
        return message

    async def _message(self, context: Context) -> Any:
        return await context.read()

    async def _slot(self) -> None:
        """Return when there is a slot."""
        if len(self._quick) + self._granted < self._slots():
            return
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        self._make_room()
        try:
            await asyncio.wait((slot,), timeout=_SLOT_WAIT)
        finally:
            if slot.done():
                self._granted -= 1
            else:
                self._waiting.remove(slot)
        if not slot.done():
            raise RefusedError(NO_ROOM)

    def _make_room(self) -> None:
        """Have reads that had their time give their slots to those that wait, now and again."""
        now = asyncio.get_running_loop().time()
        ending = sum(read.is_ended for read in self._quick)
        for _ in range(len(self._waiting) - ending):
            had_their_time = [read for read in self._quick if now - read.began >= _QUICK and not read.is_ended]
            if not had_their_time:
                break
            self._move(had_their_time)
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_QUICK, self._look_again)

    def _slots(self) -> int:
        """Return how many messages may be read beside the slow ones: nobody knows how large they are before they are
        here, so as many as there is room for if all are of the largest size, and one in any case.
        """
        room = (self._limiter.limit - self._limiter.held) // self._least_room
        return max(1, min(_READERS, room - len(self._slow)))

    def _look_again(self) -> None:
        self._timer = None
        self._make_room()
        self._grant()

    def _move(self, reads: list[_Read]) -> None:
        """Move the oldest of `reads` to the slow ones, where it has a place there; otherwise end the newest."""
        oldest, newest = reads[0], reads[-1]
        held = Counter(read.sender for read in self._slow)
        if len(self._slow) >= _SLOW_READERS:
            sender, most = next(iter(held.most_common(1)), ("", 0))
            if most <= held[oldest.sender] + 1:
                newest.end()
                return
            [read for read in self._slow if read.sender == sender][-1].end()
        self._quick.remove(oldest)
        self._slow.append(oldest)
        self._grant()

    def _end_late(self) -> None:
        """End reads that have taken too long, and look again when the next one will have."""
        loop = asyncio.get_running_loop()
        self._watch, waiting = None, list[float]()
        for read in (*self._quick, *self._slow):
            if loop.time() - read.began >= _READ_WAIT:
                read.end()
            elif not read.is_ended:
                waiting.append(read.began)
        if waiting:
            self._watch = loop.call_at(min(waiting) + _READ_WAIT, self._end_late)

    def _ended(self, read: _Read) -> None:
        for reads in (self._quick, self._slow):
            if read in reads:
                reads.remove(read)
        self._grant()

    def _grant(self) -> None:
        """Give free slots to those that wait, the first come first."""
        while self._waiting and len(self._quick) + self._granted < self._slots():
            self._waiting.popleft().set_result(None)
            self._granted += 1


def _service(name: str, export: Method) -> grpc.GenericRpcHandler[Any, Any]:
    method = grpc.stream_unary_rpc_method_handler(export)
    return grpc.method_handlers_generic_handler(name, {"Export": method})


def _options(settings: Grpc, *, share_port: bool) -> Sequence[tuple[str, int]]:
    """Return limits, flow control and keepalive in gRPC's names; what is not configured is left to gRPC."""
    parameters = settings.keepalive.server_parameters
    policy = settings.keepalive.enforcement_policy
    times = {
        "grpc.max_connection_idle_ms": parameters.max_connection_idle,
        "grpc.max_connection_age_ms": parameters.max_connection_age,
        "grpc.max_connection_age_grace_ms": parameters.max_connection_age_grace,
        "grpc.keepalive_time_ms": parameters.time,
        "grpc.keepalive_timeout_ms": parameters.timeout,
        "grpc.http2.min_ping_interval_without_data_ms": policy.min_time,
    }
    times["grpc.server_handshake_timeout_ms"] = settings.handshake_timeout
    return [
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.max_allowed_incoming_connections", share_of_files(_FILES_SHARE)),
        ("grpc.http2.bdp_probe", 0),  # windows stay at 64 KiB a stream until its message is read
        ("grpc.so_reuseport", int(share_port)),  # else a second process on our port would take half of the requests
        ("grpc.keepalive_permit_without_calls", int(policy.permit_without_stream)),
        *((name, _milliseconds(seconds)) for name, seconds in times.items() if seconds is not None),
    ]


def _milliseconds(seconds: float) -> int:
    return max(1, min(round(seconds * 1000), 2**31 - 1))
