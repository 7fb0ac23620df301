"""OTLP over gRPC against real servers: what each answer means, and what is sent."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from destinations import GrpcAnswer, GrpcBackend, nobody
from relay import Relay, listening, silence
from requests_out import data_points, exporting, log_records, soon, spans
from spanledger_exporters import ACCEPTED, Exporter, Result, Signal, Verdict

NO_RETRY = {"enabled": False}

StatusCode = grpc.StatusCode


def started(port: int, **given: Any) -> AbstractAsyncContextManager[Exporter]:
    """Run the exporter to a plaintext server at `port`, with one attempt for a send."""
    whole = {"endpoint": f"127.0.0.1:{port}", "tls": {"insecure": True}, "retry_on_failure": NO_RETRY} | given
    return exporting("otlp_grpc/backend", **whole)


LARGE = spans(*["large"] * 5000)
"""A request whose compression takes so long that the threaded client sends it."""


async def answer_to(answer: GrpcAnswer, signal: Signal = "traces", body: bytes = spans("a")) -> Result:
    async with GrpcBackend(answers=[answer]).serving() as backend, started(backend.port) as exporter:
        return await exporter.send(signal, body, soon())


@pytest.mark.parametrize(
    ("signal", "service", "body"),
    [
        ("traces", "trace.v1.TraceService", spans("a")),
        ("logs", "logs.v1.LogsService", log_records("b")),
        ("metrics", "metrics.v1.MetricsService", data_points(3)),
        ("traces", "trace.v1.TraceService", b"\xff not protobuf: the bytes are not looked at"),
    ],
)
@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_the_bytes_arrive_as_they_are(signal: Signal, service: str, body: bytes, compression: str) -> None:
    async with (
        GrpcBackend().serving() as backend,
        started(backend.port, compression=compression, headers={"X-Scope-OrgID": "team a"}) as exporter,
    ):
        assert await exporter.send(signal, body, soon()) == ACCEPTED
    (request,) = backend.received
    assert request.method == f"/opentelemetry.proto.collector.{service}/Export"
    assert request.body == body
    assert request.metadata["x-scope-orgid"] == "team a"
    assert str(request.metadata["user-agent"]).startswith("Spanledger/")


async def test_a_user_agent_of_ones_own_replaces_ours() -> None:
    async with (
        GrpcBackend().serving() as backend,
        started(backend.port, headers={"User-Agent": "acme/1"}) as exporter,
    ):
        await exporter.send("traces", spans("a"), soon())
    assert str(backend.received[0].metadata["user-agent"]).startswith("acme/1 ")


async def test_gzip_makes_the_request_small_on_the_wire() -> None:
    body = spans(*["the same name"] * 5000)
    sent = {}
    for compression in ("gzip", "none"):
        async with (
            GrpcBackend().serving() as backend,
            listening((relay := Relay(backend.port)).talk) as port,
            started(port, compression=compression) as exporter,
        ):
            assert await exporter.send("traces", body, soon()) == ACCEPTED
        sent[compression] = relay.sent
    assert sent["none"] > len(body)
    assert sent["gzip"] < len(body) / 4


RETRYABLE = [
    StatusCode.CANCELLED,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.ABORTED,
    StatusCode.OUT_OF_RANGE,
    StatusCode.UNAVAILABLE,
    StatusCode.DATA_LOSS,
    StatusCode.UNKNOWN,
    StatusCode.INTERNAL,
]
PERMANENT = [
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.ALREADY_EXISTS,
    StatusCode.PERMISSION_DENIED,
    StatusCode.UNAUTHENTICATED,
    StatusCode.FAILED_PRECONDITION,
    StatusCode.UNIMPLEMENTED,
    StatusCode.RESOURCE_EXHAUSTED,
]


def test_every_status_is_in_one_of_the_tables() -> None:
    assert {*RETRYABLE, *PERMANENT, StatusCode.OK} == set(StatusCode)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(code, Verdict.RETRYABLE) for code in RETRYABLE] + [(code, Verdict.PERMANENT) for code in PERMANENT],
)
async def test_what_a_status_means(code: grpc.StatusCode, verdict: Verdict) -> None:
    """OTLP's table, and UNKNOWN and INTERNAL, which are trouble of the destination, not of the data."""
    result = await answer_to(GrpcAnswer(code, "said why"))
    assert (result.verdict, result.reason.partition(" (")[0]) == (verdict, f"{code.name}: said why")


async def test_resource_exhausted_with_retry_info_is_retryable() -> None:
    result = await answer_to(GrpcAnswer(StatusCode.RESOURCE_EXHAUSTED, "full", retry_delay=2.5))
    assert result == Result(Verdict.RETRYABLE, "RESOURCE_EXHAUSTED: full", 2.5)


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.INVALID_ARGUMENT])
async def test_large_requests_have_the_same_results(code: grpc.StatusCode) -> None:
    answer = GrpcAnswer(code, "said why", retry_delay=2.5)
    assert await answer_to(answer, body=LARGE) == await answer_to(answer)


@pytest.mark.parametrize(("asked", "reported"), [(0.0, 0.0), (0.25, 0.25), (17.0, 17.0), (10.0**6, 3600.0)])
async def test_retry_info_says_how_long_to_wait(asked: float, reported: float) -> None:
    """At most an hour, whatever is asked."""
    assert (await answer_to(GrpcAnswer(StatusCode.UNAVAILABLE, retry_delay=asked))).retry_after == reported


async def test_retry_info_with_a_permanent_status_changes_nothing() -> None:
    result = await answer_to(GrpcAnswer(StatusCode.INVALID_ARGUMENT, "bad", retry_delay=1))
    assert result == Result(Verdict.PERMANENT, "INVALID_ARGUMENT: bad")


async def test_a_reason_is_one_bounded_line() -> None:
    result = await answer_to(GrpcAnswer(StatusCode.UNAVAILABLE, "two\nlines\x1b[31m" + "x" * 1000))
    assert result.reason.startswith("UNAVAILABLE: two lines [31mxxx")
    assert result.reason.isprintable()
    assert len(result.reason) < 330


@pytest.mark.parametrize(
    ("signal", "message", "rejected"),
    [
        ("traces", ExportTraceServiceResponse, "rejected_spans"),
        ("logs", ExportLogsServiceResponse, "rejected_log_records"),
        ("metrics", ExportMetricsServiceResponse, "rejected_data_points"),
    ],
)
async def test_a_partial_success_is_accepted_with_what_was_rejected(
    signal: Signal, message: Any, rejected: str
) -> None:
    response = message(partial_success={rejected: 3, "error_message": "too old"})
    result = await answer_to(GrpcAnswer(message=response.SerializeToString()), signal)
    assert result == Result(Verdict.ACCEPTED, "too old", rejected=3)


@pytest.mark.parametrize(
    ("message", "result"),
    [
        pytest.param(b"\xff\xff", ACCEPTED, id="no message at all"),
        pytest.param(
            ExportTraceServiceResponse(
                partial_success=ExportTracePartialSuccess(error_message="use v2")
            ).SerializeToString(),
            Result(Verdict.ACCEPTED, "use v2"),
            id="a warning",
        ),
        pytest.param(
            ExportTraceServiceResponse(
                partial_success=ExportTracePartialSuccess(rejected_spans=-5)
            ).SerializeToString(),
            ACCEPTED,
            id="a number below zero",
        ),
    ],
)
async def test_odd_messages_in_a_success(message: bytes, result: Result) -> None:
    assert await answer_to(GrpcAnswer(message=message)) == result


async def test_an_answer_over_4_mib_is_not_retried() -> None:
    """The specification bounds answers, and what exceeds the bound must not be retried: the data is there already."""
    result = await answer_to(GrpcAnswer(message=bytes(5 * 2**20)))
    assert result.verdict is Verdict.PERMANENT
    assert result.reason.startswith("RESOURCE_EXHAUSTED: ")


async def test_a_request_of_many_mib_is_sent() -> None:
    body = spans("x" * (20 * 2**20))
    async with GrpcBackend().serving() as backend, started(backend.port) as exporter:
        assert await exporter.send("traces", body, soon()) == ACCEPTED
    assert backend.received[0].body == body


async def test_a_giant_request_that_is_compressed_holds_up_nobody_on_its_connection() -> None:
    async with GrpcBackend().serving() as backend, started(backend.port) as exporter:
        for body in (LARGE, spans("x" * (5 * 2**20)), LARGE):
            assert await exporter.send("traces", body, soon()) == ACCEPTED
    first, giant, last = (request.peer for request in backend.received)
    assert first == last != giant


async def test_requests_are_spread_over_all_addresses_of_the_endpoint() -> None:
    """As the Collector does by default."""
    first, second = GrpcBackend(), GrpcBackend()
    async with first.serving(), second.serving():
        endpoint = f"ipv4:127.0.0.1:{first.port},127.0.0.1:{second.port}"
        async with started(0, endpoint=endpoint) as exporter:
            deadline = soon()
            while not (first.received and second.received):
                assert await exporter.send("traces", spans("a"), deadline) == ACCEPTED


async def test_nobody_listens() -> None:
    with nobody() as port:
        async with started(port) as exporter:
            result = await exporter.send("traces", spans("a"), soon())
    assert result.verdict is Verdict.RETRYABLE
    assert result.reason.startswith("UNAVAILABLE: ")


@pytest.mark.parametrize(("longest", "left"), [("100ms", 30.0), ("30s", 0.1)])
async def test_a_slow_destination_is_left_at_the_timeout_or_the_deadline(longest: str, left: float) -> None:
    backend = GrpcBackend(answers=[GrpcAnswer(hold=asyncio.Event())])
    async with backend.serving(), started(backend.port, timeout=longest) as exporter:
        result = await exporter.send("traces", spans("a"), soon(left))
    assert result.verdict is Verdict.RETRYABLE
    assert result.reason.startswith("DEADLINE_EXCEEDED")


async def test_a_peer_that_says_nothing() -> None:
    """Connected, and half-open from then on."""
    async with listening(silence) as port, started(port, timeout="200ms") as exporter:
        result = await exporter.send("traces", spans("a"), soon())
    assert result.verdict is Verdict.RETRYABLE


async def test_nothing_is_sent_when_no_time_is_left() -> None:
    async with GrpcBackend().serving() as backend, started(backend.port) as exporter:
        result = await exporter.send("traces", spans("a"), soon(-1))
    assert result == Result(Verdict.RETRYABLE, "no time left to send")
    assert not backend.received


async def test_a_destination_that_comes_back_is_used_again() -> None:
    """Refused, then served at the same port, then gone and served again: no send may fail for long."""
    backend = GrpcBackend()
    async with backend.serving():
        pass
    async with started(backend.port) as exporter:
        assert (await exporter.send("traces", spans("a"), soon())).verdict is Verdict.RETRYABLE
        for name in ("b", "c"):
            async with backend.serving():
                await accepted_within_patience(exporter, spans(name))
    assert [request.body for request in backend.received] == [spans("b"), spans("c")]


async def accepted_within_patience(exporter: Exporter, body: bytes) -> None:
    deadline = soon()
    while (await exporter.send("traces", body, deadline)).verdict is not Verdict.ACCEPTED:
        assert asyncio.get_running_loop().time() < deadline


async def test_keepalive_gives_up_a_dead_connection_long_before_the_timeout() -> None:
    """The peer speaks HTTP/2 until it falls silent: only pings can tell."""
    backend = GrpcBackend()
    keepalive = {"time": "10ms", "timeout": "200ms"}
    async with (
        backend.serving(),
        listening((relay := Relay(backend.port)).talk) as port,
        started(port, timeout="10m", keepalive=keepalive) as exporter,
    ):
        assert await exporter.send("traces", spans("a"), soon(600)) == ACCEPTED
        relay.freeze()
        result = await exporter.send("traces", spans("b"), soon(600))
        assert result.verdict is Verdict.RETRYABLE
        assert result.reason.startswith("UNAVAILABLE")
