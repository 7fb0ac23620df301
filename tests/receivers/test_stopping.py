"""A graceful stop: nothing new comes in, what is under way ends, nobody is left without an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from otlp_receivers import SERVICES, exporter, opened, traces


async def test_requests_under_way_end_and_later_ones_are_told_to_come_back() -> None:
    async with opened() as receivers, grpc.aio.insecure_channel(receivers.grpc_address) as channel:
        receivers.pipeline.gate.clear()
        by_grpc = exporter(channel)(traces())
        by_http = asyncio.create_task(receivers.post("/v1/traces", traces()))
        await receivers.pipeline.begun.get()
        await receivers.pipeline.begun.get()

        stopping = asyncio.create_task(receivers.otlp.stop(30))
        await asyncio.sleep(0)
        while any(receivers.otlp.listening.values()):  # noqa: ASYNC110 - a property, not an event
            await asyncio.sleep(0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exporter(channel)(traces())
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "shutting down")
        late = await receivers.post("/v1/traces", traces())
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
        assert not stopping.done()

        receivers.pipeline.gate.set()
        assert await by_grpc == b""
        assert (await by_http).status_code == 200
        await stopping
        assert len(receivers.pipeline.handled) == 2


async def test_health_says_not_serving_while_stopping() -> None:
    async with opened() as receivers, grpc.aio.insecure_channel(receivers.grpc_address) as channel:
        receivers.pipeline.gate.clear()
        under_way = exporter(channel)(traces())
        await receivers.pipeline.begun.get()
        watch: Any = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )(HealthCheckRequest(service=SERVICES[0]))
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        stopping = asyncio.create_task(receivers.otlp.stop(30))
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        receivers.pipeline.gate.set()
        await under_way
        await stopping


async def test_what_does_not_end_within_the_grace_is_given_up_and_its_sender_keeps_the_data() -> None:
    async with opened() as receivers, grpc.aio.insecure_channel(receivers.grpc_address) as channel:
        receivers.pipeline.gate.clear()
        by_grpc = exporter(channel)(traces())
        by_http = asyncio.create_task(receivers.post("/v1/traces", traces()))
        await receivers.pipeline.begun.get()
        await receivers.pipeline.begun.get()
        await receivers.otlp.stop(0.05)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await by_grpc
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await by_http).status_code == 503
        assert [receivers.pipeline.ended.get_nowait() for _ in range(2)] == ["cancelled", "cancelled"]
        assert receivers.seen.held == 0


async def test_after_the_stop_nobody_answers() -> None:
    async with opened() as receivers:
        await receivers.otlp.stop(0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await receivers.export("traces", traces(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", receivers.otlp.ports["http"])
        assert receivers.otlp.listening == {"grpc": False, "http": False}


async def test_a_taken_http_port_leaves_nothing_listening() -> None:
    async with opened() as receivers:
        taken = {"protocols": {"grpc": {}, "http": {"endpoint": f"127.0.0.1:{receivers.otlp.ports['http']}"}}}
        with pytest.raises(OSError, match=r"receivers\.otlp\.protocols\.http\.endpoint: cannot listen on 127"):
            async with opened(taken):
                pass
