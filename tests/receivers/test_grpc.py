"""OTLP/gRPC: what goes in, and what senders are told."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import grpc.aio
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from otlp_receivers import METHODS, PROTOBUF, REQUESTS, SERVICES, FakePipeline, exporter, opened, traces
from spanledger_exporters.interface import Result, Signal, Verdict
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.receivers import driver
from tools.programs import http_client

MIB = 1 << 20


def details(error: grpc.aio.AioRpcError) -> RpcStatus:
    """grpc-status-details-bin."""
    trailers: Any = error.trailing_metadata()
    return RpcStatus.FromString(dict(trailers)["grpc-status-details-bin"])


def retry_delay(error: grpc.aio.AioRpcError) -> float:
    """Seconds of the RetryInfo that the error must hold."""
    info = RetryInfo()
    assert details(error).details[0].Unpack(info)
    return float(info.retry_delay.ToTimedelta().total_seconds())


@pytest.mark.parametrize("signal", METHODS)
async def test_full_success_is_an_empty_response(signal: Signal) -> None:
    async with opened() as receivers:
        assert await receivers.export(signal, REQUESTS[signal]) == b""
        (handled,) = receivers.pipeline.handled
        assert (handled.signal, handled.body) == (signal, REQUESTS[signal])
        assert receivers.seen.answers == [(signal, "grpc", "ok", "")]
        assert receivers.seen.sizes == [len(REQUESTS[signal])]
        assert receivers.seen.held == 0


async def test_an_empty_request_succeeds() -> None:
    async with opened() as receivers:
        assert await receivers.export("traces", b"") == b""


async def test_gzip_is_taken() -> None:
    async with opened() as receivers:
        await receivers.export("traces", traces(payload=100_000), compression=grpc.Compression.Gzip)
        assert receivers.pipeline.handled[0].body == traces(payload=100_000)


async def test_retry_is_unavailable_with_retry_info() -> None:
    pipeline = FakePipeline(Result(Verdict.RETRYABLE, "otlp_grpc/tempo: down", retry_after=2.5))
    async with opened(pipeline=pipeline) as receivers:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await receivers.export("traces", traces())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "otlp_grpc/tempo: down"
        assert retry_delay(caught.value) == 2.5
        assert receivers.seen.answers == [("traces", "grpc", "retry", "pipeline")]


async def test_rejected_is_invalid_argument() -> None:
    async with opened(pipeline=FakePipeline(Result(Verdict.PERMANENT, "otlp_grpc/tempo: no"))) as receivers:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await receivers.export("traces", traces())
        assert (caught.value.code(), caught.value.details()) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "otlp_grpc/tempo: no",
        )


async def test_malformed_is_invalid_argument_with_the_place() -> None:
    async with opened(pipeline=FakePipeline(error=MalformedError("resource_spans[0]: cut short"))) as receivers:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await receivers.export("traces", traces()[:-3])
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "resource_spans[0]: cut short"
        assert receivers.seen.answers == [("traces", "grpc", "rejected", "malformed")]


async def test_a_bug_of_ours_is_unavailable_and_tells_no_content() -> None:
    """UNKNOWN would make the sender drop the data; an exception's text may hold a prompt."""
    async with opened(pipeline=FakePipeline(error=ValueError("secret prompt"))) as receivers:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await receivers.export("traces", traces())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "secret" not in (caught.value.details() or "")
        assert retry_delay(caught.value) > 0
        assert receivers.seen.errors == ["pipeline"]
        assert receivers.seen.held == 0


@pytest.mark.parametrize("letter", ["e", "é", "€", "😀"])
async def test_a_reason_that_no_header_can_hold_is_made_to_fit(letter: str) -> None:
    """Of any script: from 8 KiB of trailers on, grpcio's client refuses some, at random, as RESOURCE_EXHAUSTED."""
    reason = "\udcff" + letter * 50_000
    async with opened(pipeline=FakePipeline(Result(Verdict.PERMANENT, reason))) as receivers:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await receivers.export("traces", traces())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (caught.value.details() or "").startswith(f"?{letter}")
        trailers: Any = caught.value.trailing_metadata()
        assert sum(len(key) + len(value) for key, value in trailers) < 2_048
        assert 3 * len((caught.value.details() or "").encode()) < 4_096


async def test_one_byte_over_the_limit_is_refused_for_good() -> None:
    """grpcio answers before our code runs (docs/contract.md#wire-rules): permanent, without RetryInfo."""
    async with opened() as receivers:
        assert await receivers.export("traces", bytes(64 * MIB)) == b""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await receivers.export("traces", bytes(64 * MIB + 1))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(receivers.pipeline.handled) == 1
        assert receivers.seen.held == 0


@pytest.mark.parametrize(("zstd", "code"), [(True, "INVALID_ARGUMENT"), (False, "RESOURCE_EXHAUSTED")])
async def test_a_gzip_bomb_is_refused_for_good(*, zstd: bool, code: str) -> None:
    """By us, or by grpcio where it decompresses; neither with RetryInfo."""
    async with opened({"protocols": {"grpc": {"zstd": zstd}, "http": {}}}) as receivers:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await receivers.export("traces", bytes(100 * MIB), compression=grpc.Compression.Gzip)
        assert caught.value.code().name == code
        assert receivers.pipeline.handled == []
        assert receivers.seen.held == 0


async def test_a_call_without_a_message_is_refused() -> None:
    async with opened() as receivers, grpc.aio.insecure_channel(receivers.grpc_address) as channel:
        export = channel.stream_unary(METHODS["traces"], request_serializer=bytes, response_deserializer=bytes)
        call = export(iter(()))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_metadata_goes_on_without_credentials() -> None:
    metadata = (
        ("x-scope-orgid", "team-a"),
        ("authorization", "Bearer hidden"),
        ("cookie", "hidden"),
        ("x-api-key", "hidden"),
        ("trace-bin", base64.b64encode(b"\xff")),
    )
    async with opened() as receivers:
        await receivers.export("traces", traces(), metadata=metadata)
        (handled,) = receivers.pipeline.handled
        assert handled.headers["x-scope-orgid"] == "team-a"
        assert not {"authorization", "cookie", "x-api-key", "trace-bin"} & set(handled.headers)


@pytest.mark.parametrize("shown", ["", "Bearer wrong", "Basic right", "right", "Bearer", "Bearer rightt"])
async def test_a_wrong_token_is_unauthenticated(shown: str) -> None:
    settings = {"protocols": {"grpc": {"auth": {"bearer_token": "right"}}}}
    async with opened(settings) as receivers:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await receivers.export("traces", traces(), metadata=(("authorization", shown),))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert receivers.pipeline.handled == []
        assert receivers.seen.answers == [("traces", "grpc", "unauthenticated", "unauthenticated")]


@pytest.mark.parametrize("shown", ["Bearer right", "bearer right"])
async def test_the_right_token_is_let_in(shown: str) -> None:
    async with opened({"protocols": {"grpc": {"auth": {"bearer_token": "right"}}}}) as receivers:
        assert await receivers.export("traces", traces(), metadata=(("authorization", shown),)) == b""


async def test_the_pipeline_gets_what_the_sender_has_left_less_a_margin() -> None:
    async with opened() as receivers:
        began = asyncio.get_running_loop().time()
        await receivers.export("traces", traces(), timeout=5)
        took = asyncio.get_running_loop().time() - began
        assert 4 - took < receivers.pipeline.handled[0].left < 5 - 0.4


@pytest.mark.parametrize("seconds", [None, 3600])
async def test_without_a_near_deadline_the_pipeline_gets_the_receivers_own(seconds: float | None) -> None:
    async with opened() as receivers:
        began = asyncio.get_running_loop().time()
        await receivers.export("traces", traces(), timeout=seconds)
        took = asyncio.get_running_loop().time() - began
        assert 29 - took < receivers.pipeline.handled[0].left < 30


async def test_a_pipeline_slower_than_the_sender_is_answered_in_time_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """UNAVAILABLE, not DEADLINE_EXCEEDED; what was begun ends, and holds its bytes until then.

    Nearly all of the sender's time is kept for the answer here, so that no slow machine misses it.
    """
    monkeypatch.setattr(driver, "_MARGIN", 2.0)
    monkeypatch.setattr(driver, "_MOST_MARGIN", 2 * driver.LONGEST)
    async with opened() as receivers:
        receivers.pipeline.gate.clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await receivers.export("traces", traces(), timeout=driver.LONGEST)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert retry_delay(caught.value) > 0
        assert receivers.seen.answers == [("traces", "grpc", "retry", "deadline")]
        assert receivers.seen.held == 2 * len(traces())
        receivers.pipeline.gate.set()
        assert await receivers.pipeline.ended.get() == "done"
        await asyncio.sleep(0)
        assert receivers.seen.held == 0


async def test_a_sender_that_leaves_cancels_nothing() -> None:
    async with opened() as receivers, grpc.aio.insecure_channel(receivers.grpc_address) as channel:
        receivers.pipeline.gate.clear()
        call = exporter(channel)(traces())
        await receivers.pipeline.begun.get()
        call.cancel()
        await receivers.seen.reported.wait()
        assert receivers.seen.answers == [("traces", "grpc", "gone", "aborted")]
        assert receivers.seen.held == 2 * len(traces())
        receivers.pipeline.gate.set()
        assert await receivers.pipeline.ended.get() == "done"
        await asyncio.sleep(0)
        assert receivers.seen.held == 0


async def test_health_is_told_for_each_service() -> None:
    async with opened() as receivers, grpc.aio.insecure_channel(receivers.grpc_address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        for service in ("", *SERVICES):
            answer = await check(HealthCheckRequest(service=service))
            assert answer.status == HealthCheckResponse.SERVING, service


async def test_reflection_lists_the_services() -> None:
    async with opened() as receivers, grpc.aio.insecure_channel(receivers.grpc_address) as channel:
        stub: Any = ServerReflectionStub  # typed for channels that block
        call = stub(channel).ServerReflectionInfo()
        await call.write(ServerReflectionRequest(list_services=""))
        answer = await call.read()
        await call.done_writing()
        names = {service.name for service in answer.list_services_response.service}
        assert set(SERVICES) < names


async def test_an_unknown_method_is_unimplemented() -> None:
    async with opened() as receivers, grpc.aio.insecure_channel(receivers.grpc_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(f"/{SERVICES[0]}/Import", request_serializer=bytes, response_deserializer=bytes)(
                b""
            )
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("endpoint", ["localhost:0", "0.0.0.0:0"])
async def test_addresses_that_a_configuration_may_name(endpoint: str) -> None:
    both = {"grpc": {"endpoint": endpoint}, "http": {"endpoint": endpoint}}
    async with opened({"protocols": both}) as receivers:
        host = endpoint.rpartition(":")[0].replace("0.0.0.0", "127.0.0.1")
        async with grpc.aio.insecure_channel(f"{host}:{receivers.otlp.ports['grpc']}") as channel:
            assert await exporter(channel)(traces()) == b""
        async with http_client() as client:
            url = f"http://{host}:{receivers.otlp.ports['http']}/v1/traces"
            answer = await client.post(url, content=traces(), headers={"content-type": PROTOBUF})
            assert answer.status_code == 200


async def test_a_taken_port_is_said_with_its_setting() -> None:
    async with opened() as receivers:
        taken = {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{receivers.otlp.ports['grpc']}"}}}
        with pytest.raises(OSError, match=r"receivers\.otlp\.protocols\.grpc\.endpoint: cannot listen on 127"):
            async with opened(taken):
                pass
