"""OTLP over gRPC: bytes are sent as they are, one channel for all signals, one more for what is large and compressed.

`grpc.aio` needs a quarter less CPU for a small request than gRPC's threaded client, but compresses on the event loop
and keeps the interpreter's lock meanwhile: 40 ms for each MiB (gzip, the default) in which nothing else is received,
answered or sent. So a request that takes long to compress is sent by the threaded client, and a giant one on a
connection of its own: others on its connection would wait for a second, until all of it is compressed and taken.

Statuses are read as the specification lists them (docs/formats/genai.md#51-protocol). One rule is ours:
trouble inside a destination (UNKNOWN, INTERNAL) is retryable, where the specification lets the data be dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from spanledger_exporters import tls
from spanledger_exporters.interface import USER_AGENT, Result, Signal, Verdict
from spanledger_exporters.responses import LONGEST_WAIT, PROTOBUF, Body, Protocol, reason, success, with_hint
from spanledger_exporters.settings import OtlpGrpcSettings

_SERVICE = "/opentelemetry.proto.collector."
METHODS: Mapping[Signal, str] = {
    "traces": f"{_SERVICE}trace.v1.TraceService/Export",
    "logs": f"{_SERVICE}logs.v1.LogsService/Export",
    "metrics": f"{_SERVICE}metrics.v1.MetricsService/Export",
}
_COMPRESSION = {"gzip": grpc.Compression.Gzip, "none": grpc.Compression.NoCompression}
_STATUS_DETAILS = "grpc-status-details-bin"
_LONGEST_ANSWER = 4 * 2**20
"""Bytes, the bound that the specification recommends; a longer answer fails as RESOURCE_EXHAUSTED, without retry."""


_LARGE = 32 * 2**10
"""Bytes of a request whose compression would hold up the event loop noticeably."""


_GIANT = 2**20
"""Bytes of a request that would hold up others on its connection."""
_APART = ("grpc.use_local_subchannel_pool", 1)
"""A channel with this option has a connection of its own."""


class OtlpGrpc:
    """One OTLP/gRPC destination. A send is one attempt."""

    def __init__(self, name: str, settings: OtlpGrpcSettings) -> None:
        self.name = name
        self.required = settings.required
        self.signals = settings.signals
        self._settings = settings
        headers = {key.lower(): value.get_secret_value() for key, value in settings.headers.items()}
        self._user_agent = headers.pop("user-agent", USER_AGENT)  # gRPC takes it as a channel option only
        self._metadata = tuple(headers.items())
        self._compressed = settings.compression != "none"
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[Signal, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._threaded_channel: grpc.Channel | None = None
        self._threaded_calls: dict[Signal, grpc.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._giant_channel: grpc.Channel | None = None
        self._giant_calls: dict[Signal, grpc.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._protocol: Protocol = "grpc" if settings.secure else "grpc without TLS"

    def address(self, _: Signal) -> str:
        """Return the endpoint."""
        return self._settings.endpoint

    async def start(self) -> None:
        """Open the channels, which connect when they are first used."""
        target, options = self._settings.target, self._options()
        compression = _COMPRESSION[self._settings.compression]
        if self._settings.secure:
            pem = tls.read(self.name, self._settings.tls)
            credentials = grpc.ssl_channel_credentials(pem.authorities, pem.key, pem.certificate)
            self._channel = grpc.aio.secure_channel(target, credentials, options, compression)
            self._threaded_channel = grpc.secure_channel(target, credentials, options, compression)
            self._giant_channel = grpc.secure_channel(target, credentials, [*options, _APART], compression)
        else:
            self._channel = grpc.aio.insecure_channel(target, options, compression)
            self._threaded_channel = grpc.insecure_channel(target, options, compression)
            self._giant_channel = grpc.insecure_channel(target, [*options, _APART], compression)
        for signal in self.signals:
            self._calls[signal] = self._channel.unary_unary(METHODS[signal], bytes, bytes)
            self._threaded_calls[signal] = self._threaded_channel.unary_unary(METHODS[signal], bytes, bytes)
            self._giant_calls[signal] = self._giant_channel.unary_unary(METHODS[signal], bytes, bytes)

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        """Export once, within the configured timeout and by the deadline."""
        timeout = min(self._settings.timeout, deadline - asyncio.get_running_loop().time())
        if timeout <= 0:
            return Result(Verdict.RETRYABLE, "no time left to send")
        send = self._send_threaded if self._compressed and len(body) > _LARGE else self._send
        return with_hint(await send(signal, body, timeout), self._protocol, signal)

    async def _send(self, signal: Signal, body: bytes, timeout: float) -> Result:  # noqa: ASYNC109 - gRPC's own
        try:
            answer = await self._calls[signal](body, timeout=timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            return failure(error.code(), error.details() or "", _status_details(error.trailing_metadata()))
        return success(signal, Body(answer, PROTOBUF))

    async def _send_threaded(self, signal: Signal, body: bytes, timeout: float) -> Result:  # noqa: ASYNC109 - as above
        calls = self._giant_calls if len(body) > _GIANT else self._threaded_calls
        begin = partial(calls[signal].future, body, timeout=timeout, metadata=self._metadata)
        call = await asyncio.to_thread(begin)
        await _ended(call)
        if call.code() is grpc.StatusCode.OK:
            return success(signal, Body(call.result(), PROTOBUF))
        return failure(call.code(), call.details() or "", _status_details(call.trailing_metadata()))

    async def close(self) -> None:
        """Close the channels; what is still under way on them is cancelled."""
        if self._channel is not None:
            await self._channel.close(grace=None)
        for channel in (self._threaded_channel, self._giant_channel):
            if channel is not None:
                channel.close()

    def _options(self) -> list[tuple[str, str | int]]:
        options: list[tuple[str, str | int]] = [
            ("grpc.max_receive_message_length", _LONGEST_ANSWER),
            ("grpc.primary_user_agent", self._user_agent),
            ("grpc.lb_policy_name", "round_robin"),  # over all addresses of the endpoint, as the Collector does
            # gRPC would wait up to two minutes before it looks whether a destination is back.
            ("grpc.initial_reconnect_backoff_ms", 500),
            ("grpc.max_reconnect_backoff_ms", 5000),
        ]
        if keepalive := self._settings.keepalive:
            options += [
                ("grpc.keepalive_time_ms", round(keepalive.time * 1000)),
                ("grpc.keepalive_timeout_ms", round(keepalive.timeout * 1000)),
                ("grpc.keepalive_permit_without_calls", int(keepalive.permit_without_stream)),
                ("grpc.http2.ping_timeout_ms", round(keepalive.timeout * 1000)),  # else the answer may take a minute
                ("grpc.http2.max_pings_without_data", 0),
            ]
        if name := self._settings.tls.server_name_override:
            options.append(("grpc.ssl_target_name_override", name))
        return options


async def _ended(call: grpc.CallFuture[bytes]) -> None:
    """Return when the call has ended; whoever gives up waiting gives up the call."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def wake(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(ended.set)

    call.add_done_callback(wake)
    try:
        await ended.wait()
    except asyncio.CancelledError:
        call.cancel()  # type: ignore[no-untyped-call]
        raise


def _status_details(trailing_metadata: Any) -> bytes:
    value = dict(trailing_metadata or ()).get(_STATUS_DETAILS)
    return value if isinstance(value, bytes) else b""


_RETRYABLE = frozenset(
    (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
        # Ours, see the package.
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    )
)
_RETRYABLE_WITH_RETRY_INFO = grpc.StatusCode.RESOURCE_EXHAUSTED


def failure(code: grpc.StatusCode, details: str, packed_status: bytes) -> Result:
    """Return the result of a failed call. `packed_status` is its `grpc-status-details-bin`, empty if there is none."""
    delay = retry_delay(packed_status)
    if code in _RETRYABLE or (code is _RETRYABLE_WITH_RETRY_INFO and delay is not None):
        return Result(Verdict.RETRYABLE, reason(code.name, details), delay)
    return Result(Verdict.PERMANENT, reason(code.name, details))


def retry_delay(packed_status: bytes) -> float | None:
    """Return seconds of the RetryInfo in an encoded google.rpc.Status; None where there is none."""
    try:
        status = Status.FromString(packed_status)
        info = RetryInfo()
        if not any(detail.Unpack(info) for detail in status.details):
            return None
    except DecodeError:
        return None
    delay: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    return min(max(0.0, delay), LONGEST_WAIT)
