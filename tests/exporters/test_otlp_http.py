"""OTLP over HTTP against real servers: what each answer means, and what is sent."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import cramjam
import lz4.frame
import pytest
from backports import zstd
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from destinations import HttpAnswer, HttpBackend, nobody
from relay import listening, silence
from requests_out import data_points, exporting, log_records, settings, soon, spans, until
from spanledger_exporters import ACCEPTED, Exporter, Result, Signal, Verdict, build
from spanledger_exporters.otlp_http import wait

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json; charset=utf-8"}


def started(port: int, **given: Any) -> AbstractAsyncContextManager[Exporter]:
    """Run the exporter to a plaintext server at `port`, with one attempt for a send."""
    whole = {"endpoint": f"http://127.0.0.1:{port}", "retry_on_failure": {"enabled": False}} | given
    return exporting("otlp_http/backend", **whole)


async def answer_to(answer: HttpAnswer, signal: Signal = "traces", **given: Any) -> Result:
    async with HttpBackend(answers=[answer]).serving() as backend, started(backend.port, **given) as exporter:
        return await exporter.send(signal, spans("a"), soon())


DECOMPRESS: Mapping[str, Callable[[bytes], Any]] = {
    "gzip": bytes,  # the server does it
    "zstd": zstd.decompress,
    "zlib": zlib.decompress,
    "deflate": zlib.decompress,
    "snappy": cramjam.snappy.decompress_raw,
    "x-snappy-framed": cramjam.snappy.decompress,
    "lz4": lz4.frame.decompress,
}


@pytest.mark.parametrize(
    ("signal", "body"),
    [("traces", spans("a")), ("logs", log_records("b")), ("metrics", data_points(3)), ("traces", spans("x" * 10**6))],
)
@pytest.mark.parametrize("compression", [*DECOMPRESS, "none"])
async def test_protobuf_arrives_as_it_is(signal: Signal, body: bytes, compression: str) -> None:
    """In every compression that the Collector's HTTP exporters have."""
    async with (
        HttpBackend().serving() as backend,
        started(backend.port, compression=compression, headers={"X-Scope-OrgID": "team a"}) as exporter,
    ):
        assert await exporter.send(signal, body, soon()) == ACCEPTED
    (request,) = backend.received
    decompress = DECOMPRESS.get(compression, bytes)
    assert (request.path, bytes(decompress(request.body))) == (f"/v1/{signal}", body)
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers.get("content-encoding") == (None if compression == "none" else compression)
    assert request.headers["x-scope-orgid"] == "team a"
    assert request.headers["user-agent"].startswith("Spanledger/")
    assert request.headers["accept-encoding"] == "identity"


async def test_a_user_agent_of_ones_own_replaces_ours() -> None:
    async with (
        HttpBackend().serving() as backend,
        started(backend.port, headers={"User-Agent": "acme/1"}) as exporter,
    ):
        await exporter.send("traces", spans("a"), soon())
    assert backend.received[0].headers["user-agent"] == "acme/1"


async def test_json_arrives_as_the_specification_writes_it() -> None:
    async with HttpBackend().serving() as backend, started(backend.port, encoding="json") as exporter:
        assert await exporter.send("traces", spans("a", gen_ai__usage__input_tokens=12), soon()) == ACCEPTED
    (request,) = backend.received
    assert request.headers["content-type"] == "application/json"
    (span,) = json.loads(request.body)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert span["traceId"] == "00000000000000000000000000000001"
    assert span["startTimeUnixNano"] == "1000000000000000000"
    assert span["attributes"] == [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}}]


async def test_what_cannot_be_written_as_json_is_refused_for_good() -> None:
    async with HttpBackend().serving() as backend, started(backend.port, encoding="json") as exporter:
        result = await exporter.send("traces", b"\xff", soon())
    assert result.verdict is Verdict.PERMANENT
    assert result.reason.startswith("cannot be written as JSON: ")
    assert not backend.received


async def test_each_signal_can_have_a_url_of_its_own() -> None:
    """Used as it is, with its query; the others go below the endpoint."""
    async with HttpBackend().serving() as backend:
        own = f"http://127.0.0.1:{backend.port}/custom/path?team=a"
        async with started(backend.port, logs_endpoint=own) as exporter:
            assert await exporter.send("traces", spans("a"), soon()) == ACCEPTED
            assert await exporter.send("logs", log_records("b"), soon()) == ACCEPTED
    assert [request.path for request in backend.received] == ["/v1/traces", "/custom/path"]


def test_a_signal_without_a_url_is_not_taken() -> None:
    exporter = build("otlp_http", settings("otlp_http", traces_endpoint="http://localhost:1/v1/traces"))
    assert exporter.signals == {"traces"}


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_every_2xx_is_accepted(status: int) -> None:
    assert await answer_to(HttpAnswer(status)) == ACCEPTED


@pytest.mark.parametrize("status", [429, 502, 503, 504, 500, 501, 507])
async def test_retryable_statuses(status: int) -> None:
    """OTLP names 429, 502, 503 and 504; of the others 5xx is trouble of the destination, not of the data."""
    assert await answer_to(HttpAnswer(status)) == Result(Verdict.RETRYABLE, f"HTTP {status}")


@pytest.mark.parametrize("status", [304, 400, 401, 403, 404, 405, 408, 413, 415, 422])
async def test_permanent_statuses(status: int) -> None:
    result = await answer_to(HttpAnswer(status))
    assert (result.verdict, result.reason.partition(" (")[0]) == (Verdict.PERMANENT, f"HTTP {status}")


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        pytest.param(PROTOBUF, Status(code=3, message="bad span").SerializeToString(), "bad span", id="protobuf"),
        pytest.param(JSON, b'{"code":3,"message":"bad span","more":1}', "bad span", id="json"),
        pytest.param({"content-type": "text/plain; charset=utf-8"}, b"bad\nspan\n", "bad span", id="text"),
        pytest.param({"content-type": "text/html"}, b"<html>bad span</html>", "", id="html"),
        pytest.param(PROTOBUF, b"\xff\xff", "", id="no protobuf"),
        pytest.param(JSON, b'["bad span"]', "", id="not the object it should be"),
        pytest.param(JSON, b"\xff", "", id="not even text"),
        pytest.param(JSON, b"[" * 60000, "", id="nested without end"),
        pytest.param({}, b"", "", id="nothing"),
        pytest.param({"content-type": "text/plain", "content-encoding": "gzip"}, b"x", "", id="compressed unasked"),
        pytest.param({"content-type": "text/plain"}, b"x" * 10**6, "", id="too long to read"),
    ],
)
async def test_the_reason_in_a_failure_is_read_where_it_can_be(
    headers: dict[str, str], body: bytes, reason: str
) -> None:
    expected = f"HTTP 400: {reason}" if reason else "HTTP 400"
    assert await answer_to(HttpAnswer(400, headers, body)) == Result(Verdict.PERMANENT, expected)


async def test_retry_after_in_seconds() -> None:
    result = await answer_to(HttpAnswer(503, {"retry-after": "7"}))
    assert result == Result(Verdict.RETRYABLE, "HTTP 503", 7.0)


async def test_retry_after_with_a_permanent_status_changes_nothing() -> None:
    assert await answer_to(HttpAnswer(400, {"retry-after": "7"})) == Result(Verdict.PERMANENT, "HTTP 400")


NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("99999999999999999999", 3600.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        ("Sat, 31 Jan 2026 12:00:30 GMT", 30.0),
        ("Saturday, 31-Jan-26 12:00:30 GMT", 30.0),
        ("Sat Jan 31 12:00:30 2026", 30.0),
        ("Fri, 30 Jan 2026 12:00:00 GMT", 0.0),
        ("Fri, 30 Jan 2032 12:00:00 GMT", 3600.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
        ("soon", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """The three forms of a date that RFC 9110 names; at most an hour, whatever is asked."""
    assert wait(value, NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "encode"),
    [
        (PROTOBUF, lambda response: response.SerializeToString()),
        (JSON, lambda _: b'{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too old"}}'),
    ],
)
async def test_a_partial_success_is_accepted_with_what_was_rejected(headers: dict[str, str], encode: Any) -> None:
    response = ExportLogsServiceResponse(
        partial_success=ExportLogsPartialSuccess(rejected_log_records=3, error_message="too old")
    )
    result = await answer_to(HttpAnswer(200, headers, encode(response)), "logs")
    assert result == Result(Verdict.ACCEPTED, "too old", rejected=3)


async def test_a_success_too_long_to_read_is_a_success() -> None:
    """It must not be retried, says the specification: the data is there already."""
    response = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(error_message="x" * 10**6))
    assert await answer_to(HttpAnswer(200, PROTOBUF, response.SerializeToString())) == ACCEPTED


async def test_an_endless_answer_is_left() -> None:
    """The rest of it is not read, and the next request gets a fresh connection."""
    answers = [HttpAnswer(200, PROTOBUF, bytes(30 * 2**20)), HttpAnswer()]
    async with (
        HttpBackend(answers).serving() as backend,
        started(backend.port) as exporter,
    ):
        assert await exporter.send("traces", spans("a"), soon()) == ACCEPTED
        assert await exporter.send("traces", spans("b"), soon()) == ACCEPTED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """The headers of a request may hold secrets that are not meant for anybody else."""
    async with HttpBackend().serving() as other:
        target = f"http://127.0.0.1:{other.port}/elsewhere?token=secret"
        result = await answer_to(HttpAnswer(status, {"location": target}), headers={"authorization": "Bearer x"})
    assert result.verdict is Verdict.PERMANENT
    assert f"redirected to http://127.0.0.1:{other.port}/elsewhere;" in result.reason
    assert "secret" not in result.reason
    assert not other.received


async def test_cookies_are_not_kept() -> None:
    """As the Collector by default: a destination that sets one learns nothing from it."""
    async with (
        HttpBackend([HttpAnswer(headers={"set-cookie": "who=me; Path=/"})]).serving() as backend,
        started(backend.port) as exporter,
    ):
        for _ in range(2):
            assert await exporter.send("traces", spans("a"), soon()) == ACCEPTED
    assert ["cookie" in request.headers for request in backend.received] == [False, False]


async def test_many_requests_at_once_share_connections_and_wait_for_none() -> None:
    hold = asyncio.Event()
    async with (
        HttpBackend([HttpAnswer(hold=hold)]).serving() as backend,
        started(backend.port) as exporter,
    ):
        sends = [asyncio.create_task(exporter.send("traces", spans(str(n)), soon())) for n in range(150)]
        await until(lambda: len(backend.received) == 150)
        hold.set()
        assert {await send for send in sends} == {ACCEPTED}


async def test_nobody_listens() -> None:
    with nobody() as port:
        async with started(port, traces_endpoint=f"http://127.0.0.1:{port}/?key=secret") as exporter:
            result = await exporter.send("traces", spans("a"), soon())
    assert result.verdict is Verdict.RETRYABLE
    assert result.reason
    assert "secret" not in result.reason


@pytest.mark.parametrize(("longest", "left"), [("100ms", 30.0), ("30s", 0.1), ("30s", -1.0)])
async def test_a_slow_destination_is_left_at_the_timeout_or_the_deadline(longest: str, left: float) -> None:
    backend = HttpBackend(answers=[HttpAnswer(hold=asyncio.Event())])
    async with backend.serving(), started(backend.port, timeout=longest) as exporter:
        result = await exporter.send("traces", spans("a"), soon(left))
    assert result == Result(Verdict.RETRYABLE, "no answer in time")


async def test_a_peer_that_says_nothing() -> None:
    async with listening(silence) as port, started(port, timeout="200ms") as exporter:
        result = await exporter.send("traces", spans("a"), soon())
    assert result == Result(Verdict.RETRYABLE, "no answer in time")


@pytest.mark.parametrize(
    "answer", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"]
)
async def test_a_peer_that_hangs_up_or_speaks_something_else(answer: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with listening(speak) as port, started(port) as exporter:
        result = await exporter.send("traces", spans("a"), soon())
    assert result.verdict is Verdict.RETRYABLE
    assert result.reason


async def test_an_answer_before_the_whole_request_was_sent_counts() -> None:
    """As proxies refuse what is too large: were it taken for a broken connection, it would be sent again for ever."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.write_eof()
        while await reader.read(2**16):
            pass

    async with listening(refuse) as port, started(port, compression="none") as exporter:
        result = await exporter.send("traces", spans("x" * 16 * 2**20), soon())
    assert result == Result(Verdict.PERMANENT, "HTTP 413")


async def test_a_destination_that_comes_back_is_used_again() -> None:
    backend = HttpBackend()
    async with backend.serving():
        pass
    async with started(backend.port) as exporter:
        assert (await exporter.send("traces", spans("a"), soon())).verdict is Verdict.RETRYABLE
        async with backend.serving():
            assert await exporter.send("traces", spans("b"), soon()) == ACCEPTED
        assert (await exporter.send("traces", spans("c"), soon())).verdict is Verdict.RETRYABLE
        async with backend.serving():
            assert await exporter.send("traces", spans("d"), soon()) == ACCEPTED
    assert [request.body for request in backend.received] == [spans("b"), spans("d")]
