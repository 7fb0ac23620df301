"""OTLP/HTTP: what goes in, and what senders are told."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from compressions import COMPRESS, bomb
from otlp_receivers import JSON, PROTOBUF, REQUESTS, FakePipeline, opened, traces
from spanledger_exporters.interface import Result, Signal, Verdict
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.receivers import http as http_receiver
from tools.programs import http_client

MIB = 1 << 20
SIGNALS: tuple[Signal, ...] = ("traces", "logs", "metrics")
MESSAGES: dict[Signal, Callable[[], Message]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
TRACES_JSON = """{"resourceSpans":[{"scopeSpans":[{"spans":[{
    "traceId":"74747474747474747474747474747474","spanId":"7373737373737373","name":"chat"}]}]}]}"""


@pytest.mark.parametrize("signal", SIGNALS)
async def test_full_success_is_an_empty_response(signal: Signal) -> None:
    async with opened() as receivers:
        answer = await receivers.post(f"/v1/{signal}", REQUESTS[signal])
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, PROTOBUF, b"")
        (handled,) = receivers.pipeline.handled
        assert (handled.signal, handled.body) == (signal, REQUESTS[signal])
        assert receivers.seen.answers == [(signal, "http", "ok", "")]
        assert receivers.seen.sizes == [len(REQUESTS[signal])]
        assert receivers.seen.held == 0


@pytest.mark.parametrize("signal", SIGNALS)
async def test_json_is_answered_with_an_empty_object(signal: Signal) -> None:
    bodies = {
        "traces": TRACES_JSON,
        "logs": '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"hi"}}]}]}]}',
        "metrics": '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"tokens"}]}]}]}',
    }
    async with opened() as receivers:
        answer = await receivers.post(f"/v1/{signal}", bodies[signal], "application/json; charset=utf-8")
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, JSON, b"{}")
        (handled,) = receivers.pipeline.handled
        assert handled.signal == signal
        assert MESSAGES[signal]().FromString(handled.body).ByteSize() > 0
        assert receivers.seen.held == 0


@pytest.mark.parametrize(("media", "body"), [(PROTOBUF, b""), (JSON, b"{}"), (JSON, b"")])
async def test_an_empty_request_succeeds(media: str, body: bytes) -> None:
    async with opened() as receivers:
        answer = await receivers.post("/v1/traces", body, media)
        assert answer.status_code == 200
        assert [handled.body for handled in receivers.pipeline.handled] == [b""]


@pytest.mark.parametrize("encoding", ["", "identity", "GZIP", *COMPRESS])
async def test_encodings_taken(encoding: str) -> None:
    body = traces(payload=3 * MIB)
    async with opened() as receivers:
        sent = COMPRESS.get(encoding.lower(), bytes)(body)
        answer = await receivers.post("/v1/traces", sent, headers={"content-encoding": encoding})
        assert answer.status_code == 200
        assert receivers.pipeline.handled[0].body == body


async def test_gzip_in_two_members_is_one_body() -> None:
    body = traces(payload=1000)
    async with opened() as receivers:
        sent = gzip.compress(body[:500]) + gzip.compress(body[500:])
        answer = await receivers.post("/v1/traces", sent, headers={"content-encoding": "gzip"})
        assert answer.status_code == 200
        assert receivers.pipeline.handled[0].body == body


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip, gzip"])
async def test_other_encodings_are_415_and_say_what_is_taken(encoding: str) -> None:
    async with opened() as receivers:
        answer = await receivers.post("/v1/traces", zlib.compress(traces()), headers={"content-encoding": encoding})
        assert answer.status_code == 415
        taken = "gzip, zstd, zlib, deflate, snappy, x-snappy-framed, lz4, identity"
        assert answer.headers["accept-encoding"] == taken
        assert RpcStatus.FromString(answer.content).message == f"content-encoding must be one of {taken}"
        assert receivers.seen.answers == [("traces", "http", "rejected", "encoding")]


@pytest.mark.parametrize("media", [None, "text/plain", "application/grpc"])
async def test_other_media_types_are_415_and_say_what_is_taken(media: str | None) -> None:
    async with opened() as receivers:
        answer = await receivers.post("/v1/traces", traces(), media)
        assert answer.status_code == 415
        assert answer.json()["message"] == "content-type must be one of application/x-protobuf, application/json"


@pytest.mark.parametrize("broken", [b"no gzip", gzip.compress(traces(payload=1000), mtime=0)[:-9], b"\x1f"])
async def test_broken_gzip_is_400(broken: bytes) -> None:
    async with opened() as receivers:
        answer = await receivers.post("/v1/traces", broken, headers={"content-encoding": "gzip"})
        assert answer.status_code == 400
        assert "gzip" in RpcStatus.FromString(answer.content).message
        assert receivers.pipeline.handled == []
        assert receivers.seen.held == 0


async def test_retry_is_503_with_retry_after() -> None:
    pipeline = FakePipeline(Result(Verdict.RETRYABLE, "otlp_grpc/tempo: down", retry_after=2.5))
    async with opened(pipeline=pipeline) as receivers:
        answer = await receivers.post("/v1/traces", traces())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
        status, info = RpcStatus.FromString(answer.content), RetryInfo()
        assert (status.code, status.message) == (14, "otlp_grpc/tempo: down")
        assert status.details[0].Unpack(info)
        assert info.retry_delay.ToTimedelta().total_seconds() == 2.5


async def test_an_error_to_json_is_json() -> None:
    async with opened(pipeline=FakePipeline(Result(Verdict.RETRYABLE, "down"))) as receivers:
        answer = await receivers.post("/v1/traces", TRACES_JSON, JSON)
        assert (answer.status_code, answer.headers["content-type"]) == (503, JSON)
        assert json_format.Parse(answer.content, RpcStatus()).message == "down"


async def test_rejected_is_400() -> None:
    async with opened(pipeline=FakePipeline(Result(Verdict.PERMANENT, "otlp_grpc/tempo: no"))) as receivers:
        answer = await receivers.post("/v1/traces", traces())
        status = RpcStatus.FromString(answer.content)
        assert (answer.status_code, status.code, status.message) == (400, 3, "otlp_grpc/tempo: no")


async def test_malformed_protobuf_is_400_with_the_place() -> None:
    async with opened(pipeline=FakePipeline(error=MalformedError("resource_spans[0]: cut short"))) as receivers:
        answer = await receivers.post("/v1/traces", traces()[:-3])
        assert answer.status_code == 400
        assert RpcStatus.FromString(answer.content).message == "resource_spans[0]: cut short"


@pytest.mark.parametrize("text", ["{", "[]", '{"resourceSpans": 3}', b'{"resourceSpans": "\xff"}'])
async def test_malformed_json_is_400(text: str | bytes) -> None:
    async with opened() as receivers:
        answer = await receivers.post("/v1/traces", text, JSON)
        assert answer.status_code == 400
        assert answer.json()["code"] == 3
        assert receivers.pipeline.handled == []
        assert receivers.seen.answers == [("traces", "http", "rejected", "malformed")]


async def test_malformed_json_names_the_place() -> None:
    text = TRACES_JSON.replace("7373737373737373", "not hex")
    async with opened() as receivers:
        answer = await receivers.post("/v1/traces", text, JSON)
        assert answer.status_code == 400
        assert "resourceSpans[0].scopeSpans[0].spans[0].spanId" in answer.json()["message"]


async def test_a_bug_of_ours_is_503_and_tells_no_content() -> None:
    async with opened(pipeline=FakePipeline(error=ValueError("secret prompt"))) as receivers:
        answer = await receivers.post("/v1/traces", traces())
        assert answer.status_code == 503
        assert b"secret" not in answer.content
        assert receivers.seen.errors == ["pipeline"]
        assert receivers.seen.held == 0


@pytest.mark.parametrize(("method", "path", "code"), [("POST", "/v1/spans", 404), ("GET", "/v1/traces", 405)])
async def test_other_paths_and_methods(method: str, path: str, code: int) -> None:
    async with opened() as receivers, http_client(base_url=receivers.http_url) as client:
        answer = await client.request(method, path)
        assert answer.status_code == code
        assert "POST on /v1/traces" in answer.json()["message"]
        assert receivers.seen.answers == []


async def test_headers_go_on_without_credentials() -> None:
    headers = {"X-Scope-OrgID": "team-a", "authorization": "Bearer hidden", "cookie": "hidden"}
    async with opened() as receivers:
        await receivers.post("/v1/traces", traces(), headers=headers)
        (handled,) = receivers.pipeline.handled
        assert handled.headers["x-scope-orgid"] == "team-a"
        assert not {"authorization", "cookie"} & set(handled.headers)


@pytest.mark.parametrize("shown", ["", "Bearer wrong", "Basic right"])
async def test_a_wrong_token_is_401(shown: str) -> None:
    async with opened({"protocols": {"http": {"auth": {"bearer_token": "right"}}}}) as receivers:
        answer = await receivers.post("/v1/traces", traces(), headers={"authorization": shown})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert RpcStatus.FromString(answer.content).code == 16
        assert receivers.pipeline.handled == []


async def test_the_right_token_is_let_in() -> None:
    async with opened({"protocols": {"http": {"auth": {"bearer_token": "right"}}}}) as receivers:
        answer = await receivers.post("/v1/traces", traces(), headers={"authorization": "Bearer right"})
        assert answer.status_code == 200


async def test_one_byte_over_the_limit_is_413() -> None:
    async with opened() as receivers:
        assert (await receivers.post("/v1/traces", bytes(64 * MIB))).status_code == 200
        answer = await receivers.post("/v1/traces", bytes(64 * MIB + 1))
        assert answer.status_code == 413
        assert len(receivers.pipeline.handled) == 1
        assert receivers.seen.answers[1] == ("traces", "http", "rejected", "too_large")


async def test_one_byte_over_the_limit_is_413_without_a_length() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield bytes(MIB // 4)
        yield b"x"

    settings = {"protocols": {"http": {"max_request_body_size": MIB}}}
    async with opened(settings) as receivers:
        assert (await receivers.post("/v1/traces", pieces())).status_code == 413
        assert receivers.seen.most_held <= MIB
        assert receivers.seen.held == 0


async def test_one_byte_over_the_limit_is_413_in_gzip() -> None:
    async with opened({"protocols": {"http": {"max_request_body_size": MIB}}}) as receivers:
        headers = {"content-encoding": "gzip"}
        assert (await receivers.post("/v1/traces", gzip.compress(bytes(MIB)), headers=headers)).status_code == 200
        assert (await receivers.post("/v1/traces", gzip.compress(bytes(MIB + 1)), headers=headers)).status_code == 413


@pytest.mark.parametrize("encoding", COMPRESS)
async def test_a_bomb_is_413_before_it_unfolds(encoding: str) -> None:
    """512 MiB in little: no more than the limit is ever held of it."""
    async with opened() as receivers:
        answer = await receivers.post("/v1/traces", bomb(encoding, 512), headers={"content-encoding": encoding})
        assert answer.status_code == 413
        assert receivers.seen.most_held <= 64 * MIB
        assert receivers.seen.held == 0


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """503, since 408 is not retryable in OTLP."""
    monkeypatch.setattr(http_receiver, "READ_WAIT", 0.1)
    async with opened() as receivers:
        reader, writer = await asyncio.open_connection("127.0.0.1", receivers.otlp.ports["http"])
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 9\r\n\r\na"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in head.lower()
        writer.close()
        assert receivers.seen.answers == [("traces", "http", "retry", "slow_body")]
        assert receivers.seen.held == 0


async def test_a_sender_that_leaves_mid_body_is_counted_and_leaves_nothing() -> None:
    async with opened() as receivers:
        _, writer = await asyncio.open_connection("127.0.0.1", receivers.otlp.ports["http"])
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 9\r\n\r\na"
        )
        await writer.drain()
        await receivers.seen.holds.wait()
        writer.close()
        await receivers.seen.reported.wait()
        assert receivers.seen.answers == [("traces", "http", "gone", "aborted")]
        assert receivers.seen.held == 0
        assert receivers.pipeline.handled == []


async def test_a_sender_that_leaves_cancels_nothing() -> None:
    async with opened() as receivers:
        receivers.pipeline.gate.clear()
        sending = asyncio.create_task(receivers.post("/v1/traces", traces()))
        await receivers.pipeline.begun.get()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert receivers.seen.held == 2 * len(traces())
        receivers.pipeline.gate.set()
        assert await receivers.pipeline.ended.get() == "done"
        await asyncio.sleep(0)
        assert receivers.seen.held == 0


async def test_what_is_sent_to_the_logs_path_and_is_traces_is_treated_as_traces() -> None:
    """One client does so; as logs its spans would be passed on as unreadable records."""
    async with opened() as receivers:
        answer = await receivers.post("/v1/logs", REQUESTS["traces"])
        assert answer.status_code == 200
        assert [(handled.signal, handled.body) for handled in receivers.pipeline.handled] == [
            ("traces", REQUESTS["traces"])
        ]


async def test_logs_with_a_key_as_long_as_a_trace_id_stay_logs() -> None:
    """The same two bytes begin a trace id in a span and a key of 16 characters in an attribute."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.attributes.add().key = "k" * 16
    async with opened() as receivers:
        await receivers.post("/v1/logs", request.SerializeToString())
        assert [handled.signal for handled in receivers.pipeline.handled] == ["logs"]


async def test_json_traces_on_the_logs_path_are_treated_as_traces() -> None:
    async with opened() as receivers:
        answer = await receivers.post("/v1/logs", TRACES_JSON, JSON)
        assert answer.status_code == 200
        (handled,) = receivers.pipeline.handled
        assert handled.signal == "traces"
        assert b"chat" in handled.body


async def test_logs_that_speak_of_spans_stay_logs() -> None:
    text = json.dumps(
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": '{"resourceSpans": []}'}}]}]}]}
    )
    async with opened() as receivers:
        await receivers.post("/v1/logs", text, JSON)
        assert [handled.signal for handled in receivers.pipeline.handled] == ["logs"]


async def test_long_json_is_read_beside_other_requests() -> None:
    text = TRACES_JSON.replace("chat", "c" * 2 * MIB)
    async with opened() as receivers:
        assert (await receivers.post("/v1/traces", text, JSON)).status_code == 200
        assert len(receivers.pipeline.handled[0].body) > 2 * MIB


async def test_a_hop_is_trusted_by_the_protocol_it_comes_by() -> None:
    async with opened({"protocols": {"grpc": {"trusted_hop": True}, "http": {}}}) as receivers:
        await receivers.export("traces", REQUESTS["traces"])
        await receivers.post("/v1/traces", REQUESTS["traces"])
    assert [handled.trusted for handled in receivers.pipeline.handled] == [True, False]
