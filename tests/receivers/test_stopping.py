"""A graceful stop: nothing new comes in, what is under way ends, nobody is left without an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from doors import SERVICES, exporter, opened, traces


async def test_requests_under_way_end_and_later_ones_are_told_to_come_back() -> None:
    async with opened() as doors, grpc.aio.insecure_channel(doors.grpc_address) as channel:
        doors.pipeline.gate.clear()
        by_grpc = exporter(channel)(traces())
        by_http = asyncio.create_task(doors.post("/v1/traces", traces()))
        await doors.pipeline.begun.get()
        await doors.pipeline.begun.get()

        stopping = asyncio.create_task(doors.otlp.stop(30))
        await asyncio.sleep(0)
        while any(doors.otlp.listening.values()):  # noqa: ASYNC110 - a property, not an event
            await asyncio.sleep(0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exporter(channel)(traces())
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "shutting down")
        late = await doors.post("/v1/traces", traces())
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
        assert not stopping.done()

        doors.pipeline.gate.set()
        assert await by_grpc == b""
        assert (await by_http).status_code == 200
        await stopping
        assert len(doors.pipeline.handled) == 2


async def test_health_says_not_serving_while_stopping() -> None:
    async with opened() as doors, grpc.aio.insecure_channel(doors.grpc_address) as channel:
        doors.pipeline.gate.clear()
        under_way = exporter(channel)(traces())
        await doors.pipeline.begun.get()
        watch: Any = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )(HealthCheckRequest(service=SERVICES[0]))
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        stopping = asyncio.create_task(doors.otlp.stop(30))
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        doors.pipeline.gate.set()
        await under_way
        await stopping


async def test_what_does_not_end_within_the_grace_is_given_up_and_its_sender_keeps_the_data() -> None:
    async with opened() as doors, grpc.aio.insecure_channel(doors.grpc_address) as channel:
        doors.pipeline.gate.clear()
        by_grpc = exporter(channel)(traces())
        by_http = asyncio.create_task(doors.post("/v1/traces", traces()))
        await doors.pipeline.begun.get()
        await doors.pipeline.begun.get()
        await doors.otlp.stop(0.05)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await by_grpc
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await by_http).status_code == 503
        assert [doors.pipeline.ended.get_nowait() for _ in range(2)] == ["cancelled", "cancelled"]
        assert doors.seen.held == 0


async def test_after_the_stop_nobody_answers() -> None:
    async with opened() as doors:
        await doors.otlp.stop(0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await doors.export("traces", traces(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", doors.otlp.ports["http"])
        assert doors.otlp.listening == {"grpc": False, "http": False}


async def test_a_taken_http_port_leaves_nothing_listening() -> None:
    async with opened() as doors:
        taken = {"protocols": {"grpc": {}, "http": {"endpoint": f"127.0.0.1:{doors.otlp.ports['http']}"}}}
        with pytest.raises(OSError, match=r"receivers\.otlp\.protocols\.http\.endpoint: cannot listen on 127"):
            async with opened(taken):
                pass
