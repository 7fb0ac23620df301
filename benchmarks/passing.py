"""The two ends of the measure, each a process of its own, on the stack that Spanledger stands on (grpc.aio, raw bytes).

`python -m benchmarks.passing sink PORT` answers and forgets: what every system sends to.
`python -m benchmarks.passing proxy PORT TO` passes each request on as it came: what the stack costs by itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import grpc
import grpc.aio

from benchmarks.load import EXPORT

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = Callable[[bytes, Context], Awaitable[bytes]]

_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class _Everything(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    def __init__(self, handler: Handler) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(handler)

    def service(
        self,
        handler_call_details: grpc.HandlerCallDetails,  # noqa: ARG002 - every method is taken
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        return self._handler


async def _serve(port: int, handler: Handler) -> None:
    server = grpc.aio.server(options=_UNLIMITED)
    server.add_generic_rpc_handlers((_Everything(handler),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def sink(port: int) -> None:
    """Answer everything with an empty message, which is OTLP for full success."""

    async def answer(_request: bytes, _context: Context) -> bytes:
        return b""

    await _serve(port, answer)


async def proxy(port: int, to: int) -> None:
    """Answer what the destination answers."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{to}", options=_UNLIMITED) as channel:
        export = channel.unary_unary(EXPORT, bytes, bytes)

        async def forward(request: bytes, _context: Context) -> bytes:
            answer: bytes = await export(request, timeout=60)
            return answer

        await _serve(port, forward)


if __name__ == "__main__":
    end, *ports = sys.argv[1:]
    asyncio.run(sink(int(ports[0])) if end == "sink" else proxy(int(ports[0]), int(ports[1])))
