"""An OTLP/gRPC destination inside the test: keeps what it takes, and can be told to hang or to refuse."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from replays import attributes, spans_of

Context: TypeAlias = "grpc.ServicerContext"


class Backend(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers every method. `received` holds the bodies of requests it answered OK, in order."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.arrived = threading.Semaphore(0)
        """Released once for each request that came in, whatever becomes of it."""
        self._open = threading.Event()
        self._open.set()
        self._refusal: grpc.StatusCode | None = None
        options = [("grpc.max_receive_message_length", -1)]
        self._server = grpc.server(ThreadPoolExecutor(64), handlers=[self], options=options)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        self._server.stop(0).wait()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(self._answer, bytes, bytes)

    def _answer(self, body: bytes, context: Context) -> bytes:
        self.arrived.release()
        self._open.wait()
        if self._refusal is not None:
            context.abort(self._refusal, "told to refuse")
        self.received.append(body)
        return b""

    def hang(self) -> None:
        """Take requests in and do not answer them until `go_on`."""
        self._open.clear()

    def refuse(self, code: grpc.StatusCode) -> None:
        """Answer `code` from now on, until `go_on`."""
        self._refusal = code

    def go_on(self) -> None:
        """Answer OK again, also what hangs."""
        self._refusal = None
        self._open.set()

    def spans(self) -> Iterator[dict[str, object]]:
        """Attributes of all spans received; requests that the real protobuf refuses (invalid UTF-8) are left out."""
        for body in list(self.received):
            for span in spans_of(ExportTraceServiceRequest.FromString(body)):
                yield attributes(span)
